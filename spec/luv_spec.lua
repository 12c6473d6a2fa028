-- require "luv" in the host: on the host's own loop, with callbacks between the tasks' turns.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local size = require("spec.support.size")
local uv = require("luv")

require("spec.support.leftovers")()

local close = allua.promisify(uv.close)

local function closing(handle)
  return setmetatable({}, {
    __close = function()
      if not handle:is_closing() then
        allua.shield(close, handle)
      end
    end,
  })
end

describe("luv", function()
  it("is part of the program: no file of its own is needed", function()
    local got = host.eval(
      [[
        package.path, package.cpath = "", ""
        print(require("luv").version_string())
      ]],
      { env = { LUA_PATH = "/nowhere/?.lua", LUA_CPATH = "/nowhere/?.so" } }
    )
    assert.equal(uv.version_string() .. "\n", got.out)
    assert.equal("", got.err)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)

  it("runs its callbacks while tasks wait", function()
    local timer = uv.new_timer()
    local _ <close> = closing(timer)
    local ticks = 0
    local enough = allua.promise()
    timer:start(1, 1, function()
      ticks = ticks + 1
      if ticks == 5 then
        enough:resolve()
      end
    end)
    enough:await()
    timer:stop()
    assert.is_true(ticks >= 5)
  end)

  it("shares the loop's order with allua's own timers", function()
    local order = {}
    local timers, guards = {}, {}
    local step = size.full and 50 or 200
    uv.update_time() -- luv counts from when the loop last looked at the clock
    for i, steps in ipairs({ 4, 2 }) do
      timers[i] = uv.new_timer()
      guards[i] = closing(timers[i])
      timers[i]:start(steps * step, 0, function()
        order[#order + 1] = steps
      end)
    end
    local _ <close> = guards[1]
    local _ <close> = guards[2]
    allua.all({
      function()
        allua.sleep(3 * step / 1000)
        order[#order + 1] = 3
      end,
      function()
        allua.sleep(step / 1000)
        order[#order + 1] = 1
      end,
      function()
        allua.sleep(6 * step / 1000)
      end,
    })
    assert.same({ 1, 2, 3, 4 }, order)
  end)

  it("may settle promises, and wake those that await them, from its callbacks", function()
    local idle = uv.new_idle()
    local _ <close> = closing(idle)
    local promises = {}
    for i = 1, 10 do
      promises[i] = allua.promise()
    end
    local turn = 0
    idle:start(function()
      turn = turn + 1
      promises[turn]:resolve(turn)
      if turn == #promises then
        idle:stop()
      end
    end)
    for i = 1, 10 do
      assert.equal(i, promises[i]:await())
    end
  end)

  it("may start tasks from its callbacks, for which the program waits", function()
    local got = host.eval([[
      local uv = require "luv"
      local timer = uv.new_timer()
      timer:start(5, 0, function()
        timer:close()
        allua.spawn(function(name)
          allua.sleep(0.02)
          print("task", name)
        end, "of a callback")
        print "callback"
      end)
      print "root"
    ]])
    assert.equal("root\ncallback\ntask\tof a callback\n", got.out)
    assert.equal("", got.err)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)

  it("cannot be made to wait in a callback: the error says so, and the way out", function()
    local told
    local timer = uv.new_timer()
    local _ <close> = closing(timer)
    local called = allua.promise()
    timer:start(1, 0, function()
      told = errors.raised(allua.sleep, 0.001)
      called:resolve()
    end)
    called:await()
    assert.is_true(errors.says(told, "callback"), tostring(told))
    assert.is_true(errors.says(told, "allua.spawn"), tostring(told))
    allua.sleep(0.001)
  end)

  it("may read settled promises in its callbacks", function()
    local settled = allua.promise()
    settled:resolve("value")
    local timer = uv.new_timer()
    local _ <close> = closing(timer)
    local called = allua.promise()
    timer:start(1, 0, function()
      called:resolve(pcall(settled.await, settled))
    end)
    assert.same({ true, "value" }, { called:await() })
  end)

  it("may wait for many events of one handle's, one after the other", function()
    local events = {}
    local news = allua.promise()
    local timer = uv.new_timer()
    local _ <close> = closing(timer)
    local count = 0
    timer:start(1, 1, function()
      count = count + 1
      events[#events + 1] = count
      news:resolve()
    end)
    local seen = {}
    while #seen < 5 do
      while #events == 0 do
        news:await()
        news = allua.promise()
      end
      seen[#seen + 1] = table.remove(events, 1)
    end
    assert.same({ 1, 2, 3, 4, 5 }, seen)
  end)
end)

describe("a program", function()
  it("ends when the libuv handles that it left active have ended", function()
    local got = host.eval([[
      local uv = require "luv"
      local timer = uv.new_timer()
      timer:start(30, 0, function()
        print "timer"
        timer:close()
      end)
      print "root"
    ]])
    assert.equal("root\ntimer\n", got.out)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)

  it("does not wait for handles that are not active, or not referenced", function()
    local got = host.eval([[
      local uv = require "luv"
      idle = uv.new_timer()
      unreferenced = uv.new_timer()
      unreferenced:start(3600000, 0, function() end)
      unreferenced:unref()
      print "root"
    ]])
    assert.equal("root\n", got.out)
    assert.equal("", got.err)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)

  it("ends though luv still holds what a request of its gave", function()
    local got = host.eval([[
      local uv = require "luv"
      kept = uv.fs_scandir(".")
      listed = allua.promisify(uv.fs_scandir)(".")
      print "root"
    ]])
    assert.equal("root\n", got.out)
    assert.equal("", got.err)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)

  it("serves until its server is closed", function()
    local got = host.eval([[
      local uv = require "luv"
      local server = uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(16, function()
        local client = uv.new_tcp()
        server:accept(client)
        allua.spawn(function()
          allua.sleep(0.005)
          allua.promisify(uv.write)(client, "hello")
          allua.promisify(uv.close)(client)
          server:close()
        end)
      end)
      allua.spawn(function()
        local client = uv.new_tcp()
        allua.promisify(uv.tcp_connect)(client, "127.0.0.1", server:getsockname().port)
        client:read_start(function(_, chunk)
          if chunk then
            print(chunk)
          else
            client:close()
          end
        end)
      end)
      print "root"
    ]])
    assert.equal("root\nhello\n", got.out)
    assert.equal("", got.err)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)

  it("whose callback fails reports the error with its traceback, and exits 1", function()
    local got = host.eval([[
      local uv = require "luv"
      local timer = uv.new_timer()
      local function failing()
        error "boom"
      end
      timer:start(1, 0, function()
        timer:close()
        failing()
      end)
      allua.sleep(0.05)
      print "went on"
    ]])
    assert.matches("boom", got.err, 1, true)
    assert.matches("stack traceback:", got.err, 1, true)
    assert.equal(1, got.code)
  end)
end)
