local allua = require("allua")
local errors = require("spec.support.errors")
require("spec.support.leftovers")()

local all, raised, text = allua.all, errors.raised, errors.text

describe("task", function()
  it("knows its name, as it stands in the table", function()
    local function name(_, task)
      return task.name
    end
    local results = all({ name, a = name, [""] = name })
    assert.same({ 1, a = "a", [""] = "" }, results)
    assert.equal("integer", math.type(results[1]))
  end)

  it("is there for each kind of group", function()
    local function name(_, task)
      return task.name
    end
    assert.equal("a", allua.all_settled({ a = name }).a.value)
    assert.equal("a", allua.race({ a = name }))
    assert.equal("a", allua.any({ a = name }))
    for _, value in allua.each({ a = name }) do
      assert.equal("a", value)
    end
    local finished = allua.flow({
      a = function(_, task)
        task:finish(task.name)
      end,
    })
    assert.equal("a", finished)
  end)

  it("is there for functions that lie where collected ones were, which had no use for it", function()
    local function with_one(self)
      return self
    end
    local function fresh(taking)
      local tasks = {}
      for i = 1, 20 do
        if taking then
          tasks[i] = function(_, task)
            return task ~= nil and task.name == i
          end
        else
          tasks[i] = function(self)
            return self and i
          end
        end
      end
      return tasks
    end
    all({ with_one })
    for round = 1, 50 do
      local tasks = fresh(round % 2 == 0)
      for _ = 1, 3 do -- known from the second time on
        local results = all(tasks)
        for i = 1, 20 do
          assert.equal(round % 2 == 0 or i, results[i])
        end
      end
      tasks = nil -- luacheck: ignore
      collectgarbage()
    end
  end)

  it("is there for a function that takes it, however many have been called that do not", function()
    local function plain(self)
      return self and 1
    end
    local function taking(_, task)
      return task.name
    end
    local function varying(...)
      return select("#", ...)
    end
    for _ = 1, 200 do
      local tasks = { taking = taking, varying = varying }
      for i = 1, 100 do
        tasks[i] = i % 2 == 0 and plain or function()
          return i
        end
      end
      local results = all(tasks)
      assert.equal("taking", results.taking)
      assert.equal(2, results.varying)
    end
  end)

  it("has the signal of its group, the same for all the tasks of it", function()
    local function signal(_, task)
      return task.signal
    end
    local first = all({ a = signal, b = signal })
    assert.equal(first.a, first.b)
    assert.is_false(first.a.aborted)
    assert.is_nil(first.a.reason)
    assert.not_equal(first.a, all({ a = signal }).a)
  end)

  it("has a signal that calls back when the group fails", function()
    local log = {}
    raised(all, {
      a = function(_, task)
        task.signal:on_abort(function()
          log[#log + 1] = "aborted"
        end)
        local remove = task.signal:on_abort(function()
          log[#log + 1] = "removed"
        end)
        remove()
        allua.sleep(60)
      end,
      b = function()
        error("boom")
      end,
    })
    assert.same({ "aborted" }, log)
  end)

  it("has a signal that a group which ends well never aborts", function()
    local called = false
    local signal
    all({
      a = function(_, task)
        signal = task.signal
        signal:on_abort(function()
          called = true
        end)
      end,
    })
    assert.is_false(called)
    assert.is_false(signal.aborted)
  end)

  it("gives a sibling's promise without waiting", function()
    all({
      a = function(_, task)
        local promise = task:promise("b")
        assert.equal("pending", promise.status)
        assert.same({ "b", 2 }, { promise:await() })
        assert.equal("fulfilled", promise.status)
      end,
      b = function()
        allua.yield()
        return "b", 2
      end,
    })
  end)

  it("gives the promise of a sibling that has ended", function()
    local failure = {}
    allua.all_settled({
      a = function()
        return 1
      end,
      b = function()
        error(failure)
      end,
      c = function(_, task)
        assert.equal("fulfilled", task:promise("a").status)
        assert.equal("rejected", task:promise("b").status)
        assert.equal(1, task:promise("a"):await())
        local promise = task:promise("b")
        assert.equal(
          failure,
          raised(function()
            promise:await()
          end)
        )
      end,
    })
  end)

  it("gives the promise of a sibling that has not started", function()
    local results = all({
      function(_, task)
        local promise = task:promise(2)
        assert.equal("pending", promise.status)
        return promise:await()
      end,
      function()
        return "second"
      end,
    }, { concurrency = 1 })
    assert.equal("second", results[1])
  end)

  it("gives its own promise, for others to wait on", function()
    local own
    local results = all({
      a = function(_, task)
        own = task:promise("a")
        assert.equal("pending", own.status)
        allua.yield()
        return "value"
      end,
      b = function()
        return own:await()
      end,
    })
    assert.equal("value", results.b)
    assert.equal("fulfilled", own.status)
  end)

  it("knows no promise of an unknown task", function()
    all({
      user = function(_, task)
        local failure = raised(task.promise, task, "usr")
        assert.equal('unknown task "usr" (did you mean "user"?)', text(failure))
      end,
    })
  end)

  it("can finish a flow only", function()
    all({
      a = function(_, task)
        raised(function()
          task:finish(1)
        end)
      end,
    })
  end)

  it("can be captured and used by others", function()
    local results = all({
      a = function()
        allua.yield()
        return 7
      end,
      b = function(_, task)
        return allua
          .spawn(function()
            return task:promise("a"):await() .. task.name
          end)
          :await()
      end,
    })
    assert.equal("7b", results.b)
  end)

  it("still has its name, its signal and its siblings' promises when the group has ended", function()
    local escaped
    all({
      a = function(_, task)
        escaped = task
        return "value"
      end,
    })
    assert.equal("a", escaped.name)
    assert.is_false(escaped.signal.aborted)
    assert.equal("value", escaped:promise("a"):await())
  end)
end)

describe("a promise as a task", function()
  it("gives its value to the results and to who reads it", function()
    local promise = allua.promise()
    local results = all({
      config = promise,
      page = function(self)
        return "page of " .. self.config
      end,
      setter = function()
        allua.yield()
        promise:resolve("config")
      end,
    })
    assert.same({ config = "config", page = "page of config" }, results)
  end)

  it("may be settled already", function()
    local promise = allua.promise()
    promise:resolve(nil, "second")
    all({
      p = promise,
      x = function(self)
        assert.is_nil(self.p)
        assert.same({ n = 2, nil, "second" }, table.pack(self("p")))
      end,
    })
  end)

  it("may be a task already under way", function()
    local promise = allua.spawn(function()
      allua.sleep(0.01)
      return 20
    end)
    local results = all({
      early = promise,
      sum = function(self)
        return self.early + 1
      end,
    })
    assert.same({ early = 20, sum = 21 }, results)
    assert.equal(20, promise:await())
  end)

  it("may stand under several names, and in several groups", function()
    local promise = allua.promise()
    promise:resolve("x")
    assert.same({ "x", "x", a = "x" }, all({ promise, promise, a = promise }))
    assert.same({ "x" }, all({ promise }))
  end)

  it("fails the group where it is rejected", function()
    local failure = {}
    local promise = allua.promise()
    local got = raised(all, {
      a = promise,
      b = function()
        allua.yield()
        promise:reject(failure)
        allua.sleep(60)
      end,
    })
    assert.equal(failure, got)
  end)

  it("fails the group where it was rejected before", function()
    local promise = allua.promise()
    promise:reject("no")
    assert.equal("no", raised(all, { a = promise }))
    assert.same({ status = "rejected", reason = "no" }, allua.all_settled({ a = promise }).a)
  end)

  it("does not hold up a group that fails", function()
    local never = allua.promise()
    local failure = raised(all, {
      a = never,
      b = function()
        error("boom", 0)
      end,
    })
    assert.equal("boom", failure)
  end)

  it("that is a task is cancelled with the group that fails", function()
    local ended = false
    local promise = allua.spawn(function()
      local _ <close> = setmetatable({}, {
        __close = function()
          ended = true
        end,
      })
      allua.sleep(60)
    end)
    raised(all, {
      a = promise,
      b = function()
        allua.yield()
        error("boom", 0)
      end,
    })
    assert.is_true(ended)
    assert.equal("rejected", promise.status)
  end)

  it("takes part in races", function()
    local promise = allua.promise()
    promise:resolve("p")
    assert.same({ "p", 2 }, {
      allua.race({
        function()
          allua.sleep(60)
        end,
        promise,
      }),
    })
    assert.same({ "p", "x" }, { allua.any({ x = promise }) })
  end)
end)
