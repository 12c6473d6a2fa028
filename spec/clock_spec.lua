-- allua.clock: virtual time, which passes only when nothing else can happen.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local size = require("spec.support.size")
local uv = require("luv")
local web = require("spec.support.web")

require("spec.support.leftovers")()

-- What is loaded on first use is not left behind by whoever used it first.
allua.db.open("sqlite::memory:"):close()
assert(allua.fetch and allua.serve)

local all = allua.all

-- Runs fn in virtual time, which begins at 0.
local function virtual(fn)
  local clock <close> = allua.clock.virtual()
  return fn(clock)
end

-- What comes first: "real", what fn gives, or "virtual", the least of virtual times.
local function first(fn)
  return (
    allua.race({
      function()
        fn()
        return "real"
      end,
      function()
        allua.sleep(1e-9)
        return "virtual"
      end,
    })
  )
end

-- The order in which the steps of fn come.
local function steps(fn)
  local list = {}
  fn(function(name)
    list[#list + 1] = name
  end)
  return table.concat(list, " ")
end

describe("a virtual clock", function()
  it("begins at 0, and passes exactly as long as tasks sleep", function()
    virtual(function()
      assert.equal(0, allua.now())
      allua.sleep(0.1)
      assert.equal(0.1, allua.now())
      allua.sleep(0.2)
      assert.equal(0.3, allua.now())
      allua.sleep(86400)
      assert.equal(86400.3, allua.now())
    end)
  end)

  it("does not pass while tasks compute or yield", function()
    virtual(function()
      for _ = 1, 100 do
        allua.yield()
      end
      assert.equal(0, allua.now())
    end)
  end)

  it("lets equal deadlines come in the order in which they were set", function()
    local order = virtual(function()
      return steps(function(step)
        local tasks = {}
        for i = 1, 9 do
          tasks[i] = function()
            allua.sleep(i % 3 == 0 and 1 or 2)
            step(i)
          end
        end
        tasks[10] = function()
          allua.sleep(0.3)
          allua.sleep(0.7)
          step("late")
        end
        all(tasks)
      end)
    end)
    assert.equal("3 6 9 late 1 2 4 5 7 8", order)
  end)

  it("does the same every time", function()
    local function run()
      return virtual(function()
        return steps(function(step)
          local tasks = {}
          for i = 1, size.of(200) do
            tasks["t" .. i] = function(self)
              allua.sleep(i * 7 % 50 / 10)
              step(i)
              if i > 5 then
                local _ = self["t" .. (i - 3)]
                allua.sleep(i % 4)
              end
              step(-i)
            end
          end
          all(tasks, { concurrency = 20 })
          step(tostring(allua.now()))
        end)
      end)
    end
    local once = run()
    assert.equal(once, run())
    assert.equal(once, run())
  end)

  it("is that of timeouts, of groups' too, and of retries", function()
    virtual(function()
      local e = errors.raised(allua.timeout, 60, allua.sleep, 61)
      assert.is_true(allua.is_error(e, "TimeoutError"))
      assert.equal(60, allua.now())
      e = errors.raised(all, {
        slow = function()
          allua.sleep(100)
        end,
      }, { timeout = 30 })
      assert.matches("timed out after 30.* s; still running: slow", tostring(e))
      assert.equal(90, allua.now())
      local at = {}
      pcall(allua.retry, function()
        at[#at + 1] = allua.now() - 90
        error("no")
      end, { attempts = 4, delay = 1, factor = 3, jitter = false })
      assert.same({ 0, 1, 4, 13 }, at)
    end)
  end)

  it("goes back to the machine's when it is closed, and time never goes back", function()
    local before = allua.now()
    virtual(function()
      assert.is_true(allua.clock.is_virtual())
      allua.sleep(1000)
    end)
    assert.is_false(allua.clock.is_virtual())
    assert.is_true(allua.now() - before >= 1000)
    local at = uv.hrtime()
    allua.sleep(0.01)
    assert.is_true(uv.hrtime() - at >= 9e6)
  end)

  it("takes over what sleeps already, and gives it back, for the rest of its time", function()
    local fired
    local task = allua.spawn(function()
      allua.sleep(10)
      fired = true
    end)
    allua.yield()
    virtual(function()
      allua.sleep(9.97)
      assert.is_nil(fired)
    end)
    task:await() -- some milliseconds of the machine's
    assert.is_true(fired)
  end)

  it("may be opened inside another, which goes on where that one ends", function()
    virtual(function()
      allua.sleep(5)
      virtual(function(clock)
        assert.equal(0, allua.now())
        allua.sleep(2)
        clock:close()
        assert.equal(7, allua.now())
        clock:close()
      end)
      assert.equal(7, allua.now())
      local outer, inner = allua.clock.virtual(), allua.clock.virtual()
      allua.sleep(1)
      outer:close()
      assert.equal(1, allua.now())
      inner:close()
      assert.equal(8, allua.now())
    end)
  end)

  it("stays open when nobody keeps it, until the program ends", function()
    local result = host.eval([[
      allua.clock.virtual()
      collectgarbage()
      allua.sleep(1e6)
      print(allua.now())
      allua.spawn(function() allua.sleep(1e6) print(allua.now()) end)
    ]])
    assert.equal("1000000.0\n2000000.0\n", result.out)
    assert.equal(0, result.code, result.err)
  end)

  it("does not hide a deadlock", function()
    local result = host.eval([[
      local clock <close> = allua.clock.virtual()
      all({ a = function() allua.sleep(10) allua.promise():await() end })
    ]])
    assert.equal(1, result.code)
    assert.matches('deadlock: .*task "a" waits for a promise', result.err)
  end)
end)

describe("advance", function()
  it("lets time pass as if the task computed, and then fires what has become due, in order", function()
    virtual(function(clock)
      local order = steps(function(step)
        all({
          function()
            allua.sleep(3)
            step("3 at " .. allua.now())
          end,
          function()
            allua.sleep(1)
            step("1 at " .. allua.now())
          end,
          function()
            clock:advance(2)
            allua.clock.advance(0.5)
            step("advanced")
            allua.yield()
            step("yielded")
          end,
        })
      end)
      assert.equal("advanced yielded 1 at 2.5 3 at 3.0", order)
    end)
  end)

  it("fires a timeout that has been passed", function()
    virtual(function(clock)
      local e = errors.raised(allua.timeout, 5, function()
        clock:advance(7)
        allua.sleep(1)
      end)
      assert.is_true(allua.is_error(e, "TimeoutError"))
      assert.equal(7, allua.now())
    end)
  end)

  it("says what it wants", function()
    local message = "clock.advance: expected a number of seconds, 0 or more %(got "
    virtual(function(clock)
      for _, wrong in ipairs({ -1, 0 / 0, math.huge, "1", {}, 2e9 }) do
        assert.matches(message, errors.raised(clock.advance, clock, wrong))
        assert.matches(message, errors.raised(allua.clock.advance, wrong))
      end
      assert.equal(0, allua.now())
      clock:close()
      assert.matches("this virtual clock is closed", errors.raised(clock.advance, clock, 1))
    end)
    assert.matches("no virtual clock is open: .*allua%.clock%.virtual%(%)", errors.raised(allua.clock.advance, 1))
  end)
end)

describe("a virtual clock stands still", function()
  it("for libuv's threads, processes and timers", function()
    virtual(function()
      assert.equal(
        "real",
        first(function()
          allua.promisify(uv.fs_stat)(".")
        end)
      )
      assert.equal(
        "real",
        first(function()
          allua.promisify(uv.getaddrinfo)("localhost", nil, nil)
        end)
      )
      assert.equal(
        "real",
        first(function()
          assert.equal(0, host.run({ "-e", "allua.sleep(0.05)" }).code)
        end)
      )
      assert.equal(
        "real",
        first(function()
          local done, timer = allua.promise(), uv.new_timer()
          timer:start(20, 0, function()
            timer:close(function()
              done:resolve()
            end)
          end)
          done:await()
        end)
      )
      assert.equal(0, allua.now())
    end)
  end)

  it("for queries and requests", function()
    virtual(function()
      local database <close> = allua.db.open("sqlite::memory:")
      assert.equal(
        "real",
        first(function()
          assert.equal(7, database:one("select 3 + 4 as sum").sum)
        end)
      )
    end)
    -- A server of another process's.
    local other <close> = host.start({
      "-e",
      [[
        local server = allua.serve({ port = 0, routes = {
          ["GET /"] = function() allua.sleep(0.1) return { ok = true } end } })
        print(server.url)
        io.stdout:flush()
      ]],
    })
    other:wait_for("\n")
    virtual(function()
      assert.equal(
        "real",
        first(function()
          assert.is_true(allua.fetch(other.out:match("%S+")).ok)
        end)
      )
    end)
  end)

  it("not for a timer that does not keep the loop, nor for those who only listen", function()
    virtual(function()
      local timer, listener, watch = uv.new_timer(), uv.new_tcp(), uv.new_signal()
      timer:start(86400000, 0, function() end)
      timer:unref()
      listener:bind("127.0.0.1", 0)
      listener:listen(5, function() end)
      watch:start("sigusr1", function() end)
      allua.sleep(10)
      assert.equal(10, allua.now())
      timer:close()
      listener:close()
      watch:close()
    end)
  end)

  it("and says for what, where that takes long", function()
    local child <close> = host.start({
      "-e",
      [[
      local clock <close> = allua.clock.virtual()
      local uv = require("luv")
      local done, timer, asked = allua.promise(), uv.new_timer(), uv.new_signal()
      timer:start(600000, 0, print)
      asked:start("sigusr1", function() timer:close() asked:close() done:resolve() end)
      all { function() done:await() end, function() allua.sleep(1) end }
      ]],
    })
    child:wait_for("the virtual clock has stood still for 3 s: 1 timer handle under way")
    child:kill("sigusr1")
    local result = child:wait()
    assert.equal(0, result.code, result.err)
    assert.equal("", result.out)
  end)

  it("and says nothing where that ends at the same moment", function()
    local result = host.eval([[
      local clock <close> = allua.clock.virtual()
      local uv = require("luv")
      local done, blocks, ends = allua.promise(), uv.new_timer(), uv.new_timer()
      blocks:start(2800, 0, function()
        local began = uv.hrtime()
        while uv.hrtime() - began < 4e8 do end -- until past the three seconds
      end)
      ends:start(2900, 0, function() blocks:close() ends:close() done:resolve() end)
      all { function() done:await() end, function() allua.sleep(1) end }
    ]])
    assert.same({ 0, "" }, { result.code, result.err })
  end)
end)

describe("beside a server of one's own, a virtual clock", function()
  local server

  local function serve()
    server = allua.serve({
      port = 0,
      routes = {
        ["GET /slow"] = function()
          allua.sleep(30)
          return { at = allua.now() }
        end,
        ["GET /parts"] = function(event)
          return event:stream(function(write)
            for i = 1, 3 do
              write(i .. " at " .. allua.now() .. "\n")
              allua.sleep(10)
            end
          end)
        end,
      },
    })
    return setmetatable({}, {
      __close = function()
        server:close(1)
        server = nil
      end,
    })
  end

  it("passes while the handler sleeps, and not on the way", function()
    virtual(function()
      local _ <close> = serve()
      assert.equal(30, allua.fetch(server.url .. "/slow").at)
      assert.equal(30, allua.now())
      local at = allua.map({ 1, 2, 3, 4, 5 }, function()
        return allua.fetch(server.url .. "/slow").at
      end)
      assert.same({ 60, 60, 60, 60, 60 }, at)
      allua.sleep(100) -- connections that are kept do not hold it
      assert.equal(160, allua.now())
    end)
  end)

  it("passes between the parts of a reply", function()
    virtual(function()
      local _ <close> = serve()
      local response <close> = allua.fetch.raw(server.url .. "/parts")
      local text, at = "", {}
      for chunk in response:chunks() do
        text = text .. chunk
        at[#at + 1] = allua.now()
      end
      assert.equal("1 at 0.0\n2 at 10.0\n3 at 20.0\n", text)
      assert.same({ 0, 10, 20 }, at)
      assert.equal(30, allua.now())
    end)
  end)

  it("is that of fetch's timeout", function()
    virtual(function()
      local _ <close> = serve()
      local e = errors.raised(allua.fetch, server.url .. "/slow", { timeout = 3 })
      assert.equal("timeout", e.code)
      assert.equal(3, allua.now())
      assert.equal(33, allua.fetch(server.url .. "/slow", { timeout = 31 }).at)
    end)
  end)

  it("passes between two ends of luv's in one loop, once all has been read", function()
    virtual(function()
      local raw <close> = web.raw(function(client)
        allua.spawn(function()
          allua.sleep(5)
          client:write(web.reply("200 OK", { "Content-Type: text/plain" }, "late"))
        end)
      end)
      local got = allua.promise()
      local client = uv.new_tcp()
      client:connect("127.0.0.1", raw.port, function()
        client:write("GET / HTTP/1.1\r\n\r\n")
        client:read_start(function(_, data)
          got:resolve(data)
        end)
      end)
      assert.matches("late$", got:await())
      assert.equal(5, allua.now())
      client:close()
      assert.equal("late", allua.fetch(raw.url))
      assert.equal(10, allua.now())
    end)
  end)
end)
