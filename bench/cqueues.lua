-- cqueues: coroutines on cqueues, a participant of the benchmark, run by lua5.4: a promise of cqueues' a task.

local cqueues = require("cqueues")
local auxlib = require("cqueues.auxlib")
local promise = require("cqueues.promise")
local measure = dofile((arg[0]:match("^(.*/)") or "") .. "participant.lua")

local queue = cqueues.new()

local function run(graph)
  local promises, results = {}, {}
  local function wait(name)
    return promises[name]:get()
  end
  for _, name in ipairs(graph.order) do
    promises[name] = promise.new()
  end
  for _, name in ipairs(graph.order) do
    local task, own = graph.tasks[name], promises[name]
    queue:wrap(function()
      local value = task(wait)
      results[name] = value
      own:set(true, value)
    end)
  end
  assert(queue:loop())
  return results
end

local function yield()
  cqueues.sleep(0)
end

measure({
  read = "call",
  run = run,
  yield = yield,
  wrap = auxlib.wrap, -- a generator in which a task may wait
  sleep = cqueues.sleep,
  now = cqueues.monotime,
}, arg)
