-- allua.timeout: deadlines, what they cover, and which of several holds.

local allua = require("allua")
local core = require("allua.core")
local errors = require("spec.support.errors")

require("spec.support.leftovers")()

local all = allua.all

local function on_close(fn)
  return setmetatable({}, { __close = fn })
end

local function assert_timeout(err)
  assert.is_true(allua.is_error(err, "TimeoutError"), tostring(err))
end

describe("allua.timeout", function()
  it("gives fn its arguments and returns all its values", function()
    local values = table.pack(allua.timeout(60, function(...)
      allua.sleep(0.001)
      return ...
    end, nil, "two", nil))
    assert.same({ n = 3, nil, "two", nil }, values)
  end)

  it("raises fn's very error", function()
    local boom = {}
    assert.equal(
      boom,
      errors.raised(allua.timeout, 60, function()
        allua.sleep(0.001)
        error(boom)
      end)
    )
    assert.is_nil(errors.raised(allua.timeout, 60, error))
  end)

  it("raises a TimeoutError with a name, a message and the form name: message", function()
    local err = errors.raised(allua.timeout, 0.005, allua.sleep, 60)
    assert_timeout(err)
    assert.equal("TimeoutError", err.name)
    assert.is_string(err.message)
    assert.equal("TimeoutError: " .. err.message, tostring(err))
  end)

  it("cancels fn at its wait, because of the timeout", function()
    local caught, closed
    local err = errors.raised(allua.timeout, 0.005, function()
      local _ <close> = on_close(function()
        closed = true
      end)
      local _, inner = pcall(allua.sleep, 60)
      caught = inner
      error(inner, 0)
    end)
    assert_timeout(err)
    assert.is_true(allua.is_error(caught, "CancelledError"))
    assert_timeout(caught.reason)
    assert.is_true(closed)
  end)

  it("raises once fn has ended, not before and not long after the deadline", function()
    local ended
    local start = allua.now()
    errors.raised(allua.timeout, 0.02, function()
      local _ <close> = on_close(function()
        ended = true
      end)
      allua.sleep(60)
    end)
    local took = allua.now() - start
    assert.is_true(ended)
    assert.is_true(took >= 0.018 and took < 30, tostring(took))
  end)

  it("raises a TimeoutError though fn swallows its cancelling and returns late", function()
    local swallowed
    assert_timeout(errors.raised(allua.timeout, 0.005, function()
      swallowed = not pcall(allua.sleep, 60)
      return "late"
    end))
    assert.is_true(swallowed)
  end)

  it("raises a TimeoutError though fn turns its cancelling into an error of its own", function()
    assert_timeout(errors.raised(allua.timeout, 0.005, function()
      pcall(allua.sleep, 60)
      error("an error of my own")
    end))
  end)

  it("cancels each later wait of fn's too", function()
    local waits = 0
    assert_timeout(errors.raised(allua.timeout, 0.005, function()
      for _ = 1, 3 do
        if not pcall(allua.sleep, 60) then
          waits = waits + 1
        end
      end
    end))
    assert.equal(3, waits)
  end)

  it("leaves the task free when it is over", function()
    errors.raised(allua.timeout, 0.005, function()
      pcall(allua.sleep, 60)
      pcall(allua.sleep, 60)
    end)
    assert.is_nil(allua.sleep(0.001))
    assert.equal(
      "again",
      allua.timeout(60, function()
        allua.sleep(0.001)
        return "again"
      end)
    )
  end)

  it("does not strike after fn has returned in time", function()
    allua.timeout(0.01, function() end)
    allua.sleep(0.03)
  end)

  it("leaves no timer behind, in time or late", function()
    local before = core.census().timers
    allua.timeout(3600, function() end)
    pcall(allua.timeout, 3600, error)
    pcall(allua.timeout, 0.001, allua.sleep, 3600)
    assert.equal(before, core.census().timers)
  end)

  it("covers a wait of any kind", function()
    local never = allua.promise()
    assert_timeout(errors.raised(allua.timeout, 0.005, never.await, never))
    assert_timeout(errors.raised(allua.timeout, 0.005, function()
      while true do
        allua.yield()
      end
    end))
    assert_timeout(errors.raised(allua.timeout, 0.005, allua.promisify(function() end)))
    assert_timeout(errors.raised(
      allua.timeout,
      0.005,
      coroutine.wrap(function()
        allua.sleep(60)
      end)
    ))
  end)

  it("covers the groups that fn starts, however deep", function()
    local log = {}
    assert_timeout(errors.raised(allua.timeout, 0.02, function()
      all({
        outer = function()
          all({
            inner = function()
              local _ <close> = on_close(function(_, err)
                log[#log + 1] = err
              end)
              allua.sleep(60)
            end,
          })
        end,
      })
    end))
    assert.equal(1, #log)
    assert.is_true(allua.is_error(log[1], "CancelledError"))
  end)

  it("covers the tasks that fn spawns", function()
    local ended
    assert_timeout(errors.raised(allua.timeout, 0.02, function()
      local task = allua.spawn(function()
        local _ <close> = on_close(function(_, err)
          ended = err
        end)
        allua.sleep(60)
      end)
      task:await()
    end))
    assert.is_true(allua.is_error(ended, "CancelledError"))
  end)

  it("covers a task of a group alone where that task asks for it", function()
    local result = all({
      slow = function()
        allua.sleep(0.03)
        return "slow"
      end,
      limited = function()
        local ok, err = pcall(allua.timeout, 0.005, allua.sleep, 60)
        return not ok and err.name
      end,
    })
    assert.same({ slow = "slow", limited = "TimeoutError" }, result)
  end)

  it("covers the wait for a sibling, which goes on", function()
    local result = all({
      slow = function()
        allua.sleep(0.1)
        return "slow"
      end,
      reader = function(self)
        local ok, err = pcall(allua.timeout, 0.005, function()
          return self.slow
        end)
        assert.is_false(ok)
        assert_timeout(err)
        return self.slow
      end,
    })
    assert.same({ slow = "slow", reader = "slow" }, result)
  end)

  it("of zero seconds gives no time to wait", function()
    assert_timeout(errors.raised(allua.timeout, 0, allua.sleep, 60))
  end)

  it("takes fractions of a second, and more seconds than anybody has", function()
    local start = allua.now()
    assert_timeout(errors.raised(allua.timeout, 0.015, allua.sleep, 60))
    assert.is_true(allua.now() - start >= 0.013)
    assert.equal(
      1,
      allua.timeout(1e15, function()
        allua.sleep(0.001)
        return 1
      end)
    )
    assert.equal(
      2,
      allua.timeout(math.huge, function()
        allua.sleep(0.001)
        return 2
      end)
    )
  end)

  it("refuses what is not a number of seconds, or not a function", function()
    for _, bad in ipairs({ "soon", {}, true, 0 / 0, -1 }) do
      local called = false
      local err = errors.raised(allua.timeout, bad, function()
        called = true
      end)
      assert.is_true(errors.says(err, "timeout"), tostring(err))
      assert.is_false(called)
    end
    assert.is_true(errors.says(errors.raised(allua.timeout), "timeout"))
    assert.is_true(errors.says(errors.raised(allua.timeout, 1), "timeout"))
    assert.is_true(errors.says(errors.raised(allua.timeout, 1, "no function"), "timeout"))
  end)
end)

describe("of nested timeouts", function()
  it("an earlier outer one holds: it is the outer call that raises", function()
    local inner_error
    local start = allua.now()
    local err = errors.raised(allua.timeout, 0.01, function()
      inner_error = errors.raised(allua.timeout, 60, allua.sleep, 60)
      error(inner_error, 0)
    end)
    assert_timeout(err)
    assert.is_true(allua.is_error(inner_error, "CancelledError"))
    assert.is_true(allua.now() - start < 30)
  end)

  it("an earlier inner one holds: fn goes on with what is left", function()
    local value = allua.timeout(60, function()
      local err = errors.raised(allua.timeout, 0.01, allua.sleep, 60)
      assert_timeout(err)
      allua.sleep(0.001)
      return "went on"
    end)
    assert.equal("went on", value)
  end)

  it("the inner call raises its own error, the outer call another", function()
    local inner
    local outer = errors.raised(allua.timeout, 0.1, function()
      inner = errors.raised(allua.timeout, 0.01, allua.sleep, 60)
      allua.sleep(60)
    end)
    assert_timeout(inner)
    assert_timeout(outer)
    assert.not_equal(inner, outer)
  end)

  it("one deadline after another may pass", function()
    local passed = {}
    local function nested(depth)
      if depth == 0 then
        allua.sleep(60)
      end
      local ok, err = pcall(allua.timeout, 0.03 * depth, nested, depth - 1)
      passed[#passed + 1] = not ok and err.name
      allua.sleep(60)
    end
    assert_timeout(errors.raised(allua.timeout, 0.15, nested, 4))
    assert.equal("TimeoutError", passed[1])
  end)

  it("an outer one that was set by another task covers this one", function()
    local names = {}
    assert_timeout(errors.raised(allua.timeout, 0.01, function()
      all({
        a = function()
          local _, err = pcall(allua.timeout, 60, allua.sleep, 60)
          names.a = err.name
          error(err, 0)
        end,
        b = function()
          local _, err = pcall(allua.timeout, 60, allua.sleep, 60)
          names.b = err.name
          error(err, 0)
        end,
      })
    end))
    assert.same({ a = "CancelledError", b = "CancelledError" }, names)
  end)
end)

describe("a group's timeout", function()
  it("raises a TimeoutError that names the tasks still running", function()
    local err = errors.raised(all, {
      quick = function()
        return 1
      end,
      slow_one = function()
        allua.sleep(60)
      end,
      slow_two = function()
        allua.sleep(60)
      end,
    }, { timeout = 0.01 })
    assert_timeout(err)
    assert.matches("slow_one", err.message, 1, true)
    assert.matches("slow_two", err.message, 1, true)
    assert.not_matches("quick", err.message, 1, true)
  end)
end)

describe("allua.is_error", function()
  it("tells allua's errors apart by name", function()
    local timeout = errors.raised(allua.timeout, 0.001, allua.sleep, 60)
    assert.is_true(allua.is_error(timeout, "TimeoutError"))
    assert.is_false(allua.is_error(timeout, "CancelledError"))
    local aggregate = errors.raised(allua.any, {})
    assert.is_true(allua.is_error(aggregate, "AggregateError"))
    assert.is_false(allua.is_error(aggregate, "TimeoutError"))
  end)

  it("is false for any other value", function()
    for _, value in ipairs({ "TimeoutError: no", 3, true, {}, print }) do
      assert.is_false(allua.is_error(value, "TimeoutError"))
    end
    assert.is_false(allua.is_error(nil, "TimeoutError"))
  end)
end)
