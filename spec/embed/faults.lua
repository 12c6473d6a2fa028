-- Every part of allua, small: run once for each allocation that can fail, and therefore in a few milliseconds.
-- It asserts nothing about how a run ends: without memory anything may raise. It only has to end.
local allua = require("allua")
local uv = require("luv")
local all, sleep = allua.all, allua.sleep

local function value(v)
  return function()
    sleep(0)
    return v
  end
end

local function fail(message)
  return function()
    sleep(0)
    error(message, 0)
  end
end

local function wait()
  sleep(60)
end

-- groups: self, its options, every relative of all
local controller = allua.abort_controller()
local settled = 0
all({
  config = value("config"),
  user = function(self)
    return self.config .. (self("config"))
  end,
  profile = function(self, task)
    return self.user .. task.name .. task:promise("config"):await()
  end,
  value("listed"),
}, {
  signal = controller.signal,
  timeout = 60,
  concurrency = 2,
  name = "page",
  on_settle = function()
    settled = settled + 1
  end,
})
sleep(0 * settled)
pcall(all, {
  a = fail("a failed"),
  b = wait,
  c = function(self)
    return self.a
  end,
})
allua.all_settled({
  a = value(1),
  b = fail("b failed"),
  c = function(self)
    return self.b
  end,
})
allua.flow({
  cache = function(_, task)
    task:finish("cached")
  end,
  fetch = wait,
})
allua.race({ value(1), wait })
pcall(allua.any, { fail("first"), fail("second") })
for _ in allua.each({ value(1), value(2), wait }) do
  break
end
allua.map({ 1, 2, 3 }, function(item)
  sleep(0)
  return item
end, { concurrency = 2 })
pcall(all, {
  a = function(self)
    return self.b
  end,
  b = function(self)
    return self.a
  end,
})
pcall(all, {
  user = function(self)
    return self.usr
  end,
})
pcall(all, { a = 1 })

-- read often
all({
  first = value(1),
  reads = function(self)
    local sum = 0
    for _ = 1, 10 do
      sum = sum + self.first
    end
    return sum + self.slow
  end,
  slow = function()
    sleep(0)
    return 1
  end,
})

-- cancelling
pcall(all, {
  waits = function()
    local guard <close> = setmetatable({}, {
      __close = function()
        allua.shield(sleep, 0)
      end,
    })
    wait()
    return guard
  end,
  aborts = function()
    sleep(0)
    controller:abort("enough")
  end,
}, { signal = controller.signal })
local remove = controller.signal:on_abort(function() end)
remove()
pcall(allua.timeout, 0.001, allua.timeout, 60, wait)
pcall(allua.timeout, 0.001, function()
  pcall(wait)
  pcall(wait)
end)

-- promises, spawned tasks and other waits
local promise = allua.promise()
local spawned = allua.spawn(function()
  return promise:await()
end)
promise:resolve("settled", nil, 3)
promise:reject("too late")
spawned:await()
local cancelled = allua.spawn(wait)
allua.yield()
cancelled:cancel("not needed")
pcall(cancelled.await, cancelled)
allua.spawn(fail("nobody looks"))
pcall(allua.retry, fail("again"), { attempts = 2, delay = 0 })
allua.with({ user = "someone" }, function()
  return all({
    function()
      return allua.context.user
    end,
  })
end)
allua.run(value(1))
allua.now()

-- luv: requests and handles on the host's loop
-- (Only requests whose results take no memory: luv makes those of the others, and its error messages, in a
-- callback of libuv's, outside every protected call, where running out of memory ends the process. For
-- the same reason nothing here can fail, and so cancel a request, while one is under way.)
local open, close = allua.promisify(uv.fs_open), allua.promisify(uv.fs_close)
close(open(".", "r", 0))
allua.promisify(uv.fs_access)(".", "r")
local timer = uv.new_timer()
local fired = allua.promise()
timer:start(0, 0, function()
  timer:close()
  fired:resolve()
end)
fired:await()

-- waits where Lua code expects them
local generator = coroutine.wrap(function()
  for i = 1, 2 do
    sleep(0)
    coroutine.yield(i)
  end
end)
generator()
local lazy = setmetatable({}, {
  __index = function(_, key)
    sleep(0)
    return key
  end,
})
pcall(function()
  return lazy.field
end)
package.preload["faults.waiting"] = function()
  sleep(0)
  return true
end
all({
  function()
    return require("faults.waiting")
  end,
  function()
    return require("faults.waiting")
  end,
})
pcall(table.sort, { 2, 1 }, function()
  sleep(0)
end)
read(0, 1)
pcall(allua.timeout, 0.001, read, 60000, 1)
pcall(error, nil)

-- virtual time, beside something real
do
  local clock <close> = allua.clock.virtual()
  local done, soon = allua.promise(), uv.new_timer()
  soon:start(1, 0, function()
    soon:close()
    done:resolve()
  end)
  all({
    function()
      sleep(60)
      clock:advance(1)
    end,
    function()
      done:await()
    end,
    function()
      allua.timeout(90, sleep, 60)
    end,
  })
end
