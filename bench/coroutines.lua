-- coroutines: bare Lua coroutines, a participant of the benchmark, run by lua5.4.
--
-- What a Lua user would write who needs tasks that wait for each other and nothing more: a coroutine a
-- task, results by name, a queue of those that can go on, a heap of those that sleep. No errors, no
-- cancelling, no cycles. luv gives it a clock.

local uv = require("luv")
local measure = dofile((arg[0]:match("^(.*/)") or "") .. "participant.lua")

local create, resume, suspend = coroutine.create, coroutine.resume, coroutine.yield

local SUSPENDED <const> = {} -- what a coroutine yields, to be told from a result

local current -- the number of the task that runs
local ready, first, last -- a queue of numbers
local asleep -- a heap of { deadline, number }

local function now()
  return uv.hrtime() / 1e9
end

local function yield()
  last = last + 1
  ready[last] = current
  suspend(SUSPENDED)
end

local function sleep(seconds)
  local deadline, number = now() + seconds, current
  local i = #asleep // 2 + 1
  asleep[2 * i - 1], asleep[2 * i] = deadline, number
  while i > 1 and asleep[2 * (i // 2) - 1] > deadline do
    local parent = i // 2
    asleep[2 * i - 1], asleep[2 * i] = asleep[2 * parent - 1], asleep[2 * parent]
    i = parent
  end
  asleep[2 * i - 1], asleep[2 * i] = deadline, number
  suspend(SUSPENDED)
end

-- Takes the earliest sleeper off the heap.
local function wake()
  local size, number = #asleep // 2, asleep[2]
  local deadline, moved = asleep[2 * size - 1], asleep[2 * size]
  asleep[2 * size], asleep[2 * size - 1] = nil, nil
  size = size - 1
  local i = 1
  while 2 * i <= size do
    local child = 2 * i
    if child < size and asleep[2 * child + 1] < asleep[2 * child - 1] then
      child = child + 1
    end
    if asleep[2 * child - 1] >= deadline then
      break
    end
    asleep[2 * i - 1], asleep[2 * i] = asleep[2 * child - 1], asleep[2 * child]
    i = child
  end
  if size > 0 then
    asleep[2 * i - 1], asleep[2 * i] = deadline, moved
  end
  return number
end

local function run(graph)
  local tasks, order = graph.tasks, graph.order
  local results, waiting, threads = {}, {}, {}
  ready, first, last, asleep = {}, 1, 0, {}

  local function wait(name)
    local value = results[name]
    if value == nil then
      local others = waiting[name]
      if others == nil then
        waiting[name] = current
      elseif type(others) == "table" then
        others[#others + 1] = current
      else
        waiting[name] = { others, current }
      end
      suspend(SUSPENDED)
      value = results[name]
    end
    return value
  end

  local function wake_waiters(waiters)
    if type(waiters) == "table" then
      table.move(waiters, 1, #waiters, last + 1, ready)
      last = last + #waiters
    else
      last = last + 1
      ready[last] = waiters
    end
  end

  for number = 1, #order do
    local name = order[number]
    local thread = create(tasks[name])
    current = number
    local ok, value = resume(thread, wait)
    if not ok then
      error(value, 0)
    elseif value == SUSPENDED then
      threads[number] = thread
    else
      results[name] = value
      local waiters = waiting[name]
      if waiters then
        wake_waiters(waiters)
      end
    end
  end
  repeat
    while first <= last do
      local number = ready[first]
      ready[first] = nil
      first = first + 1
      current = number
      local ok, value = resume(threads[number])
      if not ok then
        error(value, 0)
      elseif value ~= SUSPENDED then
        local name = order[number]
        results[name], threads[number] = value, nil
        local waiters = waiting[name]
        if waiters then
          wake_waiters(waiters)
        end
      end
    end
    if asleep[1] then
      local left = asleep[1] - now()
      if left > 0 then
        uv.sleep(math.ceil(left * 1000))
      end
      local time = now()
      while asleep[1] and asleep[1] <= time do
        last = last + 1
        ready[last] = wake()
      end
    end
  until first > last and not asleep[1]
  return results
end

measure({ read = "call", run = run, yield = yield, sleep = sleep, now = now }, arg)
