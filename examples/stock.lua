-- stock: allua as a module of a stock Lua: LUA_CPATH='build/lua/?.so;;' lua5.4 examples/stock.lua

local allua = require("allua")
local uv = require("luv") -- a stock Lua's luv and allua share one loop

-- Outside a task, a call that waits runs the loop until it is done.
local started = allua.now()
local r = allua.all({
  first = function()
    allua.sleep(0.1)
    return 40
  end,
  second = function()
    allua.sleep(0.1)
    return 2
  end,
  sum = function(self)
    return self.first + self.second
  end,
})
print("sum:", r.sum)
print("both at once:", allua.now() - started < 0.19)

-- luv's functions that take a callback become functions that wait.
local stat = allua.promisify(uv.fs_stat)
print("a directory:", stat(".").type)

-- A timer of luv's settles a promise by hand, from its callback.
local tick = allua.promise()
local timer = uv.new_timer()
timer:start(10, 0, function()
  timer:close()
  tick:resolve("tick")
end)
print("luv's timer:", tick:await())

-- allua.run makes a function the root task, as the host program does with a script.
print(
  "values:",
  allua.run(function(...)
    allua.yield()
    return select("#", ...), ...
  end, "a", "b")
)

uv.run() -- as every script ends that uses luv's handles: they close in the loop's own time
