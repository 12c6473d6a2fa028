-- allua.shield: work that is finished although its task is cancelled.

local allua = require("allua")
local errors = require("spec.support.errors")

require("spec.support.leftovers")()

local all = allua.all

local function on_close(fn)
  return setmetatable({}, { __close = fn })
end

--- Starts fn as a task, cancels it at its first wait and returns the error that it ends with, if any.
local function cancelled(fn)
  local task = allua.spawn(fn)
  allua.yield()
  task:cancel("stop")
  local ok, err = pcall(task.await, task)
  return not ok and err or nil
end

--- The reason of the cancelling that this task finds at its next wait, or nil.
local function told()
  local ok, err = pcall(allua.yield)
  return not ok and err.reason or nil
end

describe("allua.shield", function()
  it("gives fn its arguments and returns all its values", function()
    local values = table.pack(allua.shield(function(...)
      allua.sleep(0.001)
      return ...
    end, 1, nil, "three", nil))
    assert.same({ n = 4, 1, nil, "three", nil }, values)
  end)

  it("raises fn's very error", function()
    local boom = {}
    assert.equal(
      boom,
      errors.raised(allua.shield, function()
        allua.sleep(0.001)
        error(boom)
      end)
    )
  end)

  it("wants a function", function()
    for _, bad in ipairs({ 3, "no function", {} }) do
      local err = errors.raised(function()
        allua.shield(bad)
      end)
      assert.is_true(errors.says(err, "shield"), tostring(err))
    end
    assert.is_false(pcall(allua.shield))
  end)

  it("changes nothing for a task that nobody cancels", function()
    assert.equal(
      "value",
      allua.shield(allua.shield, function()
        return "value"
      end)
    )
    assert.is_nil(told())
  end)

  it("lets fn finish when the task is cancelled meanwhile; the next wait raises", function()
    local finished, went_on = false, false
    local err = cancelled(function()
      allua.shield(function()
        allua.sleep(0.02)
        finished = true
      end)
      allua.sleep(60)
      went_on = true
    end)
    assert.is_true(finished)
    assert.is_false(went_on)
    assert.is_true(allua.is_error(err, "CancelledError"))
    assert.equal("stop", err.reason)
  end)

  it("lets what follows a pcall wait, and gives its values", function()
    local caught, value, after
    cancelled(function()
      caught = not pcall(allua.sleep, 60)
      value = allua.shield(function()
        allua.sleep(0.005)
        allua.yield()
        return "rolled back"
      end)
      after = told()
    end)
    assert.is_true(caught)
    assert.equal("rolled back", value)
    assert.equal("stop", after)
  end)

  it("lets a <close> handler wait", function()
    local log = {}
    cancelled(function()
      local _ <close> = on_close(function()
        log[#log + 1] = "begin"
        allua.shield(function()
          allua.sleep(0.005)
          log[#log + 1] = "waited"
        end)
        log[#log + 1] = told()
      end)
      allua.sleep(60)
    end)
    assert.same({ "begin", "waited", "stop" }, log)
  end)

  it("lets the <close> handler of a generator wait, two deep too", function()
    local log = {}
    local function cleaning(name)
      return on_close(function(_, err)
        allua.shield(allua.sleep, 0.005)
        log[#log + 1] = name .. " " .. tostring(err and err.reason)
      end)
    end
    cancelled(function()
      local _ <close> = cleaning("task")
      local outer = coroutine.wrap(function()
        local _ <close> = cleaning("outer")
        local inner = coroutine.wrap(function()
          local _ <close> = cleaning("inner")
          coroutine.yield("one")
          allua.sleep(60)
        end)
        coroutine.yield(inner())
        inner()
      end)
      log[#log + 1] = outer()
      outer()
    end)
    assert.same({ "one", "inner stop", "outer stop", "task stop" }, log)
  end)

  it("gives values and errors back inside a cancelled task too", function()
    local boom = {}
    local values, err
    cancelled(function()
      pcall(allua.sleep, 60)
      values = table.pack(allua.shield(function()
        allua.sleep(0.001)
        return nil, 2
      end))
      err = errors.raised(allua.shield, function()
        allua.sleep(0.001)
        error(boom)
      end)
    end)
    assert.same({ n = 2, nil, 2 }, values)
    assert.equal(boom, err)
  end)

  it("holds to its end when an inner shield ends", function()
    local log = {}
    cancelled(function()
      pcall(allua.sleep, 60)
      allua.shield(function()
        allua.shield(allua.sleep, 0.002)
        log[#log + 1] = "inner over"
        pcall(allua.shield, error)
        log[#log + 1] = "inner failed"
        allua.sleep(0.002)
        log[#log + 1] = "still held"
      end)
      log[#log + 1] = told()
    end)
    assert.same({ "inner over", "inner failed", "still held", "stop" }, log)
  end)

  it("ends with its error: the next wait raises again", function()
    local after
    cancelled(function()
      pcall(allua.sleep, 60)
      pcall(allua.shield, error, "boom")
      after = told()
    end)
    assert.equal("stop", after)
  end)

  it("holds inside a generator that fn makes", function()
    local got = {}
    cancelled(function()
      pcall(allua.sleep, 60)
      allua.shield(function()
        for i in
          coroutine.wrap(function()
            for i = 1, 3 do
              allua.sleep(0.001)
              coroutine.yield(i)
            end
          end)
        do
          got[#got + 1] = i
        end
      end)
    end)
    assert.same({ 1, 2, 3 }, got)
  end)

  it("holds for the groups and tasks that fn starts", function()
    local got, spawned
    cancelled(function()
      allua.shield(function()
        got = all({
          a = function()
            allua.sleep(0.01)
            return "a"
          end,
          b = function(self)
            return self.a .. "b"
          end,
        })
        spawned = allua
          .spawn(function()
            allua.sleep(0.005)
            return "spawned"
          end)
          :await()
      end)
      allua.sleep(60)
    end)
    assert.same({ a = "a", b = "ab" }, got)
    assert.equal("spawned", spawned)
  end)

  it("does not hold back a timeout that begins inside it", function()
    local plain = errors.raised(allua.shield, allua.timeout, 0.005, allua.sleep, 60)
    assert.is_true(allua.is_error(plain, "TimeoutError"))
    local inside
    cancelled(function()
      pcall(allua.sleep, 60)
      inside = errors.raised(allua.shield, allua.timeout, 0.005, allua.sleep, 60)
    end)
    assert.is_true(allua.is_error(inside, "TimeoutError"))
  end)

  it("holds back a timeout that began outside it", function()
    local finished = false
    local err = errors.raised(allua.timeout, 0.005, allua.shield, function()
      allua.sleep(0.03)
      finished = true
    end)
    assert.is_true(allua.is_error(err, "TimeoutError"))
    assert.is_true(finished)
  end)

  it("is waited for by the group, whose other tasks are cancelled at once", function()
    local log = {}
    local err = errors.raised(all, {
      failing = function()
        allua.sleep(0.005)
        error("boom", 0)
      end,
      plain = function()
        local _ <close> = on_close(function()
          log[#log + 1] = "plain ends"
        end)
        allua.sleep(60)
      end,
      shielded = function()
        allua.shield(allua.sleep, 0.05)
        log[#log + 1] = "shield ends"
      end,
    })
    log[#log + 1] = "group ends"
    assert.equal("boom", err)
    assert.same({ "plain ends", "shield ends", "group ends" }, log)
  end)
end)
