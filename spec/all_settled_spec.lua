local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
require("spec.support.leftovers")()

local all_settled, text = allua.all_settled, errors.text

local function value_of(value)
  return function()
    return value
  end
end

local function failing(failure)
  return function()
    error(failure, 0)
  end
end

describe("all_settled", function()
  it("gives the outcome of each task, successes and failures", function()
    local failure = {}
    local results = all_settled({
      a = value_of(1),
      b = failing(failure),
      c = value_of(3),
    })
    assert.same({
      a = { status = "fulfilled", value = 1 },
      b = { status = "rejected", reason = failure },
      c = { status = "fulfilled", value = 3 },
    }, results)
    assert.equal(failure, results.b.reason)
  end)

  it("gives a list of outcomes for a list of tasks", function()
    assert.same({
      { status = "fulfilled", value = "a" },
      { status = "rejected", reason = "b" },
    }, all_settled({ value_of("a"), failing("b") }))
  end)

  it("gives an empty table for an empty table", function()
    assert.same({}, all_settled({}))
  end)

  it("keeps values and reasons that are nil or false", function()
    assert.same(
      {
        a = { status = "fulfilled" },
        b = { status = "fulfilled", value = false },
        c = { status = "rejected" },
        d = { status = "rejected", reason = false },
      },
      all_settled({
        a = function() end,
        b = value_of(false),
        c = failing(nil),
        d = failing(false),
      })
    )
  end)

  it("never raises for a failure, be it of every task", function()
    local results = all_settled({ failing("a"), failing("b"), failing("c") })
    assert.same({ "a", "b", "c" }, { results[1].reason, results[2].reason, results[3].reason })
  end)

  it("cancels nobody for a failure", function()
    local signal
    local results = all_settled({
      bad = failing("boom"),
      good = function(_, task)
        signal = task.signal
        for _ = 1, 3 do
          allua.sleep(0.005)
        end
        return signal.aborted
      end,
    })
    assert.same({ status = "fulfilled", value = false }, results.good)
    assert.is_false(signal.aborted)
  end)

  it("starts every task, though the first one fails", function()
    local started = {}
    local function task(_, t)
      started[#started + 1] = t.name
      error("boom")
    end
    all_settled({ task, task, task })
    assert.same({ 1, 2, 3 }, started)
  end)

  it("says from which task a failure came that a reader did not catch", function()
    local failure = {}
    local results = all_settled({
      a = function(self)
        return self.b + 10
      end,
      b = failing(failure),
      c = function(self)
        local ok, reason = pcall(function()
          return self.b
        end)
        return ok == false and reason == failure and "fallback"
      end,
    })
    assert.same({ status = "rejected", reason = failure, from = "b" }, results.a)
    assert.equal(failure, results.a.reason)
    assert.same({ status = "rejected", reason = failure }, results.b)
    assert.same({ status = "fulfilled", value = "fallback" }, results.c)
  end)

  it("says so where the failed task had ended before it was read, too", function()
    local results = all_settled({
      function(self)
        return self[2]
      end,
      failing("boom"),
      function(self)
        return self[2]
      end,
    })
    assert.same({ status = "rejected", reason = "boom", from = 2 }, results[1])
    assert.same({ status = "rejected", reason = "boom", from = 2 }, results[3])
  end)

  it("names in a chain the task that each one read", function()
    local results = all_settled({
      a = function(self)
        return self.b
      end,
      b = function(self)
        return self.c
      end,
      c = failing("boom"),
    })
    assert.same({
      a = { status = "rejected", reason = "boom", from = "b" },
      b = { status = "rejected", reason = "boom", from = "c" },
      c = { status = "rejected", reason = "boom" },
    }, results)
  end)

  it("names no task where the failure was the task's own", function()
    local results = all_settled({
      a = function(self)
        pcall(function()
          return self.b
        end)
        error("own", 0)
      end,
      b = failing("boom"),
    })
    assert.same({ status = "rejected", reason = "own" }, results.a)
  end)

  it("names no task where two failed with equal errors, and neither read the other", function()
    local results = all_settled({ a = failing("boom"), b = failing("boom") })
    assert.same({ status = "rejected", reason = "boom" }, results.a)
    assert.same({ status = "rejected", reason = "boom" }, results.b)
  end)

  it("names no task where another group failed with an equal error before", function()
    local function reads(name)
      return function(self)
        return self[name]
      end
    end
    for _ = 1, 10 do
      local results = all_settled({ a = reads("b"), b = reads("c"), c = failing("boom") })
      assert.same({ status = "rejected", reason = "boom" }, results.c)
      -- The next group may lie in memory where this one was.
      collectgarbage()
      collectgarbage()
    end
  end)

  it("keeps what had ended when the time is out, and rejects the rest with that reason", function()
    local results = all_settled({
      quick = value_of(1),
      bad = failing("boom"),
      slow = function()
        allua.sleep(60)
      end,
      reader = function(self)
        return self.slow
      end,
    }, { timeout = 0.02 })
    assert.same({ status = "fulfilled", value = 1 }, results.quick)
    assert.same({ status = "rejected", reason = "boom" }, results.bad)
    assert.equal("rejected", results.slow.status)
    assert.is_true(allua.is_error(results.slow.reason, "TimeoutError"))
    assert.equal("rejected", results.reader.status)
    assert.equal(results.slow.reason, results.reader.reason)
  end)

  it("rejects what had not ended with the reason of an outside abort", function()
    local controller, reason = allua.abort_controller(), {}
    local results = all_settled({
      aborter = function()
        allua.yield()
        controller:abort(reason)
        return "done"
      end,
      slow = function()
        allua.sleep(60)
      end,
    }, { signal = controller.signal })
    assert.equal("rejected", results.slow.status)
    assert.equal(reason, results.slow.reason)
  end)

  it("starts nothing where the signal was aborted already, and rejects every task", function()
    local controller, reason, started = allua.abort_controller(), {}, false
    controller:abort(reason)
    local function task()
      started = true
    end
    local results = all_settled({ task, task, a = task }, { signal = controller.signal })
    assert.is_false(started)
    for _, name in ipairs({ 1, 2, "a" }) do
      assert.equal("rejected", results[name].status)
      assert.equal(reason, results[name].reason)
    end
  end)

  it("rejects what its limit never let start", function()
    local results = all_settled({
      function()
        allua.sleep(60)
      end,
      value_of(2),
    }, { timeout = 0.02, concurrency = 1 })
    assert.is_true(allua.is_error(results[1].reason, "TimeoutError"))
    assert.is_true(allua.is_error(results[2].reason, "TimeoutError"))
  end)

  it("rejects the reader that would close a circle, and lets the others end", function()
    local results = all_settled({
      a = function(self)
        return self.b
      end,
      b = function(self)
        return self.a
      end,
      c = value_of("c"),
    })
    assert.equal("circular dependency: b -> a -> b", text(results.b.reason))
    assert.is_nil(results.b.from)
    assert.equal(results.b.reason, results.a.reason)
    assert.equal("b", results.a.from)
    assert.same({ status = "fulfilled", value = "c" }, results.c)
  end)

  it("reports no failure anywhere else than in its results", function()
    local result = host.eval([[
      allua.all_settled({
        a = function() error("boom") end,
        b = function(self) return self.a end,
        c = function() allua.yield() error("bang") end,
      })
    ]])
    assert.same({ "", "", 0 }, { result.out, result.err, result.code })
  end)

  it("raises the cancelling of the task that called it", function()
    local failure, caught = {}, nil
    errors.raised(allua.all, {
      settles = function()
        caught = errors.raised(all_settled, {
          a = function()
            allua.sleep(60)
          end,
        })
        error(caught)
      end,
      bad = function()
        allua.sleep(0.01)
        error(failure)
      end,
    })
    assert.is_true(allua.is_error(caught, "CancelledError"))
    assert.equal(failure, caught.reason)
  end)
end)
