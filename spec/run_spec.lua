-- allua.run: a root task, from its start to the end of all that it started.

local allua = require("allua")
local errors = require("spec.support.errors")

require("spec.support.leftovers")()

describe("allua.run", function()
  it("gives fn its arguments and returns all its values when it has ended", function()
    local values = table.pack(allua.run(function(...)
      allua.sleep(0.002)
      return ...
    end, nil, "two", nil))
    assert.same({ n = 3, nil, "two", nil }, values)
  end)

  it("raises fn's very error", function()
    local boom = {}
    assert.equal(
      boom,
      errors.raised(allua.run, function()
        allua.sleep(0.001)
        error(boom)
      end)
    )
    assert.is_nil(errors.raised(allua.run, error))
  end)

  it("lets other tasks run meanwhile", function()
    local log = {}
    allua.all({
      function()
        allua.run(function()
          allua.sleep(0.02)
          log[#log + 1] = "run"
        end)
      end,
      function()
        allua.sleep(0.005)
        log[#log + 1] = "other"
      end,
    })
    assert.same({ "other", "run" }, log)
  end)

  it("waits for the tasks that fn spawned, which it does not cancel", function()
    local log = {}
    local value = allua.run(function()
      allua.spawn(function()
        allua.sleep(0.01)
        log[#log + 1] = "spawned"
      end)
      log[#log + 1] = "root"
      return "value"
    end)
    log[#log + 1] = "after"
    assert.equal("value", value)
    assert.same({ "root", "spawned", "after" }, log)
  end)

  it("cancels the tasks that fn spawned where fn fails", function()
    local ended
    local err = errors.raised(allua.run, function()
      allua.spawn(function()
        local _, caught = pcall(allua.sleep, 60)
        ended = caught
        error(caught, 0)
      end)
      allua.yield()
      error("boom", 0)
    end)
    assert.equal("boom", err)
    assert.is_true(allua.is_error(ended, "CancelledError"))
  end)

  it("looks to fn as a main chunk does", function()
    allua.run(function()
      local _, main = coroutine.running()
      assert.is_true(main)
      assert.is_false(coroutine.isyieldable())
    end)
  end)

  it("runs inside a run", function()
    assert.equal(
      "inner",
      allua.run(function()
        return allua.run(function()
          allua.sleep(0.001)
          return "inner"
        end)
      end)
    )
  end)

  it("is a wait: a cancelling of the task that calls it cancels fn", function()
    local caught
    local task = allua.spawn(allua.run, function()
      local _, err = pcall(allua.sleep, 60)
      caught = err
      error(err, 0)
    end)
    allua.sleep(0.005)
    task:cancel("stop")
    local err = errors.raised(task.await, task)
    assert.is_true(allua.is_error(err, "CancelledError"))
    assert.is_true(allua.is_error(caught, "CancelledError"))
  end)

  it("wants a function", function()
    assert.is_true(errors.says(errors.raised(allua.run), "run"))
    assert.is_true(errors.says(errors.raised(allua.run, 3), "run"))
  end)
end)
