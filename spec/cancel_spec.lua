-- Cancelling a task: what it raises, where, how often, and what ends with it.

local allua = require("allua")
local core = require("allua.core")
local errors = require("spec.support.errors")
local host = require("spec.support.host")

require("spec.support.leftovers")()

local all = allua.all

local function on_close(fn)
  return setmetatable({}, { __close = fn })
end

--- Starts fn as a task, cancels it at its first wait and returns the error that its promise gives.
local function cancelled(fn, reason)
  local task = allua.spawn(fn)
  allua.yield()
  task:cancel(reason)
  return errors.raised(task.await, task)
end

describe("a cancelled task", function()
  it("gets a CancelledError at the point where it waits", function()
    local before, after = false, false
    local err = cancelled(function()
      before = true
      allua.sleep(60)
      after = true
    end, "no longer needed")
    assert.is_true(allua.is_error(err, "CancelledError"))
    assert.is_true(before)
    assert.is_false(after)
  end)

  it("gets an error with a name, a message, a reason and the form name: message", function()
    local reason = {}
    local err = cancelled(function()
      allua.sleep(60)
    end, reason)
    assert.equal("CancelledError", err.name)
    assert.is_string(err.message)
    assert.equal(reason, err.reason)
    assert.equal("CancelledError: " .. err.message, tostring(err))
  end)

  it("gets an error whose fields are all there for pairs, though its message is made when it is read", function()
    local function sleep()
      allua.sleep(60)
    end
    local fields = {}
    for name, value in pairs(cancelled(sleep, "enough")) do
      fields[name] = value
    end
    assert.same({
      name = "CancelledError",
      message = 'task "spawned" was cancelled: enough',
      task = "spawned",
      reason = "enough",
    }, fields)
    local err = cancelled(sleep, "enough")
    assert.is_nil(err.other)
    assert.is_nil(err[1])
    assert.equal(err.message, err.message)
    err.message = "another"
    assert.equal("CancelledError: another", tostring(err))
  end)

  it("may be cancelled without a reason", function()
    local err = cancelled(function()
      allua.sleep(60)
    end)
    assert.is_true(allua.is_error(err, "CancelledError"))
    assert.equal("cancelled", err.reason)
    assert.is_string(err.message)
  end)

  it("gives its awaiters the very error that it was given", function()
    local inside
    local err = cancelled(function()
      local _, caught = pcall(allua.sleep, 60)
      inside = caught
      error(caught, 0)
    end)
    assert.equal(inside, err)
  end)

  it("is named by the error, which has the failure as its reason", function()
    local boom = { "boom" }
    local caught = {}
    local function waiting(_, task)
      local _, err = pcall(allua.sleep, 60)
      caught[task.name] = err
    end
    local err = errors.raised(all, {
      first = waiting,
      second = waiting,
      failing = function()
        allua.sleep(0.01)
        error(boom)
      end,
    })
    assert.equal(boom, err)
    assert.equal("first", caught.first.task)
    assert.equal("second", caught.second.task)
    assert.equal(boom, caught.first.reason)
    assert.equal(boom, caught.second.reason)
  end)

  it("closes its <close> variables, last first, with the error", function()
    local log = {}
    local function noting(name)
      return on_close(function(_, err)
        log[#log + 1] = name .. " " .. tostring(allua.is_error(err, "CancelledError"))
      end)
    end
    cancelled(function()
      local _ <close> = noting("outer")
      local _ <close> = noting("inner")
      allua.sleep(60)
    end)
    assert.same({ "inner true", "outer true" }, log)
  end)

  it("may catch its cancelling and still compute", function()
    local sum = 0
    local task = allua.spawn(function()
      pcall(allua.sleep, 60)
      for i = 1, 100 do
        sum = sum + i
      end
    end)
    allua.yield()
    task:cancel()
    pcall(task.await, task)
    assert.equal(5050, sum)
  end)

  it("is told again by each later wait, of every kind, until it ends", function()
    local pending = allua.promise()
    local waits = {
      sleep = function()
        allua.sleep(60)
      end,
      no_sleep = function()
        allua.sleep(0)
      end,
      yield = allua.yield,
      await = function()
        pending:await()
      end,
      all = function()
        all({
          function()
            allua.sleep(60)
          end,
        })
      end,
      timeout = function()
        allua.timeout(60, allua.sleep, 60)
      end,
      promisify = allua.promisify(function() end),
      generator = function()
        coroutine.wrap(function()
          allua.sleep(60)
        end)()
      end,
    }
    local told = {}
    cancelled(function()
      pcall(allua.sleep, 60)
      for name, wait in pairs(waits) do
        local ok, err = pcall(wait)
        told[name] = not ok and allua.is_error(err, "CancelledError") and err.reason
      end
      allua.sleep(60)
    end, "enough")
    for name in pairs(waits) do
      assert.equal("enough", told[name], name)
    end
  end)

  it("keeps its first reason when it is cancelled again", function()
    local reasons = {}
    local task = allua.spawn(function()
      for i = 1, 2 do
        local _, err = pcall(allua.sleep, 60)
        reasons[i] = err.reason
      end
    end)
    allua.yield()
    task:cancel("first")
    task:cancel("second")
    pcall(task.await, task)
    assert.same({ "first", "first" }, reasons)
  end)

  it("never starts where it has not started yet", function()
    local started = false
    local task = allua.spawn(function()
      started = true
    end)
    task:cancel("too early")
    local err = errors.raised(task.await, task)
    assert.is_true(allua.is_error(err, "CancelledError"))
    assert.equal("too early", err.reason)
    assert.is_false(started)
  end)

  it("never starts where its group fails before its turn", function()
    local started = false
    errors.raised(all, {
      function()
        allua.sleep(0.01)
        error("boom")
      end,
      function()
        started = true
      end,
    }, { concurrency = 1 })
    assert.is_false(started)
  end)

  it("may cancel itself: its next wait raises", function()
    local task, reached
    task = allua.spawn(function()
      task:cancel("my own doing")
      reached = true
      allua.sleep(60)
    end)
    local err = errors.raised(task.await, task)
    assert.is_true(reached)
    assert.equal("my own doing", err.reason)
  end)

  it("that has ended stays as it is", function()
    local task = allua.spawn(function()
      return "done"
    end)
    assert.equal("done", task:await())
    task:cancel("too late")
    assert.equal("fulfilled", task.status)
    assert.equal("done", task:await())
  end)

  it("does not take along the task that awaits it", function()
    cancelled(function()
      allua.sleep(60)
    end)
    local start = allua.now()
    allua.sleep(0.01)
    assert.is_true(allua.now() - start >= 0.008)
  end)

  it("does not settle the promise that it awaited", function()
    local promise = allua.promise()
    cancelled(function()
      promise:await()
    end)
    assert.equal("pending", promise.status)
    promise:resolve("for the others")
    assert.equal("for the others", promise:await())
  end)

  it("takes its groups along, to the last task, before it ends", function()
    local log = {}
    local function waiting(name)
      return function()
        local _ <close> = on_close(function()
          log[#log + 1] = name
        end)
        log[#log + 1] = "begin"
        allua.sleep(60)
      end
    end
    local task = allua.spawn(function()
      local _ <close> = on_close(function()
        log[#log + 1] = "task"
      end)
      all({
        outer = function()
          all({ inner = waiting("inner") })
        end,
        other = waiting("other"),
      })
    end)
    while #log < 2 do
      allua.yield()
    end
    task:cancel()
    errors.raised(task.await, task)
    assert.equal("task", table.remove(log))
    table.sort(log)
    assert.same({ "begin", "begin", "inner", "other" }, log)
  end)

  it("is told inside the coroutines of its own, two deep", function()
    local log = {}
    local function noting(name)
      return on_close(function(_, err)
        log[#log + 1] = name .. " " .. tostring(err and err.reason)
      end)
    end
    local err = cancelled(function()
      local _ <close> = noting("task")
      for _ in
        coroutine.wrap(function()
          local _ <close> = noting("outer generator")
          coroutine.wrap(function()
            local _ <close> = noting("inner generator")
            allua.sleep(60)
          end)()
        end)
      do
        error("unreachable")
      end
    end, "why")
    assert.equal("why", err.reason)
    assert.same({ "inner generator why", "outer generator why", "task why" }, log)
  end)
end)

describe("what a task waits for", function()
  it("ends with it: no timer, task or handle is left", function()
    local before = core.census()
    local value = allua.race({
      function()
        allua.sleep(3600)
      end,
      function()
        allua.sleep(0.005)
        return "quick"
      end,
    })
    assert.equal("quick", value)
    local after = core.census()
    assert.equal(before.timers, after.timers)
    assert.equal(before.tasks, after.tasks)
    assert.equal(before.handles, after.handles)
  end)

  it("does not keep a program alive", function()
    local run = host.eval([[
          local task = allua.spawn(allua.sleep, 3600)
          allua.yield()
          task:cancel()
          print "over"
        ]])
    assert.equal("over\n", run.out)
    assert.same({ 0, 0 }, { run.code, run.signal })
  end)
end)

describe("a task that swallows its cancelling", function()
  --- Runs a group of a stubborn task and one that fails, in a program of its own.
  local function run(stubborn)
    return host.eval([[
          local ok, err = pcall(all, {
            stubborn = function() ]] .. stubborn .. [[ end,
            failing = function()
              allua.sleep(0.01)
              error("boom", 0)
            end,
          })
          print(ok, err)
        ]])
  end

  local loops = {
    ["with pcall"] = "while true do pcall(allua.sleep, 1) end",
    ["with xpcall"] = "while true do xpcall(allua.sleep, print, 1) end",
    ["with pcall in pcall"] = [[
      pcall(function()
        while true do
          pcall(pcall, allua.yield)
        end
      end)
    ]],
    ["with a generator each time"] = [[
      while true do
        pcall(coroutine.wrap(function() allua.sleep(1) end))
      end
    ]],
    ["inside a generator"] = [[
      coroutine.wrap(function()
        while true do
          pcall(allua.sleep, 1)
        end
      end)()
    ]],
    ["while it awaits a promise"] = [[
      local never = allua.promise()
      while true do
        pcall(never.await, never)
      end
    ]],
    ["in group after group"] = [[
      while true do
        pcall(all, { inner = function() allua.sleep(1) end })
      end
    ]],
  }

  for how, loop in pairs(loops) do
    it("for ever, " .. how .. ", is stopped, and warn names it and its traceback", function()
      local got = run(loop)
      assert.matches("false\tboom\n$", got.out)
      assert.matches("stubborn", got.err, 1, true)
      assert.matches("stack traceback:", got.err, 1, true)
      assert.same({ 0, 0 }, { got.code, got.signal })
    end)
  end

  it("a few times, then ends by itself, is left to do so in silence", function()
    local got = run([[
      local times = 0
      for _ = 1, 5 do
        if not pcall(allua.sleep, 1) then
          times = times + 1
        end
      end
      print("swallowed", times)
    ]])
    assert.equal("swallowed\t5\nfalse\tboom\n", got.out)
    assert.equal("", got.err)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)
end)

describe("Ctrl-C", function()
  --- Starts a program in which say(words) writes once all tasks wait.
  local function start(code)
    return host.start({
      "-e",
      [[
        local function say(words)
          local timer = require("luv").new_timer()
          timer:start(20, 0, function()
            timer:close()
            io.stdout:write(words, "\n"):flush()
          end)
        end
      ]] .. code,
    })
  end

  it("cancels the root task and exits 130", function()
    local child <close> = start([[
      local _ <close> = setmetatable({}, { __close = function(_, err)
        print("closed", allua.is_error(err, "CancelledError"))
      end })
      say "ready"
      allua.sleep(3600)
      print "unreachable"
    ]])
    child:wait_for("ready")
    child:kill("sigint")
    local got = child:wait()
    assert.equal("ready\nclosed\ttrue\n", got.out)
    assert.equal(130, got.code)
  end)

  it("stops a root task that computes, too", function()
    local child <close> = start([[
      local _ <close> = setmetatable({}, { __close = function(_, err)
        print("closed", allua.is_error(err, "CancelledError"))
      end })
      io.stdout:write("ready\n"):flush()
      while true do end
    ]])
    child:wait_for("ready")
    child:kill("sigint")
    local got = child:wait()
    assert.equal("ready\nclosed\ttrue\n", got.out)
    assert.equal(130, got.code)
  end)

  it("lets the tasks clean up first, in a shield", function()
    local child <close> = start([[
      say "ready"
      all {
        worker = function()
          local ok = pcall(allua.sleep, 3600)
          allua.shield(allua.sleep, 0.05)
          print("rolled back", ok)
          allua.sleep(3600)
        end,
      }
    ]])
    child:wait_for("ready")
    child:kill("sigint")
    local got = child:wait()
    assert.equal("ready\nrolled back\tfalse\n", got.out)
    assert.equal(130, got.code)
  end)

  it("for the second time exits at once", function()
    local child <close> = start([[
      say "ready"
      pcall(allua.sleep, 3600)
      allua.shield(function()
        say "cleaning"
        allua.sleep(3600)
        print "unreachable"
      end)
    ]])
    child:wait_for("ready")
    child:kill("sigint")
    child:wait_for("cleaning")
    child:kill("sigint")
    local got = child:wait()
    assert.equal("ready\ncleaning\n", got.out)
    assert.equal(130, got.code)
  end)
end)
