-- participant: measures what one Lua participant of the benchmark does in one workload.

local workloads = dofile((arg[0]:match("^(.*/)") or "") .. "workloads.lua")

local LEAST_SECONDS <const> = 0.06 -- that one measurement takes

local function resident_bytes()
  for line in io.lines("/proc/self/status") do
    local kilobytes = line:match("^VmRSS:%s*(%d+)")
    if kilobytes then
      return kilobytes * 1024
    end
  end
end

local function collect()
  collectgarbage()
  collectgarbage()
end

-- Bytes a task: those of the tasks that wait, or, for a spike, those that stay when the engine is idle.
local function memory(engine, graph, spike)
  collect()
  local before = resident_bytes()
  graph.look = resident_bytes
  assert(graph.verify(engine.run(graph)), "wrong result")
  if spike then
    engine.sleep(2.5)
    collect()
    graph.looked = resident_bytes()
  end
  return (graph.looked - before) / (#graph.order - 1)
end

-- Nanoseconds a unit, after a warm-up.
local function time(engine, graph, run, elapsed)
  local times = 1
  assert(graph.verify(run(graph)), "wrong result")
  while true do
    collect()
    local results
    local began, worked = engine.now(), os.clock()
    for _ = 1, times do
      results = run(graph)
    end
    local took = engine.now() - began
    if not elapsed then
      took = math.min(took, os.clock() - worked) -- less what other programs took of the processor
    end
    assert(graph.verify(results), "wrong result")
    if took >= LEAST_SECONDS then
      return took * 1e9 / (times * graph.units)
    end
    times = math.max(times * 2, math.ceil(times * LEAST_SECONDS * 1.2 / took))
  end
end

-- Measures the workload that the command line names and prints one number, or runs it as often as that
-- says. Arguments: WORKLOAD SIZE names|list [incremental|generational|default [TIMES]]
return function(engine, arguments)
  local workload, size, form, collector, times = table.unpack(arguments, 1, 5)
  if collector and collector ~= "default" then
    collectgarbage(collector)
  end
  local spike = workload == "spike"
  local make = workloads[spike and "resting" or workload]
  local graph = make(engine, math.tointeger(size) or size, form == "names" and engine.names ~= false)
  local run = graph.fails and engine.fails or engine.run

  if times then
    local results
    for _ = 1, math.tointeger(times) do
      results = run(graph)
    end
    assert(graph.verify(results), "wrong result")
  elseif spike or workload == "resting" then
    print(memory(engine, graph, spike))
  else
    print(time(engine, graph, run, workload == "sleepers"))
  end
end
