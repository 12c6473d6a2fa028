-- Abort controllers and their signals.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local all = allua.all

describe("a signal", function()
  it("begins not aborted", function()
    local signal = allua.abort_controller().signal
    assert.is_false(signal.aborted)
    assert.is_nil(signal.reason)
    signal:throw_if_aborted()
  end)

  it("belongs to its controller for good", function()
    local controller = allua.abort_controller()
    assert.equal(controller.signal, controller.signal)
    assert.not_equal(controller.signal, allua.abort_controller().signal)
  end)

  it("is aborted by its controller, with the reason", function()
    local controller = allua.abort_controller()
    local reason = {}
    controller:abort(reason)
    assert.is_true(controller.signal.aborted)
    assert.equal(reason, controller.signal.reason)
  end)

  it("is aborted once: a later abort changes nothing", function()
    local controller = allua.abort_controller()
    local calls = 0
    controller.signal:on_abort(function()
      calls = calls + 1
    end)
    controller:abort("first")
    controller:abort("second")
    assert.equal("first", controller.signal.reason)
    assert.equal(1, calls)
  end)

  it("raises its very reason in throw_if_aborted", function()
    local controller = allua.abort_controller()
    local reason = {}
    controller:abort(reason)
    assert.equal(reason, errors.raised(controller.signal.throw_if_aborted, controller.signal))
  end)

  it("that is aborted without a reason has one all the same", function()
    local controller = allua.abort_controller()
    controller:abort()
    local signal = controller.signal
    assert.is_true(signal.aborted)
    assert.is_true(allua.is_error(signal.reason, "AbortError"))
    assert.equal(signal.reason, errors.raised(signal.throw_if_aborted, signal))
  end)
end)

describe("signal:on_abort", function()
  it("calls every listener, in the order in which they came, with the signal aborted", function()
    local controller = allua.abort_controller()
    local signal = controller.signal
    local log = {}
    for i = 1, 5 do
      signal:on_abort(function()
        log[#log + 1] = { i, signal.aborted, signal.reason }
      end)
    end
    assert.same({}, log)
    controller:abort("why")
    assert.same(
      { { 1, true, "why" }, { 2, true, "why" }, { 3, true, "why" }, { 4, true, "why" }, { 5, true, "why" } },
      log
    )
  end)

  it("gives the listener the reason", function()
    local controller = allua.abort_controller()
    local reason, got = {}, nil
    controller.signal:on_abort(function(given)
      got = given
    end)
    controller:abort(reason)
    assert.equal(reason, got)
  end)

  it("returns a function that removes the listener, however often it is called", function()
    local controller = allua.abort_controller()
    local log = {}
    local removers = {}
    for i = 1, 4 do
      removers[i] = controller.signal:on_abort(function()
        log[#log + 1] = i
      end)
    end
    removers[2]()
    removers[2]()
    removers[4]()
    controller:abort()
    assert.same({ 1, 3 }, log)
    removers[1]()
  end)

  it("tells apart two listeners that are one function", function()
    local controller = allua.abort_controller()
    local calls = 0
    local function listener()
      calls = calls + 1
    end
    local remove = controller.signal:on_abort(listener)
    controller.signal:on_abort(listener)
    remove()
    controller:abort()
    assert.equal(1, calls)
  end)

  it("calls a listener at once where the signal is aborted already", function()
    local controller = allua.abort_controller()
    controller:abort("before")
    local got
    local remove = controller.signal:on_abort(function(reason)
      got = reason
    end)
    assert.equal("before", got)
    remove()
  end)

  it("lets a listener remove one that comes after it", function()
    local controller = allua.abort_controller()
    local log = {}
    local remove_second
    controller.signal:on_abort(function()
      log[#log + 1] = "first"
      remove_second()
    end)
    remove_second = controller.signal:on_abort(function()
      log[#log + 1] = "second"
    end)
    controller.signal:on_abort(function()
      log[#log + 1] = "third"
    end)
    controller:abort()
    assert.same({ "first", "third" }, log)
  end)

  it("calls at once a listener that a listener adds", function()
    local controller = allua.abort_controller()
    local log = {}
    controller.signal:on_abort(function()
      log[#log + 1] = "outer begins"
      controller.signal:on_abort(function()
        log[#log + 1] = "added"
      end)
      log[#log + 1] = "outer ends"
    end)
    controller:abort()
    assert.same({ "outer begins", "added", "outer ends" }, log)
  end)

  it("goes on after a listener that fails, whose error is told by warn", function()
    local got = host.eval([[
          local controller = allua.abort_controller()
          controller.signal:on_abort(function() print "first" end)
          controller.signal:on_abort(function() error "the listener's trouble" end)
          controller.signal:on_abort(function() print "third" end)
          controller:abort "why"
          print("aborted", controller.signal.reason)
        ]])
    assert.equal("first\nthird\naborted\twhy\n", got.out)
    assert.matches("the listener's trouble", got.err, 1, true)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)

  it("wants a function", function()
    local signal = allua.abort_controller().signal
    for _, bad in ipairs({ "no function", 3, {}, true }) do
      local err = errors.raised(function()
        signal:on_abort(bad)
      end)
      assert.matches("on_abort", err, 1, true)
      assert.matches("expected a function", err, 1, true)
    end
    assert.is_false(pcall(signal.on_abort, signal))
  end)

  it("keeps thousands of listeners in order as most of them go", function()
    local controller = allua.abort_controller()
    local removers, log, expected = {}, {}, {}
    local count = size.of(10000)
    for i = 1, count do
      removers[i] = controller.signal:on_abort(function()
        log[#log + 1] = i
      end)
    end
    for i = 1, count do
      if i % 10 == 0 then
        expected[#expected + 1] = i
      else
        removers[i]()
      end
    end
    controller:abort()
    assert.same(expected, log)
  end)
end)

describe("a group with a signal from outside", function()
  it("is cancelled by its abort and raises the very reason", function()
    local controller = allua.abort_controller()
    local reason = {}
    local caught
    local group = allua.spawn(all, {
      waiting = function()
        local ok, err = pcall(allua.sleep, 60)
        caught = not ok and err
        error(err, 0)
      end,
    }, { signal = controller.signal })
    allua.sleep(0.005)
    controller:abort(reason)
    assert.equal(reason, errors.raised(group.await, group))
    assert.is_true(allua.is_error(caught, "CancelledError"))
    assert.equal(reason, caught.reason)
    assert.equal("waiting", caught.task)
  end)

  it("starts nothing where the signal is aborted already", function()
    local controller = allua.abort_controller()
    controller:abort("too late")
    local started = false
    local err = errors.raised(all, {
      function()
        started = true
      end,
    }, { signal = controller.signal })
    assert.equal("too late", err)
    assert.is_false(started)
  end)

  it("leaves no listener on it when it ends", function()
    local controller = allua.abort_controller()
    local witness = setmetatable({}, { __mode = "k" })
    do
      local tasks = {
        function()
          return 1
        end,
      }
      witness[tasks[1]] = true
      all(tasks, { signal = controller.signal })
    end
    allua.yield()
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(witness))
    controller:abort()
  end)

  it("shares it with other groups: one abort ends them all", function()
    local controller = allua.abort_controller()
    local groups = {}
    for i = 1, 3 do
      groups[i] = allua.spawn(all, {
        function()
          allua.sleep(60)
        end,
      }, { signal = controller.signal })
    end
    allua.sleep(0.005)
    controller:abort("all of you")
    for i = 1, 3 do
      assert.equal("all of you", errors.raised(groups[i].await, groups[i]))
    end
  end)
end)

describe("task.signal", function()
  it("is the group's, one for all its tasks", function()
    local seen = all({
      a = function(_, task)
        return task.signal
      end,
      b = function(_, task)
        return task.signal
      end,
    })
    assert.equal(seen.a, seen.b)
    local other = all({
      function(_, task)
        return task.signal
      end,
    })
    assert.not_equal(seen.a, other[1])
  end)

  it("is not aborted while all goes well", function()
    local seen = all({
      function(_, task)
        allua.sleep(0.001)
        return task.signal.aborted
      end,
    })
    assert.is_false(seen[1])
  end)

  it("is aborted with the error of the task that failed", function()
    local boom = {}
    local heard
    local signal
    errors.raised(all, {
      listening = function(_, task)
        signal = task.signal
        signal:on_abort(function()
          heard = signal.reason
        end)
        allua.sleep(60)
      end,
      failing = function()
        allua.sleep(0.005)
        error(boom)
      end,
    })
    assert.equal(boom, heard)
    assert.is_true(signal.aborted)
    assert.equal(boom, signal.reason)
  end)

  it("is aborted with the reason of the signal from outside", function()
    local controller = allua.abort_controller()
    local signal
    local group = allua.spawn(all, {
      function(_, task)
        signal = task.signal
        allua.sleep(60)
      end,
    }, { signal = controller.signal })
    allua.sleep(0.005)
    controller:abort("from outside")
    assert.equal("from outside", errors.raised(group.await, group))
    assert.is_true(signal.aborted)
    assert.equal("from outside", signal.reason)
  end)

  it("can be handed on to a group inside", function()
    local boom = {}
    local inner_ended = false
    local err = errors.raised(all, {
      outer = function(_, task)
        local caught = errors.raised(all, {
          inner = function()
            allua.sleep(60)
          end,
        }, { signal = task.signal })
        inner_ended = true
        error(caught, 0)
      end,
      failing = function()
        allua.sleep(0.005)
        error(boom)
      end,
    })
    assert.equal(boom, err)
    assert.is_true(inner_ended)
  end)
end)
