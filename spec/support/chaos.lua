-- Tasks that do anything, in groups of all kinds inside one another, on a virtual clock.
--
--   allua spec/support/chaos.lua SEED ROUNDS
--
-- Raises if a task has not ended when its group has, and prints how many tasks there were. A program that makes
-- allocations fail gives `scarce (whether)`, called with true and false around what is to be tried so: then anything
-- may raise, and nothing may stay.
local allua = require("allua")
local core = require("allua.core")

local seed, rounds = ...
seed, rounds = math.tointeger(seed), math.tointeger(rounds)
local scarce = rawget(_G, "scarce")
local set_scarce = scarce or function() end
math.randomseed(seed)
allua.clock.virtual()

local chance = math.random
local live, begun = 0, 0
local promises, controller

local function pick(list)
  return list[chance(#list)]
end

local function nap()
  pick({
    allua.yield,
    function()
      allua.sleep(0)
    end,
    function()
      allua.sleep(chance() * 0.1)
    end,
    function() end,
  })()
end

local task

local function tasks(depth, named)
  local made = {}
  for i = 1, chance(0, 6) do
    made[named and "t" .. i or i] = task(depth - 1, named and "t" .. chance(7) or chance(7))
  end
  if chance() < 0.1 then
    made[named and "promise" or #made + 1] = pick(promises)
  end
  return made
end

local function any_tasks(depth)
  return tasks(depth, chance() < 0.5)
end

local function options()
  local made = {}
  if chance() < 0.2 then
    made.concurrency = chance(3)
  end
  if chance() < 0.1 then
    made.timeout = chance() * 0.2
  end
  if chance() < 0.1 then
    made.on_settle = function()
      nap()
      if chance() < 0.05 then
        error("on_settle", 0)
      end
    end
  end
  if chance() < 0.1 then
    made.signal = controller.signal
  end
  if chance() < 0.1 then
    made.name = "page"
  end
  return made
end

local function closes()
  return setmetatable({}, {
    __close = function()
      nap()
      if chance() < 0.05 then
        error("close", 0)
      end
    end,
  })
end

-- What a task may do.
local alone = {
  nap,
  nap,
  function(self, other)
    return self and self[other]
  end,
  function(self, other)
    pcall(function()
      return self[other]
    end)
  end,
  function()
    error(pick({ "an error", { name = "Odd" } }), 0)
  end,
  function()
    pcall(allua.timeout, chance() * 0.1, task(0, 1))
  end,
  function()
    allua.shield(nap)
  end,
  function(self, other)
    local step = coroutine.wrap(function()
      nap()
      coroutine.yield()
      nap()
      pcall(function()
        return self[other]
      end)
    end)
    step()
    step()
  end,
  function()
    pcall(pick(promises).await, pick(promises))
  end,
  function()
    pick(promises):resolve(1, chance() < 0.5 and { 2 } or nil)
  end,
  function(self, other) -- so often that Lua finds them by itself
    local sum = 0
    for _ = 1, self and 12 or 0 do
      sum = sum + (self[other] or 0)
    end
  end,
  function()
    if chance() < 0.1 then
      controller:abort("enough")
    end
  end,
  function(self, other)
    if self then
      local first, second = self(other)
      return first or second, #self, tostring(self)
    end
  end,
  function(_, other, own)
    local sibling = own and own:promise(other)
    return sibling and (chance() < 0.5 and sibling:await() or sibling.status)
  end,
  function()
    local made = allua.promise()
    if chance() < 0.5 then
      made:reject("nobody looks, perhaps")
      return scarce or pcall(made.await, made)
    end
  end,
  function()
    pcall(allua.retry, nap, { attempts = 2, delay = 0.01 })
  end,
  function()
    allua.trace.span("nap", nap)
  end,
  function()
    allua.with({ depth = (allua.context.depth or 0) + 1 }, nap)
  end,
  function()
    local _, failure = pcall(error, { name = "Odd" })
    return allua.traceback(failure), chance() < 0.1 and allua.dump()
  end,
  function()
    local left = coroutine.create(nap)
    coroutine.resume(left)
    if chance() < 0.5 then
      coroutine.close(left)
    end
    return coroutine.running()
  end,
}
local nested = {
  function(depth)
    allua.all(any_tasks(depth), options())
  end,
  function(depth)
    if scarce then
      allua.spawn(task(depth - 1, 1))
    else
      allua.spawn(pcall, task(depth - 1, 1))
    end
  end,
  function(depth)
    pcall(allua.run, task(depth - 1, 1), {})
  end,
  function(depth)
    pcall(allua.all, any_tasks(depth), options())
  end,
  function(depth)
    allua.all_settled(any_tasks(depth))
  end,
  function(depth)
    pcall(allua.race, any_tasks(depth))
  end,
  function(depth)
    pcall(allua.any, any_tasks(depth))
  end,
  function(depth)
    pcall(function()
      for _ in allua.each(any_tasks(depth)) do
        nap()
        if chance() < 0.2 then
          break
        end
      end
    end)
  end,
  function(depth)
    pcall(allua.map, { 1, 2, 3, 4 }, task(depth - 1, 1), { concurrency = chance(3) })
  end,
  function(depth)
    local spawned = allua.spawn(pcall, task(depth - 1, 1))
    nap()
    if chance() < 0.5 then
      spawned:cancel("enough")
    end
    pcall(spawned.await, spawned)
  end,
  function(depth)
    pcall(allua.flow, {
      first = function(self)
        nap()
        if chance() < 0.3 then
          self:finish(1)
        end
      end,
      second = task(depth - 1, "first"),
    })
  end,
}

function task(depth, other)
  return function(self, own)
    if type(self) ~= "userdata" then
      self, own = nil, nil -- an item of a map, say
    end
    local _ <close> = setmetatable({}, {
      __close = function()
        live = live - 1
      end,
    })
    begun, live = begun + 1, live + 1
    local _ <close> = chance() < 0.2 and closes() or nil
    for _ = 1, chance(0, 3) do
      if depth > 0 and chance() < 0.5 then
        pick(nested)(depth)
      else
        pick(alone)(self, other, own)
      end
    end
    return chance(9)
  end
end

-- So that nobody waits for ever: resolves the round's promises after a second.
local function resolve_all()
  local _, failure
  repeat
    _, failure = pcall(allua.sleep, 1)
  until not scarce or type(failure) ~= "string"
  for _, promise in ipairs(promises) do
    repeat
    until pcall(promise.resolve, promise, 1)
  end
end

if scarce and seed % 4 == 0 then
  allua.trace.start("/dev/null")
end
local before
for round = 1, rounds do
  promises, controller = {}, allua.abort_controller()
  for i = 1, 5 do
    promises[i] = allua.promise()
  end
  local last = allua.spawn(resolve_all)
  allua.yield() -- for it to begin
  local one, many = task(4, 1), tasks(4, true)
  set_scarce(true)
  pcall(allua.timeout, 5, one)
  pcall(allua.all, many, options())
  set_scarce(false)
  last:await()
  assert(live == 0 or scarce, ("%d tasks have not ended, in round %d of seed %d"):format(live, round, seed))
  local census = core.census()
  before = before or census
  for _, kind in ipairs({ "tasks", "groups", "timers" }) do
    assert(
      census[kind] == before[kind],
      ("%s: %d, not %d, in round %d"):format(kind, census[kind], before[kind], round)
    )
  end
end
if not scarce then
  print(begun)
end
