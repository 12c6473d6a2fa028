-- allua.retry: how often, after how long, and what is not tried again.

local allua = require("allua")
local errors = require("spec.support.errors")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local all = allua.all

local tick = 0.002

--- A function that fails until its n-th call, and the number of its calls.
local function failing_until(n)
  local calls = { count = 0 }
  return function()
    calls.count = calls.count + 1
    if calls.count < n then
      error({ call = calls.count })
    end
    return "done", nil, calls.count
  end,
    calls
end

describe("allua.retry", function()
  it("returns all the values of the call that succeeds", function()
    local fn, calls = failing_until(1)
    assert.same({ n = 3, "done", nil, 1 }, table.pack(allua.retry(fn)))
    assert.equal(1, calls.count)
  end)

  it("calls fn again until it succeeds", function()
    local fn, calls = failing_until(4)
    assert.equal("done", (allua.retry(fn, { attempts = 10, delay = 0 })))
    assert.equal(4, calls.count)
  end)

  it("raises the very error of the last attempt", function()
    local fn, calls = failing_until(math.huge)
    local err = errors.raised(allua.retry, fn, { attempts = 5, delay = 0 })
    assert.same({ call = 5 }, err)
    assert.equal(5, calls.count)
  end)

  it("makes three attempts when it is not told how many", function()
    local fn, calls = failing_until(math.huge)
    errors.raised(allua.retry, fn, { delay = 0.001 })
    assert.equal(3, calls.count)
  end)

  it("begins with a tenth of a second when it is not told how long", function()
    local fn = failing_until(3)
    local start = allua.now()
    allua.retry(fn, { jitter = false })
    assert.is_true(allua.now() - start >= 0.3 - 2 * tick)
  end)

  it("makes one attempt where one is asked for, without a delay", function()
    local fn, calls = failing_until(math.huge)
    local start = allua.now()
    errors.raised(allua.retry, fn, { attempts = 1, delay = 60, jitter = false })
    assert.equal(1, calls.count)
    assert.is_true(allua.now() - start < 30)
  end)

  it("waits in fn as any code does", function()
    local calls = 0
    assert.equal(
      "value",
      allua.retry(function()
        calls = calls + 1
        allua.sleep(0.001)
        if calls < 3 then
          error("not yet")
        end
        return "value"
      end, { delay = 0.001 })
    )
    assert.equal(3, calls)
  end)

  it("tries errors of every kind again, nil too", function()
    local values = { "text", false, {}, 3 }
    local calls = 0
    allua.retry(function()
      calls = calls + 1
      if calls <= 5 then
        error(values[calls])
      end
    end, { attempts = 10, delay = 0 })
    assert.equal(6, calls)
  end)

  it("lets other tasks run while it waits for the next attempt", function()
    local _ <close> = allua.clock.virtual() -- a slow machine does not matter
    local log = {}
    all({
      retrying = function()
        allua.retry(function()
          log[#log + 1] = "attempt"
          if #log < 3 then
            error("not yet")
          end
        end, { delay = 0.05, jitter = false })
      end,
      working = function()
        allua.sleep(0.01)
        log[#log + 1] = "work"
      end,
    })
    assert.same({ "attempt", "work", "attempt" }, log)
  end)
end)

describe("the delay", function()
  local function gaps(options)
    local times = {}
    errors.raised(allua.retry, function()
      times[#times + 1] = allua.now()
      error("again")
    end, options)
    local list = {}
    for i = 2, #times do
      list[i - 1] = times[i] - times[i - 1]
    end
    return list
  end

  it("grows by the factor", function()
    local got = gaps({ attempts = 4, delay = 0.02, factor = 3, jitter = false })
    assert.is_true(got[1] >= 0.02 - tick)
    assert.is_true(got[2] >= 0.06 - tick)
    assert.is_true(got[3] >= 0.18 - tick)
    assert.is_true(got[1] < 5)
  end)

  it("doubles when no factor is given", function()
    local got = gaps({ attempts = 4, delay = 0.03, jitter = false })
    assert.is_true(got[1] >= 0.03 - tick)
    assert.is_true(got[2] >= 0.06 - tick)
    assert.is_true(got[3] >= 0.12 - tick)
  end)

  it("stays as it is with a factor of one", function()
    local start = allua.now()
    gaps({ attempts = 11, delay = 0.01, factor = 1, jitter = false })
    local took = allua.now() - start
    assert.is_true(took >= 0.1 - 10 * tick)
    -- With a factor of two it would have been over ten seconds.
    assert.is_true(took < 5)
  end)

  it("is never longer than max_delay", function()
    local start = allua.now()
    local got = gaps({ attempts = 5, delay = 60, max_delay = 0.01, jitter = false })
    assert.is_true(allua.now() - start < 30)
    for _, gap in ipairs(got) do
      assert.is_true(gap >= 0.01 - tick)
    end
  end)

  it("is anything from nothing to its full length with jitter, as it is by default", function()
    local full = 0.5
    for _, jitter in ipairs({ true, "default" }) do
      if jitter == "default" then
        jitter = nil
      end
      local tasks = {}
      for i = 1, 40 do
        tasks[i] = function()
          return gaps({ attempts = 2, delay = full, jitter = jitter })[1]
        end
      end
      local delays = all(tasks)
      table.sort(delays)
      assert.is_true(delays[40] > full / 4, "none is long")
      assert.is_true(delays[40] - delays[1] > full / 10, "all are the same")
      if size.full then
        assert.is_true(delays[1] < full / 2, "none is short")
        assert.is_true(delays[40] < full + 5, "one is too long")
      end
    end
  end)
end)

describe("when", function()
  it("is asked with the error and the number of the attempt that failed", function()
    local fn = failing_until(math.huge)
    local asked = {}
    local err = errors.raised(allua.retry, fn, {
      attempts = 10,
      delay = 0,
      when = function(err, attempt)
        asked[#asked + 1] = { err.call, attempt }
        return attempt < 3
      end,
    })
    assert.same({ { 1, 1 }, { 2, 2 }, { 3, 3 } }, asked)
    assert.same({ call = 3 }, err)
  end)

  it("does not make it go on beyond the attempts", function()
    local fn, calls = failing_until(math.huge)
    errors.raised(allua.retry, fn, {
      attempts = 2,
      delay = 0,
      when = function()
        return true
      end,
    })
    assert.equal(2, calls.count)
  end)

  it("may wait, and raises what it raises", function()
    local boom = {}
    local fn, calls = failing_until(math.huge)
    local err = errors.raised(allua.retry, fn, {
      delay = 0,
      when = function()
        allua.sleep(0.001)
        error(boom)
      end,
    })
    assert.equal(boom, err)
    assert.equal(1, calls.count)
  end)
end)

describe("a cancelling", function()
  --- Starts fn in a retry as a task, cancels it after a moment and returns the error and the calls.
  local function cancelled(fn, options)
    local calls = 0
    local task = allua.spawn(allua.retry, function()
      calls = calls + 1
      fn()
    end, options)
    allua.sleep(0.01)
    task:cancel("stop")
    return errors.raised(task.await, task), calls
  end

  it("in fn is never tried again, nor shown to when", function()
    local asked = false
    local err, calls = cancelled(function()
      allua.sleep(60)
    end, {
      attempts = 100,
      delay = 0,
      when = function()
        asked = true
        return true
      end,
    })
    assert.is_true(allua.is_error(err, "CancelledError"))
    assert.equal("stop", err.reason)
    assert.equal(1, calls)
    assert.is_false(asked)
  end)

  it("ends the delay", function()
    local err, calls = cancelled(error, { attempts = 100, delay = 60, jitter = false })
    assert.is_true(allua.is_error(err, "CancelledError"))
    assert.equal(1, calls)
  end)

  it("is not tried again though fn turns it into another error", function()
    local _, calls = cancelled(function()
      pcall(allua.sleep, 60)
      error("another")
    end, { attempts = 100, delay = 0 })
    assert.equal(1, calls)
  end)

  it("by a timeout around it ends it", function()
    local calls = 0
    local err = errors.raised(allua.timeout, 0.01, allua.retry, function()
      calls = calls + 1
      allua.sleep(60)
    end, { attempts = 100, delay = 0 })
    assert.is_true(allua.is_error(err, "TimeoutError"))
    assert.equal(1, calls)
  end)

  it("by a timeout inside fn is a failure like any other", function()
    local calls = 0
    local err = errors.raised(allua.retry, function()
      calls = calls + 1
      allua.timeout(0.002, allua.sleep, 60)
    end, { attempts = 3, delay = 0 })
    assert.is_true(allua.is_error(err, "TimeoutError"))
    assert.equal(3, calls)
  end)
end)

describe("retry's arguments", function()
  local function refused(options, words)
    local called = false
    local err = errors.raised(allua.retry, function()
      called = true
    end, options)
    assert.is_false(called)
    assert.is_true(errors.says(err, words), tostring(err))
  end

  it("are refused where they are of the wrong kind", function()
    refused({ attempts = "many" }, "attempts")
    refused({ attempts = 0 }, "attempts")
    refused({ attempts = -1 }, "attempts")
    refused({ attempts = 1.5 }, "attempts")
    refused({ attempts = 0 / 0 }, "attempts")
    refused({ delay = "long" }, "delay")
    refused({ delay = -1 }, "delay")
    refused({ delay = 0 / 0 }, "delay")
    refused({ factor = "two" }, "factor")
    refused({ factor = -2 }, "factor")
    refused({ max_delay = {} }, "max_delay")
    refused({ max_delay = -1 }, "max_delay")
    refused({ jitter = "some" }, "jitter")
    refused({ when = 3 }, "when")
    refused("no table", "retry")
  end)

  it("are refused where they are unknown, with the near name", function()
    refused({ attemps = 3 }, 'did you mean "attempts"')
    refused({ max_dealy = 3 }, 'did you mean "max_delay"')
    refused({ wibble = 3 }, "wibble")
  end)

  it("begin with a function", function()
    assert.is_true(errors.says(errors.raised(allua.retry), "retry"))
    assert.is_true(errors.says(errors.raised(allua.retry, 3), "retry"))
  end)
end)
