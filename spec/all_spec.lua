local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local size = require("spec.support.size")
require("spec.support.leftovers")()

local all, raised = allua.all, errors.raised

describe("all: results", function()
  it("gives the value of each task under its name", function()
    local results = all({
      one = function()
        return 1
      end,
      two = function()
        return "2"
      end,
    })
    assert.same({ one = 1, two = "2" }, results)
  end)

  it("gives a list of results for a list of tasks", function()
    local results = all({
      function()
        return "a"
      end,
      function()
        return "b"
      end,
    })
    assert.same({ "a", "b" }, results)
    assert.equal(2, #results)
  end)

  it("takes integer and string names in one table", function()
    local function name(_, task)
      return task.name
    end
    local results = all({ name, name, x = name, [-3] = name, [1 << 40] = name })
    assert.same({ 1, 2, x = "x", [-3] = -3, [1 << 40] = 1 << 40 }, results)
  end)

  it("gives an empty table for an empty table", function()
    assert.same({}, all({}))
  end)

  it("gives a new table and leaves the table of tasks as it was", function()
    local function task()
      return 1
    end
    local tasks = { a = task, task }
    local first, second = all(tasks), all(tasks)
    assert.not_equal(tasks, first)
    assert.not_equal(first, second)
    assert.same({ a = task, task }, tasks)
  end)

  it("gives nothing but the table", function()
    assert.equal(1, select("#", all({ a = function() end, b = function() end })))
  end)

  it("keeps the first value that a task returns", function()
    local results = all({
      a = function()
        return 1, 2, 3
      end,
    })
    assert.same({ a = 1 }, results)
  end)

  it("keeps false, and leaves out what returned nil or nothing", function()
    local results = all({
      no = function()
        return false
      end,
      null = function()
        return nil, "second"
      end,
      nothing = function() end,
    })
    assert.same({ no = false }, results)
  end)

  it("keeps the identity of a value", function()
    local value = setmetatable({}, {
      __eq = function()
        return false
      end,
    })
    local results = all({
      a = function()
        return value
      end,
    })
    assert.is_true(rawequal(value, results.a))
  end)
end)

describe("all: how tasks run", function()
  it("starts integer names in order, then string names in byte order", function()
    local names = { -2, 0, 1, 2, 10, 300, "", "10", "2", "A", "Z", "a", "a\0b", "aa", "b", "\u{e9}", "\u{20ac}" }
    local order, tasks = {}, {}
    local function task(_, t)
      order[#order + 1] = t.name
    end
    for i = #names, 1, -1 do
      tasks[names[i]] = task
    end
    all(tasks)
    assert.same(names, order)
  end)

  it("starts every task before any wait is over", function()
    local log = {}
    local function task(_, t)
      log[#log + 1] = "start " .. t.name
      allua.yield()
      log[#log + 1] = "end " .. t.name
    end
    all({ c = task, a = task, b = task })
    assert.same({ "start a", "start b", "start c" }, { table.unpack(log, 1, 3) })
  end)

  it("runs tasks that wait at the same time", function()
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = function()
        allua.sleep(0.1)
      end
    end
    local _ <close> = allua.clock.virtual()
    all(tasks)
    assert.equal(0.1, allua.now())
  end)

  it("takes as long as the longest chain, not as the sum", function()
    local _ <close> = allua.clock.virtual()
    local results = all({
      config = function()
        allua.sleep(0.2)
        return "config"
      end,
      user = function()
        allua.sleep(0.1)
        return { id = 7 }
      end,
      profile = function(self)
        local id = self.user.id
        allua.sleep(0.1)
        return "profile " .. id
      end,
      preferences = function(self)
        local id = self.user.id
        allua.sleep(0.1)
        return "preferences " .. id
      end,
      page = function(self)
        local config, profile, preferences = self.config, self.profile, self.preferences
        return table.concat({ config, profile, preferences }, ", ")
      end,
    })
    assert.equal("config, profile 7, preferences 7", results.page)
    assert.equal(0.2, allua.now()) -- 0.5 one after the other
  end)

  it("gives each task a coroutine of its own", function()
    local function task()
      local running = coroutine.running()
      allua.yield()
      return running
    end
    local results = all({ a = task, b = task, c = task })
    assert.not_equal(results.a, results.b)
    assert.not_equal(results.b, results.c)
    assert.not_equal(results.a, results.c)
    assert.not_equal(coroutine.running(), results.a)
  end)

  it("takes a callable table as a task, which is then its own first argument", function()
    local callable = setmetatable({ factor = 3 }, {
      __call = function(object, self, task)
        return object.factor * self.n, task.name
      end,
    })
    local results = all({
      n = function()
        return 14
      end,
      product = callable,
    })
    assert.equal(42, results.product)
  end)

  it("takes a C function as a task", function()
    assert.same({ same = false }, all({ same = rawequal }))
  end)

  it("goes by the table as it was when it was called", function()
    local tasks
    local ran = {}
    tasks = {
      a = function()
        tasks.b = nil
        tasks.c = function()
          ran.replaced = true
        end
        tasks.d = function()
          ran.added = true
        end
        for i = 1, 100 do
          tasks[i] = print
        end
      end,
      b = function()
        return "b"
      end,
      c = function(self)
        return self.b .. "c"
      end,
    }
    assert.same({ b = "b", c = "bc" }, all(tasks))
    assert.same({}, ran)
  end)

  it("runs groups inside tasks inside groups", function()
    local function depth(n)
      if n == 0 then
        allua.yield()
        return 0
      end
      return 1 + all({
        function()
          return depth(n - 1)
        end,
      })[1]
    end
    assert.equal(500, depth(500))
  end)

  it("can be called by many tasks at once", function()
    local tasks = {}
    for i = 1, 50 do
      tasks[i] = function()
        local inner = {}
        for j = 1, 20 do
          inner[j] = function()
            allua.yield()
            return i * j
          end
        end
        local sum = 0
        for _, value in ipairs(all(inner)) do
          sum = sum + value
        end
        return sum
      end
    end
    for i, sum in ipairs(all(tasks)) do
      assert.equal(210 * i, sum)
    end
  end)

  it("runs a million tasks", function()
    local n = size.of(1000000)
    local tasks = {}
    local function task(_, t)
      return t.name
    end
    for i = 1, n do
      tasks[i] = task
    end
    local results = all(tasks)
    assert.equal(n, #results)
    for i = 1, n do
      if results[i] ~= i then
        error(("task %d gave %s"):format(i, results[i]))
      end
    end
  end)

  it("runs a hundred thousand tasks that wait at the same time", function()
    local n = size.of(100000)
    local tasks = {}
    local waiting, most = 0, 0
    local function task(_, t)
      waiting = waiting + 1
      most = math.max(most, waiting)
      allua.yield()
      waiting = waiting - 1
      return t.name
    end
    for i = 1, n do
      tasks[i] = task
    end
    assert.equal(n, #all(tasks))
    assert.equal(n, most)
  end)

  -- How a group is stored depends on its size and on whether it has names: none of that may show.
  for _, form in ipairs({ "20 names", "5000 names", "20000 names", "20 list", "20000 list" }) do
    local number, kind = form:match("(%d+) (%a+)")
    local n = math.tointeger(number)
    it(("keeps what each of %d tasks gave: a %s"):format(n, kind), function()
      local function key(i)
        return kind == "list" and i or ("t%05d"):format(i)
      end
      local failure, order, tasks = {}, {}, {}
      for i = 1, n do
        tasks[key(i)] = function()
          order[#order + 1] = i
          return i
        end
      end
      tasks[key(3)] = function() end
      tasks[key(5)] = function()
        return "several", nil, 5
      end
      tasks[key(7)] = function()
        error(failure)
      end
      tasks[key(9)] = function(self)
        assert(select("#", self(key(n - 1))) == 3)
        assert(select("#", self(key(3))) == 0)
        return select("#", self(key(5))), self[key(n)]
      end
      tasks[key(n - 1)] = function(self)
        allua.yield()
        return self[key(5)], self[key(3)], self[key(n)]
      end
      local results = allua.all_settled(tasks)
      for i, result in pairs({
        [3] = {},
        [5] = { value = "several" },
        [9] = { value = 3 },
        [11] = { value = 11 },
        [n - 1] = { value = "several" },
        [n] = { value = n },
      }) do
        assert.equal("fulfilled", results[key(i)].status)
        assert.equal(result.value, results[key(i)].value)
      end
      assert.equal(failure, results[key(7)].reason)
      for i = 2, #order do
        assert(order[i - 1] < order[i])
      end
      assert.equal(n - 5, #order)

      tasks[key(7)] = nil
      if kind == "list" then
        tasks[key(7)] = tasks[key(3)]
      end
      local values, count = all(tasks), 0
      local expected = { [key(5)] = "several", [key(9)] = 3, [key(n - 1)] = "several" }
      for i = 1, n do
        local value = values[key(i)]
        if value ~= nil then
          assert(value == (expected[key(i)] or i))
          count = count + 1
        end
      end
      assert.equal(n - 2, count)
    end)
  end
end)

describe("all: failure", function()
  it("raises what the task raised, and nothing else: nil, false, tables, any value", function()
    local values = table.pack(nil, false, true, 0, 1.5, "text", {}, print, coroutine.create(print), io.stdout)
    for i = 1, values.n do
      local result = table.pack(pcall(all, {
        a = function()
          error(values[i], 0)
        end,
      }))
      assert.equal(2, result.n)
      assert.is_false(result[1])
      assert.is_true(rawequal(values[i], result[2]))
    end
  end)

  it("keeps the place where the error was raised", function()
    local failure = raised(all, {
      a = function()
        error("boom")
      end,
    })
    assert.matches("^[^\n]*all_spec%.lua:%d+: boom$", failure)
  end)

  it("raises what a task raised that waited first", function()
    local value = {}
    local failure = raised(all, {
      a = function()
        allua.sleep(0.01)
        error(value)
      end,
      b = function()
        return 1
      end,
    })
    assert.equal(value, failure)
  end)

  it("raises the first error in time, whatever its name", function()
    local failure = raised(all, {
      a = function()
        allua.sleep(60)
        error("late", 0)
      end,
      z = function()
        allua.sleep(0.01)
        error("early", 0)
      end,
    })
    assert.equal("early", failure)
  end)

  it("does not wait for what the other tasks were waiting for", function()
    local start = allua.now()
    raised(all, {
      a = function()
        allua.sleep(60)
      end,
      b = function()
        error("boom")
      end,
    })
    assert.is_true(allua.now() - start < 30)
  end)

  it("cancels the other tasks where they wait, with the error as the reason", function()
    local failure, caught = {}, nil
    raised(all, {
      bad = function()
        allua.yield()
        error(failure)
      end,
      other = function()
        caught = raised(allua.sleep, 60)
        error(caught)
      end,
    })
    assert.is_true(allua.is_error(caught, "CancelledError"))
    assert.equal(failure, caught.reason)
    assert.equal("other", caught.task)
  end)

  it("cancels a task that waits for a sibling", function()
    local failure, caught = {}, nil
    raised(all, {
      bad = function()
        allua.yield()
        error(failure)
      end,
      reader = function(self)
        caught = raised(function()
          return self.slow
        end)
        error(caught)
      end,
      slow = function()
        allua.sleep(60)
      end,
    })
    assert.is_true(allua.is_error(caught, "CancelledError"))
    assert.equal("reader", caught.task)
  end)

  it("aborts the signal of the group, with the error as the reason", function()
    local failure, signal, seen = {}, nil, nil
    raised(all, {
      bad = function(_, task)
        signal = task.signal
        assert.is_false(signal.aborted)
        allua.yield()
        error(failure)
      end,
      other = function(_, task)
        pcall(allua.sleep, 60)
        seen = { task.signal.aborted, task.signal.reason }
      end,
    })
    assert.same({ true, failure }, seen)
    assert.equal(failure, seen[2])
    assert.is_true(signal.aborted)
    assert.equal(failure, signal.reason)
  end)

  it("raises only when every other task has ended, closed variables and all", function()
    local ended = {}
    raised(all, {
      a = function()
        allua.yield()
        error("boom")
      end,
      b = function()
        local _ <close> = setmetatable({}, {
          __close = function()
            allua.shield(allua.sleep, 0.02)
            ended[#ended + 1] = "b"
          end,
        })
        allua.sleep(60)
      end,
      c = function()
        pcall(allua.sleep, 60)
        for _ = 1, 3 do
          pcall(allua.sleep, 60)
        end
        ended[#ended + 1] = "c"
      end,
      d = function()
        allua.shield(allua.sleep, 0.5)
        ended[#ended + 1] = "d"
      end,
    })
    assert.same({ "c", "b", "d" }, ended)
  end)

  it("never starts a task that had not started", function()
    local started = {}
    local function task(_, t)
      started[#started + 1] = t.name
      if t.name == 2 then
        error("boom")
      end
    end
    raised(all, { task, task, task, task })
    assert.same({ 1, 2 }, started)
  end)

  it("raises at a task that waits for the failed one the same error", function()
    local failure, caught = {}, nil
    local got = raised(all, {
      a = function(self)
        caught = raised(function()
          return self.b
        end)
      end,
      b = function()
        error(failure)
      end,
    })
    assert.equal(failure, caught)
    assert.equal(failure, got)
  end)

  it("passes an error through a chain of readers as it is", function()
    local failure = {}
    local function from(name)
      return function(self)
        return self[name]
      end
    end
    local got = raised(all, {
      a = from("b"),
      b = from("c"),
      c = from("d"),
      d = function()
        error(failure)
      end,
    })
    assert.equal(failure, got)
  end)

  it("fails for a reader that caught the error, too: only the failed task counts", function()
    local failure = raised(all, {
      a = function(self)
        pcall(function()
          return self.b
        end)
        return "saved"
      end,
      b = function()
        error("boom", 0)
      end,
    })
    assert.equal("boom", failure)
  end)

  it("cancels the groups inside a task that is cancelled, innermost first", function()
    local ended = {}
    local function mark(name)
      return setmetatable({}, {
        __close = function()
          ended[#ended + 1] = name
        end,
      })
    end
    raised(all, {
      outer = function()
        local _ <close> = mark("outer")
        all({
          middle = function()
            local _ <close> = mark("middle")
            all({
              inner = function()
                local _ <close> = mark("inner")
                allua.sleep(60)
              end,
            })
          end,
        })
      end,
      zap = function()
        allua.sleep(0.01)
        error("boom")
      end,
    })
    assert.same({ "inner", "middle", "outer" }, ended)
  end)

  it("fails the outer group with the inner group's error, as it is", function()
    local failure = {}
    local got = raised(all, {
      a = function()
        return all({
          b = function()
            allua.yield()
            error(failure)
          end,
        })
      end,
    })
    assert.equal(failure, got)
  end)

  it("leaves the outer group alone where the inner group's error is caught", function()
    local results = all({
      a = function()
        local ok = pcall(all, {
          b = function()
            error("boom")
          end,
        })
        allua.yield()
        return ok
      end,
      c = function()
        allua.sleep(0.01)
        return "c"
      end,
    })
    assert.same({ a = false, c = "c" }, results)
  end)

  it("leaves nothing of a thousand failed groups", function()
    for i = 1, size.of(1000) do
      local failure = raised(all, {
        a = function(self)
          return self.b
        end,
        b = function()
          allua.yield()
          error(i)
        end,
        c = function()
          allua.sleep(60)
        end,
      })
      assert.equal(i, failure)
    end
  end)

  it("reports a second, different error of a cancelled task as a warning", function()
    local result = host.eval([[
      local ok, failure = pcall(all, {
        a = function()
          allua.yield()
          error("the first", 0)
        end,
        b = function()
          pcall(allua.sleep, 60)
          error("the second", 0)
        end,
      })
      io.write(tostring(ok), " ", tostring(failure))
    ]])
    assert.equal("false the first", result.out)
    assert.matches("the second", result.err, 1, true)
    assert.not_matches("the first", result.err, 1, true)
    assert.equal(0, result.code)
  end)

  it("does not warn of the same error raised again, nor of the cancelling", function()
    local result = host.eval([[
      pcall(all, {
        a = function(self) return self.b end,
        b = function()
          allua.sleep(0.01)
          error("boom")
        end,
        c = function() allua.sleep(60) end,
        d = function(self) return self.c end,
        e = function()
          local _, failure = pcall(allua.sleep, 60)
          error(failure)
        end,
        f = function(self)
          all({ inner = function() return self.b end })
        end,
      })
    ]])
    assert.equal("", result.err)
    assert.equal(0, result.code)
  end)
end)

describe("all: order", function()
  it("takes turns with other tasks in one order, however deep its owners run what is ready", function()
    local log = {}
    local function branch(name)
      return function()
        log[#log + 1] = name .. " begins"
        all({
          function()
            log[#log + 1] = name .. ".1"
            allua.yield()
            log[#log + 1] = name .. ".1 again"
          end,
          function()
            log[#log + 1] = name .. ".2"
          end,
        })
        log[#log + 1] = name .. " ends"
      end
    end
    all({ branch("a"), branch("b"), branch("c") })
    assert.same({
      "a begins",
      "b begins",
      "c begins",
      "a.1",
      "a.2",
      "b.1",
      "b.2",
      "c.1",
      "c.2",
      "a.1 again",
      "b.1 again",
      "c.1 again",
      "a ends",
      "b ends",
      "c ends",
    }, log)
  end)

  it("nests as deep as memory allows, waiting or not", function()
    local function nest(depth, wait)
      if depth == 0 then
        return 0
      end
      return all({
        inner = function()
          if wait then
            allua.yield()
          end
          return nest(depth - 1, wait) + 1
        end,
      }).inner
    end
    assert.equal(1000, nest(1000, false))
    assert.equal(1000, nest(1000, true))
  end)

  it("starts thousands of names in byte order, whatever they have in common", function()
    local started, names, tasks = {}, {}, {}
    for i = 1, 3000 do
      names[i] = ("resource/%s%d"):format(i % 2 == 0 and "" or ("x"):rep(50), i * 7919 % 3001)
    end
    for i = -3, 3 do
      names[#names + 1] = ("resource/"):sub(1, i + 4) .. "\0\255"
    end
    for _, name in ipairs(names) do
      tasks[name] = function()
        started[#started + 1] = name
      end
    end
    all(tasks)
    table.sort(names)
    assert.same(names, started)
  end)
end)
