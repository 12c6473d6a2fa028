-- A program's watchdog, and what shows what its tasks do.

local allua = require("allua")
local host = require("spec.support.host")

require("spec.support.leftovers")()

local busy = [[
  local function compute()
    local start = allua.now()
    while allua.now() - start < 60 do end
  end
  all({ idle = function() allua.sleep(60) end, busy = compute })
]]

describe("--stuck-turn", function()
  it("warns of a task that holds the loop, then raises an error in it", function()
    local result = host.run({ "--slow-turn", "0.02", "--stuck-turn", "0.2", "-e", busy })
    assert.equal(1, result.code)
    assert.matches("^allua: a task has held the loop for longer than 0.02 s\nstack traceback:", result.err)
    assert.matches('\ntask "busy"\ntask "main"\nallua: StuckError: task "busy" held', result.err, 1, true)
  end)

  it("is told by the environment, too, and finds the coroutine that runs", function()
    local result = host.run({
      "-e",
      [[all({ busy = function() coroutine.wrap(function() while true do end end)() end })]],
    }, { env = { ALLUA_STUCK_TURN = "0.05" } })
    assert.equal(1, result.code)
    assert.matches('StuckError: task "busy" held the loop', result.err, 1, true)
  end)

  it("needs a number of seconds", function()
    for _, wrong in ipairs({ "soon", "-1", "0", "" }) do
      local result = host.run({ "--stuck-turn", wrong, "-e", "" })
      assert.equal(2, result.code)
      assert.equal('allua: --stuck-turn needs a number of seconds, more than 0 (got "' .. wrong .. '")\n', result.err)
    end
  end)
end)

describe("SIGQUIT", function()
  it("prints the tasks as a tree, and the program goes on", function()
    local child <close> = host.start({
      "-e",
      [[io.stdout:setvbuf("no")
      all({
        outer = function() all({ inner = function() allua.sleep(60) end }) end,
        last = function() allua.sleep(0.05) print("ready") allua.sleep(60) end,
      })]],
    })
    child:wait_for("ready")
    child:kill("sigquit")
    child:wait_for("inner")
    child:kill("sigkill")
    local result = child:wait()
    assert.matches('^allua: tasks:\n  task "main" waits for the tasks that it started, at ', result.err)
    assert.matches('\n      task "outer" waits for the tasks that it started', result.err, 1, true)
    assert.matches('\n          task "inner" waits for a timer, at ', result.err, 1, true)
  end)
end)

-- Two Ctrl-C, the second once the first has been answered, if it can be.
local function interrupted_twice(code)
  local child <close> = host.start({ "-e", 'io.stdout:setvbuf("no") ' .. code })
  child:wait_for("ready")
  child:kill("sigint")
  if code:find("asked") then
    child:wait_for("asked")
  else
    allua.sleep(0.05)
  end
  child:kill("sigint")
  local result = child:wait()
  assert.equal(130, result.code)
  return result.err
end

describe("a second Ctrl-C", function()
  it("shows what the tasks were doing, and exits", function()
    local err = interrupted_twice([[
      all({
        stubborn = function()
          pcall(allua.sleep, 60)
          print("asked")
          allua.shield(allua.sleep, 60)
        end,
        zz = function() print("ready") allua.sleep(60) end,
        reader = function(self) allua.shield(function() return self.stubborn end) end,
      }, { name = "page" })
    ]])
    assert.matches('^allua: interrupted; the tasks were:\n  task "main" waits for the tasks that it started', err)
    assert.matches(
      '\n    all "page", %d of 3 tasks left\n      task "reader" waits for task "stubborn", cancelled',
      err
    )
    assert.matches('\n      task "stubborn" [^\n]+, at %(command line%):%d', err)
  end)

  it("finds a task that computes, and swallows its cancelling", function()
    local err = interrupted_twice([[
      local function stubborn()
        local ok = pcall(function() print("ready") while true do end end)
        print("asked", ok)
        while true do end
      end
      all({ stubborn = stubborn })
    ]])
    assert.matches('\n      task "stubborn" runs, at (command line):', err, 1, true)
  end)

  it("does not wait for a function of C's that does not return", function()
    local err = interrupted_twice([[
      -- Closing waits in C, and is what makes the shell go on.
      io.popen("cat >/dev/null; echo ready; exec sleep 20 >/dev/null 2>&1", "w"):close()
    ]])
    assert.matches("inside a function of C's that does not return", err, 1, true)
  end)
end)

describe("a deadlock", function()
  it("shows every task, its group, what it waits for, where, and for how long", function()
    local result = host.eval([[
      local never = allua.promise()
      allua.spawn(function() never:await() end)
      all({
        a = function() allua.sleep(0.12) never:await() end,
        b = function(self) return self.a end,
        c = function() end,
      }, { name = "page" })
    ]])
    local shown = result.err:gsub("for %d[%d.]* m?s", "for T")
    assert.equal(
      [[
allua: DeadlockError: deadlock: every task waits, and nothing is pending
  task "main" waits for the tasks that it started, at (command line):3, for T
    all "page", 2 of 3 tasks left
      task "a" waits for a promise, at (command line):4, for T
      task "b" waits for task "a", at (command line):5, for T
    spawn, 1 of 1 tasks left, started at (command line):2
      task "spawned" waits for a promise, at (command line):2, for T
]],
      shown
    )
  end)
end)

describe("allua.dump", function()
  it("gives the same as text", function()
    local text
    allua.all({
      asleep = function()
        allua.sleep(0.001)
      end,
      waits = function(self)
        return self.asleep
      end,
      zz = function()
        text = allua.dump()
      end,
    })
    assert.matches('task "asleep" waits for a timer, at [^\n]-watchdog_spec.lua:%d+, for %d+ ms\n', text)
    assert.matches('task "waits" waits for task "asleep", at', text, 1, true)
    assert.matches('task "zz" runs, at', text, 1, true)
  end)

  it("says which request a server's task answers", function()
    local text
    local server = allua.serve({
      routes = {
        ["/a/:id"] = function()
          text = text or allua.dump()
        end,
      },
    })
    local function get(path)
      return function()
        return allua.fetch(server.url .. path)
      end
    end
    allua.all({ get("/a/7?key=hidden") })
    allua.shield(server.close, server)
    assert.matches('task "spawned" (GET /a/7) runs, at', text, 1, true)
    assert.is_nil(text:find("hidden", 1, true))
  end)
end)

describe("allua.traceback", function()
  it("tells of every task that failed, for strings and tables alike", function()
    for _, value in ipairs({
      "boom",
      setmetatable({}, {
        __tostring = function()
          return "boom"
        end,
      }),
    }) do
      local ok, err = pcall(allua.all, {
        a = function()
          error(value, 0)
        end,
        b = function(self)
          return self.a
        end,
      })
      local text = allua.traceback(err)
      assert.is_false(ok)
      assert.matches('^boom\nstack traceback:.*\ntask "a"', text)
      assert.matches("\nstarted at ", text, 1, true)
    end
  end)
end)

describe("allua.watchdog", function()
  it("warns of a task that holds the loop, and raises an error in it, until it is told to stop", function()
    local result = host.eval([[
      allua.watchdog({ slow_turn = 0.02, stuck_turn = 0.1 })
      local ok, e = pcall(all, { busy = function() while true do end end })
      print(ok, allua.is_error(e, "StuckError"))
      print(select(2, pcall(function() while true do end end)))
      allua.watchdog()
      local till = allua.now() + 0.2
      while allua.now() < till do end
    ]])
    assert.equal('false\ttrue\nStuckError: task "main" held the loop for longer than 0.1 s\n', result.out)
    assert.matches("a task has held the loop for longer than 0.02 s\nstack traceback:", result.err, 1, true)
    assert.matches('\ntask "busy"\ntask "main"\n', result.err, 1, true)
    assert.equal(2, select(2, result.err:gsub("a task has held", "")))
    assert.equal(0, result.code)
  end)

  it("refuses what is wrong", function()
    for _, case in ipairs({
      { 1, "watchdog: expected a table of options (got number)" },
      { { slow_trun = 1 }, 'watchdog: unknown option "slow_trun" (did you mean "slow_turn"?)' },
      { { stuck_turn = 0 }, "watchdog: expected a number of seconds, more than 0, for stuck_turn (got 0)" },
      { { slow_turn = "1" }, "watchdog: expected a number of seconds, more than 0, for slow_turn (got 1)" },
    }) do
      local ok, failure = pcall(allua.watchdog, case[1])
      assert.is_false(ok)
      assert.equal(case[2], failure)
    end
  end)
end)
