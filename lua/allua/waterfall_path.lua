-- The critical path of a group, from the record of its waterfall: what its end waited for, and what it would save
-- to make one of its tasks instant.

local path = {}

local function by_name(record)
  local tasks = {}
  for _, task in ipairs(record.tasks) do
    tasks[task.name] = task
  end
  return tasks
end

-- The task whose doing ended a wait: the sibling that was read, or the one that gave its place. Nil where it is not
-- one of the group's; also for a wait that its own cancelling cut short, which held nothing up.
local function gate_of(tasks, task, wait)
  if wait.to <= wait.from or task.status == "cancelled" and wait.to >= task.ended then
    return nil
  end
  local name = wait.on
  if wait.kind == "place" then
    name = wait.by
  end
  return name ~= nil and tasks[name] or nil
end

-- Whether a wait ended later than another: `order` tells apart what came at one time.
local function is_later(wait, other)
  if wait.to ~= other.to then
    return wait.to > other.to
  end
  return (wait.order or math.huge) > (other.order or math.huge)
end

-- The task that the end of the group waited for: its first failure; else the last to end, in a group
-- that succeeded not one that was cancelled.
local function last_task(record)
  local failed, last
  for _, task in ipairs(record.tasks) do
    if task.status == "rejected" and (not failed or task.ended < failed.ended) then
      failed = task
    end
    local counts = record.status ~= "fulfilled" or task.status ~= "cancelled"
    if counts and (not last or task.ended >= last.ended) then
      last = task
    end
  end
  return record.status == "rejected" and failed or last or record.tasks[1]
end

--- The steps in the order of time: { name, task, seconds }. From the last task, each time back along the wait that
--- ended last, to a task that waited for nobody.
function path.steps(record)
  local tasks, task = by_name(record), last_task(record)
  local at, before = task.ended, nil -- only what had ended by then, and before that wait, counts
  local steps, used = {}, {}
  while task do
    local gate
    for _, wait in ipairs(task.waits) do
      local counts = wait.to <= at and not used[wait] and (not before or is_later(before, wait))
      if counts and gate_of(tasks, task, wait) and (not gate or is_later(wait, gate)) then
        gate = wait
      end
    end
    steps[#steps + 1] = { name = task.name, task = task, seconds = at - (gate and gate.to or task.started) }
    if not gate then
      break
    end
    used[gate] = true
    local next_task = gate_of(tasks, task, gate)
    at = gate.kind == "place" and gate.to or math.min(next_task.ended, gate.to)
    before, task = gate, next_task
  end
  for i = 1, #steps // 2 do
    steps[i], steps[#steps + 1 - i] = steps[#steps + 1 - i], steps[i]
  end
  return steps
end

--- When the group would end if this task took no time: each other task does its own parts, and waits for what it
--- waited for, siblings and places alike.
function path.end_without(record, instant)
  local tasks, waits, owner = by_name(record), {}, {}
  local new, done = {}, {} -- of each task: the time it would be, when it was what `done` says
  for _, task in ipairs(record.tasks) do
    new[task], done[task] = task.started, task.started
    for _, wait in ipairs(task.waits) do
      if gate_of(tasks, task, wait) then
        waits[#waits + 1] = wait
        owner[wait] = task
      end
    end
  end
  table.sort(waits, function(a, b)
    return a ~= b and is_later(b, a)
  end)
  local function at(task, time)
    return new[task] + (task == instant and 0 or math.max(time - done[task], 0))
  end
  for _, wait in ipairs(waits) do
    local task = owner[wait]
    local gate = gate_of(tasks, task, wait)
    if wait.to > done[task] then
      new[task] = math.max(at(task, wait.from), at(gate, wait.kind == "place" and wait.to or gate.ended))
      done[task] = wait.to
    end
  end
  local last = record.started
  for _, task in ipairs(record.tasks) do
    if task.status ~= "cancelled" then
      last = math.max(last, at(task, task.ended))
    end
  end
  return last
end

return path
