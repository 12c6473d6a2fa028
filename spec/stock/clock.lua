-- Virtual time in a stock Lua, whether allua or luv runs the loop.

local allua = require("allua")
local check = require("spec.support.check")
local uv = require("luv")

-- After 20 ms of the machine's.
local function real()
  local done, timer = allua.promise(), uv.new_timer()
  timer:start(20, 0, function()
    timer:close()
    done:resolve()
  end)
  done:await()
  return "real"
end

local function virtual()
  allua.sleep(1)
  return "virtual"
end

check("outside a task a sleep takes no time", function()
  local clock <close> = allua.clock.virtual()
  allua.sleep(3600)
  assert(clock and allua.now() == 3600)
end)

check("what is real comes first", function()
  local _ <close> = allua.clock.virtual()
  assert(allua.race({ virtual, real }) == "real" and allua.now() == 0)
end)

check("the same holds where uv.run runs the loop", function()
  local first, at
  allua.spawn(function()
    local _ <close> = allua.clock.virtual()
    first = allua.race({ virtual, real })
    allua.sleep(50)
    at = allua.now()
  end)
  uv.run()
  assert(first == "real" and at == 50)
end)

check.done()
