-- luv: coroutines on luv, a participant of the benchmark, run by lua5.4.
--
-- What a Lua user would write who has luv and wants tasks that wait for each other: a coroutine a task,
-- started and resumed from the loop; a table of waiters a task; a timer a sleep; an error ends the group.

local uv = require("luv")
local measure = dofile((arg[0]:match("^(.*/)") or "") .. "participant.lua")

local current -- the task that runs
local ready = {} -- tasks to resume in the next turn of the loop
local idle = uv.new_idle() -- makes it turn
local group -- the group under way

local drain

local function schedule(task)
  if not ready[1] then
    idle:start(drain)
  end
  ready[#ready + 1] = task
end

local function go_on(task)
  current = task
  local ok, value = coroutine.resume(task.co, group.wait)
  if not ok then
    group.failure = { value }
    uv.stop()
  elseif coroutine.status(task.co) == "dead" then
    task.done, task.value = true, value
    group.results[task.name] = value
    for _, waiter in ipairs(task.waiters) do
      schedule(waiter)
    end
  end
end

function drain()
  idle:stop()
  local now = ready
  ready = {}
  for _, task in ipairs(now) do
    if group.failure then
      return
    end
    go_on(task)
  end
end

local function yield()
  schedule(current)
  coroutine.yield()
end

local function sleep(seconds)
  local task, timer = current, uv.new_timer()
  task.timer = timer
  timer:start(math.ceil(seconds * 1000), 0, function()
    timer:close()
    task.timer = nil
    go_on(task)
  end)
  coroutine.yield()
end

local function run(graph)
  local tasks = {}

  local function wait(name)
    local task = tasks[name]
    if not task.done then
      table.insert(task.waiters, current)
      coroutine.yield()
    end
    return task.value
  end

  group = { results = {}, wait = wait }
  for _, name in ipairs(graph.order) do
    local task = { name = name, co = coroutine.create(graph.tasks[name]), waiters = {} }
    tasks[name] = task
    schedule(task)
  end
  uv.run()
  if group.failure then
    for _, task in pairs(tasks) do
      if task.timer then
        task.timer:close()
      end
      coroutine.close(task.co)
    end
    ready = {}
    uv.run()
  end
  return group.results, group.failure
end

local function fails(graph)
  local _, failure = run(graph)
  return failure[1]
end

local function now()
  return uv.hrtime() / 1e9
end

measure({ read = "call", run = run, fails = fails, yield = yield, sleep = sleep, now = now }, arg)
