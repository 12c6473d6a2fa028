-- Tasks that do anything, in groups of all kinds inside one another, on a virtual clock.
--
--   allua spec/support/chaos.lua SEED ROUNDS
--
-- Raises if a task has not ended when its group has, and prints how many tasks there were.
local allua = require("allua")
local core = require("allua.core")

local seed, rounds = math.tointeger(arg[1]), math.tointeger(arg[2])
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
    pick(promises):resolve(1)
  end,
  function()
    if chance() < 0.1 then
      controller:abort("enough")
    end
  end,
}
local nested = {
  function(depth)
    allua.all(any_tasks(depth), options())
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
  return function(self)
    begun, live = begun + 1, live + 1
    local _ <close> = setmetatable({}, {
      __close = function()
        live = live - 1
      end,
    })
    local _ <close> = chance() < 0.2 and closes() or nil
    for _ = 1, chance(0, 3) do
      if depth > 0 and chance() < 0.5 then
        pick(nested)(depth)
      else
        pick(alone)(self, other)
      end
    end
    return chance(9)
  end
end

local before
for round = 1, rounds do
  promises, controller = {}, allua.abort_controller()
  for i = 1, 5 do
    promises[i] = allua.promise()
  end
  local last = allua.spawn(function() -- so that nobody waits for ever
    allua.sleep(1)
    for _, promise in ipairs(promises) do
      promise:resolve(1)
    end
  end)
  pcall(allua.timeout, 5, task(4, 1))
  pcall(allua.all, tasks(4, true), options())
  last:await()
  assert(live == 0, ("%d tasks have not ended, in round %d of seed %d"):format(live, round, seed))
  local census = core.census()
  before = before or census
  for _, kind in ipairs({ "tasks", "groups", "timers" }) do
    assert(
      census[kind] == before[kind],
      ("%s: %d, not %d, in round %d"):format(kind, census[kind], before[kind], round)
    )
  end
end
print(begun)
