-- allua: a participant of the benchmark, run by allua: see participant.lua for its arguments.

local allua = require("allua")
local measure = dofile((arg[0]:match("^(.*/)") or "") .. "participant.lua")

measure({
  read = "index",
  yield = allua.yield,
  sleep = allua.sleep,
  now = allua.now,
  run = function(graph)
    return allua.all(graph.tasks)
  end,
  fails = function(graph)
    return select(2, pcall(allua.all, graph.tasks))
  end,
}, arg)
