-- Who waits for a connection: first come, first served. Whoever gives up leaves a hole.
local queue = {}

local Queue = {}
Queue.__index = Queue

function queue.new()
  return setmetatable({ head = 1, tail = 0 }, Queue) -- entries from `head` to `tail`; false: a hole
end

--- The first that waits, or nil.
function Queue:first()
  while self.head <= self.tail do
    local entry = self[self.head]
    if entry then
      return entry
    end
    self[self.head] = nil
    self.head = self.head + 1
  end
end

--- Takes out the first, which there is.
function Queue:pop()
  local entry = self:first()
  self[self.head] = nil
  self.head = self.head + 1
  return entry
end

--- Waits, as the last, or before all others, for what the entry's promise is resolved with: ok and that, or false,
--- the error and whether the entry stood in the queue still, which it has left then.
function Queue:wait(entry, before)
  local place = self.tail + 1
  if before then
    place = self.head - 1
    self.head = place
  else
    self.tail = place
  end
  self[place] = entry
  local ok, result = pcall(entry.promise.await, entry.promise)
  if ok then
    return true, result
  end
  local stands = self[place] == entry
  if stands then
    self[place] = false
  end
  return false, result, stands
end

--- Rejects all of which which(entry) is true.
function Queue:reject(err, which)
  for place = self.head, self.tail do
    local entry = self[place]
    if entry and which(entry) then
      self[place] = false
      entry.promise:reject(err)
    end
  end
end

return queue
