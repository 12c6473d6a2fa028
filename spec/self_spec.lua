local allua = require("allua")
local errors = require("spec.support.errors")
local size = require("spec.support.size")
require("spec.support.leftovers")()

local all, raised, text = allua.all, errors.raised, errors.text

describe("self", function()
  it("gives the value of another task", function()
    local results = all({
      a = function()
        return 20
      end,
      b = function(self)
        return self.a + 1
      end,
      c = function(self)
        return self["a"] + self.b + 1
      end,
    })
    assert.same({ a = 20, b = 21, c = 42 }, results)
  end)

  it("gives the value of a task named by an integer, however the number is written", function()
    local results = all({
      function(self)
        return self[3] .. self[3.0]
      end,
      [3] = function()
        return "x"
      end,
    })
    assert.equal("xx", results[1])
  end)

  it("tells the name 1 from the name '1'", function()
    local results = all({
      [1] = function()
        return "integer"
      end,
      ["1"] = function()
        return "string"
      end,
      x = function(self)
        return { self[1], self["1"] }
      end,
    })
    assert.same({ "integer", "string" }, results.x)
  end)

  it("waits until the task that it names has ended", function()
    local log = {}
    all({
      a = function(self)
        log[#log + 1] = "a reads"
        -- A local first: Lua works out the place in the table before the wait.
        local value = self.b
        log[#log + 1] = value
      end,
      b = function()
        log[#log + 1] = "b runs"
        allua.sleep(0.01)
        log[#log + 1] = "b ends"
        return "a has it"
      end,
    })
    assert.same({ "a reads", "b runs", "b ends", "a has it" }, log)
  end)

  it("lets other tasks run while it waits", function()
    local log = {}
    all({
      a = function(self)
        local value = self.z
        log[#log + 1] = value
      end,
      b = function()
        log[#log + 1] = "b"
      end,
      z = function()
        return "z"
      end,
    })
    assert.same({ "b", "z" }, log)
  end)

  it("costs no suspension where the task has ended", function()
    local log = {}
    all({
      a = function()
        return "value"
      end,
      b = function(self)
        log[#log + 1] = "b before"
        for _ = 1, 100 do
          assert(self.a == "value")
          assert(self("a") == "value")
        end
        log[#log + 1] = "b after"
      end,
      c = function()
        log[#log + 1] = "c"
      end,
    })
    assert.same({ "b before", "b after", "c" }, log)
  end)

  it("runs each task once, however many read it, however often", function()
    local runs = 0
    local tasks = {
      once = function()
        runs = runs + 1
        allua.yield()
        return runs
      end,
    }
    for i = 1, 100 do
      tasks[i] = function(self)
        return self.once + self.once + self("once")
      end
    end
    local results = all(tasks)
    assert.equal(1, runs)
    for i = 1, 100 do
      assert.equal(3, results[i])
    end
  end)

  it("wakes the readers of one task in the order in which they began to wait", function()
    local order, tasks = {}, {
      gate = function()
        allua.yield()
      end,
    }
    for i = 1, 20 do
      tasks[i] = function(self)
        local _ = self.gate
        order[#order + 1] = i
      end
    end
    all(tasks)
    for i = 1, 20 do
      assert.equal(i, order[i])
    end
  end)

  it("gives nil for a task that returned nothing, and false for false", function()
    all({
      nothing = function() end,
      no = function()
        return false
      end,
      x = function(self)
        assert.is_nil(self.nothing)
        assert.is_false(self.no)
      end,
    })
  end)

  it("gives the first value alone where it is indexed", function()
    all({
      two = function()
        return 1, 2
      end,
      x = function(self)
        assert.equal(1, select("#", self.two))
      end,
    })
  end)

  it("gives all the values where it is called, nils among them", function()
    all({
      early = function(self)
        assert.same({ n = 5, nil, "b", nil, false, nil }, table.pack(self("many")))
      end,
      many = function()
        return nil, "b", nil, false, nil
      end,
      nothing = function() end,
      x = function(self)
        assert.same({ n = 5, nil, "b", nil, false, nil }, table.pack(self("many")))
        assert.equal(0, select("#", self("nothing")))
      end,
    })
  end)

  it("gives a hundred values", function()
    local values = {}
    for i = 1, 100 do
      values[i] = i
    end
    all({
      a = function(self)
        assert.same(values, { self("many") })
      end,
      many = function()
        return table.unpack(values)
      end,
    })
  end)

  it("reads whichever tasks the values of others call for", function()
    local function run(key)
      return all({
        pick = function()
          allua.yield()
          return key
        end,
        left = function()
          return "L"
        end,
        right = function()
          return "R"
        end,
        x = function(self)
          return self[self.pick]
        end,
      }).x
    end
    assert.equal("L", run("left"))
    assert.equal("R", run("right"))
  end)

  it("costs no more to call than to index, among many", function()
    local n = size.of(20000)
    local tasks = {
      zzz = function()
        return 1, 2
      end,
    }
    for i = 1, n do
      tasks["task " .. i] = function(self)
        local _, second = self("zzz")
        return second + select(2, self("zzz"))
      end
    end
    local start = os.clock()
    assert.equal(4, all(tasks)["task 1"])
    assert.is_true(os.clock() - start < size.seconds(3), os.clock() - start)
  end)

  it("is read-only", function()
    all({
      a = function(self)
        local failure = raised(function()
          self.x = 1
        end)
        assert.equal('self is read-only: cannot set "x"', text(failure))
        failure = raised(function()
          self.a = 1
        end)
        assert.equal('self is read-only: cannot set "a"', text(failure))
      end,
    })
  end)

  it("raises the error of a task that failed, at each read, as it is", function()
    local failure = {}
    allua.all_settled({
      bad = function()
        error(failure)
      end,
      x = function(self)
        for _ = 1, 3 do
          local got = raised(function()
            return self.bad
          end)
          assert.equal(failure, got)
          got = raised(function()
            return self("bad")
          end)
          assert.equal(failure, got)
        end
      end,
    })
  end)

  it("raises nil where a task failed with nil", function()
    local results = allua.all_settled({
      bad = function()
        error(nil)
      end,
      x = function(self)
        return select(
          "#",
          pcall(function()
            return self.bad
          end)
        )
      end,
    })
    assert.equal(2, results.x.value)
  end)
end)

describe("self: a name that is no task's", function()
  local function read(name)
    local failure
    all({
      user = function()
        return 1
      end,
      profile = function(self)
        failure = raised(function()
          return self[name]
        end)
      end,
    })
    return text(failure)
  end

  it("is an error with a hint where a name is near", function()
    assert.equal('unknown task "usr" (did you mean "user"?)', read("usr"))
    assert.equal('unknown task "users" (did you mean "user"?)', read("users"))
    assert.equal('unknown task "profil" (did you mean "profile"?)', read("profil"))
    assert.equal('unknown task "User" (did you mean "user"?)', read("User"))
  end)

  it("is an error without a hint where none is near", function()
    assert.equal('unknown task "weather"', read("weather"))
    assert.equal('unknown task ""', read(""))
  end)

  it("is an error where self is called, and where it is neither string nor integer", function()
    all({
      user = function(self)
        local failure = raised(self, "usr")
        assert.equal('unknown task "usr" (did you mean "user"?)', text(failure))
        for _, name in ipairs({ true, {}, 1.5, print, 7 }) do
          assert.is_true(errors.says(
            raised(function()
              return self[name]
            end),
            "unknown task"
          ))
          assert.is_true(errors.says(raised(self, name), "unknown task"))
        end
        raised(self)
        raised(self, nil)
      end,
    })
  end)

  it("is an error that a task may catch, and that fails the group where it does not", function()
    local results = all({
      a = function(self)
        return (pcall(function()
          return self.b
        end))
      end,
    })
    assert.is_false(results.a)
    local failure = raised(all, {
      user = function(self)
        return self.usr
      end,
    })
    assert.equal('unknown task "usr" (did you mean "user"?)', text(failure))
  end)

  it("costs little to look for among very many", function()
    local n = size.of(100000)
    local tasks = {}
    local function task() end
    for i = 1, n do
      tasks["task number " .. i] = task
    end
    tasks.reader = function(self)
      local start = os.clock()
      local failure = raised(function()
        return self["task numbr 1"]
      end)
      assert.equal('unknown task "task numbr 1" (did you mean "task number 1"?)', text(failure))
      assert.is_true(os.clock() - start < size.seconds(5))
    end
    all(tasks)
  end)
end)

describe("self: captured", function()
  it("is read by nested groups", function()
    local results = all({
      user = function()
        allua.sleep(0.01)
        return "ada"
      end,
      page = function(self)
        local outer = self
        return all({
          head = function()
            return "hello " .. outer.user
          end,
          body = function(inner)
            return inner.head .. ", " .. outer.user
          end,
        })
      end,
    })
    assert.same({ head = "hello ada", body = "hello ada, ada" }, results.page)
  end)

  it("makes the reader alone wait, not the task that it was handed to", function()
    local log = {}
    all({
      slow = function()
        allua.sleep(0.05)
        log[#log + 1] = "slow"
        return "value"
      end,
      page = function(self)
        all({
          reader = function()
            local value = self.slow
            log[#log + 1] = value
          end,
          other = function()
            log[#log + 1] = "other"
          end,
        })
      end,
    })
    assert.same({ "other", "slow", "value" }, log)
  end)

  it("is read by a spawned task", function()
    local results = all({
      a = function()
        allua.sleep(0.01)
        return 21
      end,
      b = function(self)
        local promise = allua.spawn(function(factor)
          return self.a * factor
        end, 2)
        return promise:await()
      end,
    })
    assert.equal(42, results.b)
  end)

  it("is read by a generator, whose consumer sees its own yields only", function()
    local results = all({
      a = function()
        allua.sleep(0.01)
        return "a"
      end,
      b = function()
        allua.sleep(0.02)
        return "b"
      end,
      list = function(self)
        local seen = {}
        for name, value in
          coroutine.wrap(function()
            for _, name in ipairs({ "b", "a", "b" }) do
              coroutine.yield(name, self[name])
            end
          end)
        do
          seen[#seen + 1] = name .. "=" .. value
        end
        return table.concat(seen, " ")
      end,
    })
    assert.equal("b=b a=a b=b", results.list)
  end)

  it("is read by a generator inside a generator", function()
    local results = all({
      a = function()
        allua.yield()
        return 1
      end,
      sum = function(self)
        local function inner()
          for i = 1, 3 do
            coroutine.yield(self.a * i)
          end
        end
        local function outer()
          for value in coroutine.wrap(inner) do
            coroutine.yield(value + self.a)
          end
        end
        local sum = 0
        for value in coroutine.wrap(outer) do
          sum = sum + value
        end
        return sum
      end,
    })
    assert.equal(9, results.sum)
  end)

  it("waits in pcall, metamethods, iterators and close handlers", function()
    local results = all({
      a = function()
        allua.sleep(0.01)
        return 5
      end,
      protected = function(self)
        local _, value = pcall(function()
          return self.a
        end)
        return value
      end,
      operator = function(self)
        local object = setmetatable({}, {
          __add = function()
            return self.a + 1
          end,
        })
        return object + object
      end,
      iterator = function(self)
        local seen = {}
        for i in
          function(_, i)
            i = (i or 0) + self.a
            return i <= 15 and i or nil
          end
        do
          seen[#seen + 1] = i
        end
        return seen
      end,
      closed = function(self)
        local got
        do
          local _ <close> = setmetatable({}, {
            __close = function()
              got = self.a
            end,
          })
        end
        return got
      end,
    })
    assert.same({ a = 5, protected = 5, operator = 6, iterator = { 5, 10, 15 }, closed = 5 }, results)
  end)

  it("still gives the values when the group has ended", function()
    local escaped
    all({
      a = function(self)
        escaped = self
        return 1, 2
      end,
    })
    assert.equal(1, escaped.a)
    assert.same({ 1, 2 }, { escaped("a") })
    assert.equal('unknown task "b"', text(raised(escaped, "b")))
  end)

  it("still raises the errors when the group has failed", function()
    local escaped
    local failure = {}
    raised(all, {
      a = function(self)
        escaped = self
        allua.yield()
        error(failure)
      end,
      b = function()
        allua.sleep(60)
      end,
    })
    assert.equal(
      failure,
      raised(function()
        return escaped.a
      end)
    )
    assert.is_true(allua.is_error(
      raised(function()
        return escaped.b
      end),
      "CancelledError"
    ))
  end)
end)

-- Lua then finds by itself what has settled.
describe("self: read often", function()
  -- What `read` gives in a task among others whose `self` has been read a hundred times.
  local function often(tasks, read)
    tasks.ready = function()
      return "ready"
    end
    tasks.zzz_often = function(self)
      for _ = 1, 100 do
        assert(self.ready == "ready")
      end
      return read(self)
    end
    return all(tasks).zzz_often
  end

  it("still waits, in a generator too", function()
    local got = often({
      slow = function()
        allua.sleep(0.01)
        return "slow"
      end,
      slower = function()
        allua.sleep(0.02)
        return "slower"
      end,
    }, function(self)
      local words = { self.slow }
      for word in
        coroutine.wrap(function()
          coroutine.yield(self.slower)
          coroutine.yield(self.ready)
          coroutine.yield(self.slow)
        end)
      do
        words[#words + 1] = word
      end
      return table.concat(words, " ")
    end)
    assert.equal("slow slower ready slow", got)
  end)

  it("still gives nil, false, several values and those of tasks named by integers", function()
    local got = often({
      [1] = function()
        return "one"
      end,
      no = function()
        return false
      end,
      nothing = function() end,
      two = function()
        return 1, 2
      end,
    }, function(self)
      return table.pack(self.no, self.nothing, self[1], self[1.0], #self, self("two"))
    end)
    assert.same({ n = 7, false, nil, "one", "one", 1, 1, 2 }, got)
  end)

  it("still raises what failed, a name that is no task's, and what would set it", function()
    local failure = {}
    allua.all_settled({
      bad = function()
        error(failure)
      end,
      ready = function()
        return "ready"
      end,
      slow = function()
        allua.yield()
      end,
      x = function(self)
        local function refused(words, fn)
          assert.equal(words, text(raised(fn)))
        end
        for _ = 1, 100 do
          assert(self.ready == "ready")
        end
        for _ = 1, 3 do
          assert.equal(
            failure,
            raised(function()
              return self.bad
            end)
          )
          refused('unknown task "raedy" (did you mean "ready"?)', function()
            return self.raedy
          end)
          for _, name in ipairs({ "ready", "slow", "other" }) do
            refused(('self is read-only: cannot set "%s"'):format(name), function()
              self[name] = 1
            end)
          end
        end
        assert.equal("allua.self", getmetatable(self))
      end,
    })
  end)

  it("still finds a cycle", function()
    local failure = raised(all, {
      a = function(self)
        return self.b
      end,
      b = function(self)
        for _ = 1, 100 do
          assert(self.ready == "ready")
        end
        return self.a
      end,
      ready = function()
        return "ready"
      end,
    })
    assert.equal("circular dependency: b -> a -> b", text(failure))
  end)

  it("leaves plain results, which are the caller's", function()
    local escaped
    local results = all({
      ready = function()
        return "ready"
      end,
      x = function(self)
        escaped = self
        for _ = 1, 100 do
          assert(self.ready == "ready")
        end
        return 1, 2
      end,
    })
    assert.is_nil(getmetatable(results))
    assert.is_nil(results.other)
    assert.same({ "ready", 1 }, { escaped.ready, escaped.x })
    assert.same({ 1, 2 }, { escaped("x") })
    assert.equal('unknown task "other"', text(raised(escaped, "other")))
  end)

  it("is read by a task of no group, too", function()
    local escaped
    local promise = allua.spawn(all, {
      ready = function()
        return "ready"
      end,
      slow = function(self)
        escaped = self
        for _ = 1, 100 do
          assert(self.ready == "ready")
        end
        allua.sleep(0.01)
        return "slow"
      end,
    })
    allua.yield()
    allua.yield()
    assert.equal(
      "slow",
      coroutine.wrap(function()
        return escaped.slow
      end)()
    )
    promise:await()
  end)
end)
