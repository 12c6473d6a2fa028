-- allua.sleep, allua.yield and allua.now: time, and who runs next.

local allua = require("allua")
local errors = require("spec.support.errors")
local size = require("spec.support.size")
local uv = require("luv")

require("spec.support.leftovers")()

local all = allua.all

-- libuv's clock counts whole milliseconds: a timer may be that much early against a finer clock.
local tick = 0.002

describe("allua.sleep", function()
  it("waits for as long as it is told, and returns nothing", function()
    for _, seconds in ipairs({ 0.001, 0.01, 0.05 }) do
      local start = allua.now()
      assert.equal(0, select("#", allua.sleep(seconds)))
      local took = allua.now() - start
      assert.is_true(took >= seconds - tick, tostring(took))
      assert.is_true(took < seconds + 5, tostring(took))
    end
  end)

  it("takes whole numbers and fractions", function()
    local start = allua.now()
    allua.sleep(1)
    local took = allua.now() - start
    assert.is_true(took >= 1 - tick and took < 30, tostring(took))
  end)

  it("lets tasks sleep at the same time", function()
    local tasks = {}
    for i = 1, 100 do
      tasks[i] = function()
        allua.sleep(0.1)
      end
    end
    local start = allua.now()
    all(tasks)
    if size.full then
      assert.is_true(allua.now() - start < 5)
    end
  end)

  it("wakes tasks in the order of their deadlines", function()
    local order = {}
    local tasks = {}
    for i, steps in ipairs({ 5, 1, 4, 2, 3 }) do
      tasks[i] = function()
        allua.sleep(steps * (size.full and 0.02 or 0.2))
        order[#order + 1] = steps
      end
    end
    all(tasks)
    assert.same({ 1, 2, 3, 4, 5 }, order)
  end)

  it("wakes tasks with equal deadlines in the order in which they went to sleep", function()
    local order = {}
    local tasks = {}
    local count = size.of(1000)
    for i = 1, count do
      tasks[i] = function()
        allua.sleep(0.02)
        order[#order + 1] = i
      end
    end
    all(tasks)
    assert.equal(count, #order)
    for i = 1, count do
      assert.equal(i, order[i])
    end
  end)

  it("of zero seconds lets the others run, then returns", function()
    local log = {}
    all({
      function()
        log[#log + 1] = "first"
        allua.sleep(0)
        log[#log + 1] = "first again"
      end,
      function()
        log[#log + 1] = "second"
      end,
    })
    assert.same({ "first", "second", "first again" }, log)
  end)

  it("may be longer than anybody waits, and is ended by a cancelling", function()
    for _, seconds in ipairs({ 1e9, 1e300, math.maxinteger }) do
      local err = errors.raised(allua.timeout, 0.005, allua.sleep, seconds)
      assert.is_true(allua.is_error(err, "TimeoutError"))
    end
  end)

  it("refuses what is not a number of seconds", function()
    for _, bad in ipairs({ "soon", {}, true, print, -1, -0.001, 0 / 0, math.huge, -math.huge }) do
      assert.is_true(errors.says(errors.raised(allua.sleep, bad), "sleep"), tostring(bad))
    end
    assert.is_true(errors.says(errors.raised(allua.sleep), "sleep"))
  end)

  it("keeps the order of many random deadlines", function()
    local due, tasks = {}, {}
    local count = size.of(2000)
    for i = 1, count do
      local milliseconds = math.random(1, 100)
      tasks[i] = function()
        allua.sleep(milliseconds / 1000)
        due[#due + 1] = milliseconds
      end
    end
    all(tasks)
    assert.equal(count, #due)
    if size.full then
      -- All went to sleep in one turn, which took a few milliseconds itself.
      local latest = 0
      for _, milliseconds in ipairs(due) do
        assert.is_true(milliseconds >= latest - 50)
        latest = math.max(latest, milliseconds)
      end
    end
  end)

  it("wakes tasks in the order of their deadlines, whatever others were started or taken back", function()
    local n, seed = size.of(2000), 7
    local function random(most)
      seed = (seed * 1103515245 + 12345) & 0x7fffffff
      return (seed >> 8) % most
    end
    local tasks, woken = {}, {}
    local first, last
    for i = 1, n do
      local seconds = ({ 0.05, 0.02, random(100) / 1000, 0.1 - 0.1 * i / n })[random(4) + 1]
      tasks[i] = function()
        first = first or allua.now()
        if random(3) == 0 then
          allua.race({ -- whose loser's deadline is taken back
            function()
              allua.sleep(random(2) == 0 and 60 or 30 + random(30))
            end,
            function() end,
          })
        end
        last = allua.now()
        allua.sleep(seconds)
        woken[#woken + 1] = seconds
      end
    end
    all(tasks)
    assert.equal(n, #woken)
    -- Each started between the first and the last.
    local longest = 0
    for i = 1, n do
      assert(woken[i] >= longest - (last - first) - tick)
      longest = math.max(longest, woken[i])
    end
  end)
end)

describe("allua.yield", function()
  it("lets every other ready task run once, in turn", function()
    local log = {}
    local function worker(name)
      return function()
        for i = 1, 3 do
          log[#log + 1] = name .. i
          allua.yield()
        end
      end
    end
    all({ worker("a"), worker("b"), worker("c") })
    assert.equal("a1 b1 c1 a2 b2 c2 a3 b3 c3", table.concat(log, " "))
  end)

  it("returns nothing", function()
    assert.equal(0, select("#", allua.yield()))
  end)

  it("does not keep timers from firing", function()
    local stop = false
    local turns = 0
    all({
      function()
        while not stop do
          turns = turns + 1
          allua.yield()
        end
      end,
      function()
        allua.sleep(0.01)
        stop = true
      end,
    })
    assert.is_true(turns > 1)
  end)

  it("does not keep files and luv's own handles from being served", function()
    local stop = 0
    local spinning = {}
    for i = 1, 10 do
      spinning[i] = function()
        while stop < 2 do
          allua.yield()
        end
      end
    end
    spinning[11] = function()
      for _ = 1, 10 do
        allua.promisify(uv.fs_stat)(".")
      end
      stop = stop + 1
    end
    spinning[12] = function()
      local fired = allua.promise()
      local timer <close> = setmetatable({ uv.new_timer() }, {
        __close = function(self)
          allua.promisify(uv.close)(self[1])
        end,
      })
      timer[1]:start(5, 0, function()
        fired:resolve()
      end)
      fired:await()
      stop = stop + 1
    end
    all(spinning)
    assert.equal(2, stop)
  end)

  it("is not needed: tasks that start groups without end keep no timer from firing", function()
    local stop = false
    local rounds = 0
    all({
      function()
        while not stop do
          local result = all({
            a = function()
              return 1
            end,
            b = function(self)
              return self.a + 1
            end,
          })
          rounds = rounds + result.b // 2
        end
      end,
      function()
        allua.sleep(0.02)
        stop = true
      end,
    })
    assert.is_true(rounds > 1)
  end)
end)

describe("allua.now", function()
  it("never goes back", function()
    local last = allua.now()
    for _ = 1, 10000 do
      local now = allua.now()
      assert(now >= last)
      last = now
    end
  end)

  it("goes on while Lua computes", function()
    local start, clock = allua.now(), os.clock()
    repeat
    until os.clock() - clock > 0.02
    assert.is_true(allua.now() - start >= 0.01)
  end)

  it("counts seconds, as a float", function()
    assert.equal("float", math.type(allua.now()))
    local start, seconds = allua.now(), uv.hrtime()
    allua.sleep(0.05)
    local mine, theirs = allua.now() - start, (uv.hrtime() - seconds) / 1e9
    assert.is_true(math.abs(mine - theirs) < 0.04, mine .. " " .. theirs)
  end)
end)
