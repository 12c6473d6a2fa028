-- allua: a participant of the benchmark, run by allua: see workloads.lua for its arguments.

local allua = require("allua")
local workloads = dofile((arg[0]:match("^(.*/)") or "") .. "workloads.lua")

workloads.measure({
  read = "index",
  yield = allua.yield,
  sleep = allua.sleep,
  now = allua.now,
  run = function(graph)
    return allua.all(graph.tasks)
  end,
}, arg)
