-- limit: a participant of the benchmark, run by the program that limit.c makes.

local limit = require("limit")
local measure = dofile((arg[0]:match("^(.*/)") or "") .. "participant.lua")

local named = table.remove(arg, 1) == "named"

measure({
  read = named and "index" or "call",
  names = named,
  yield = limit.yield,
  sleep = limit.sleep,
  now = limit.now,
  run = function(graph)
    return limit.run(graph.order, graph.tasks, named)
  end,
}, arg)
