-- workloads: the graphs that every Lua participant of the benchmark runs.
--
-- A participant is an engine, a table of
--   run(graph)       runs the graph's tasks to their end, gives name -> result
--   fails(graph)     runs a graph in which a task fails, gives the error; nil: the engine cannot cancel
--   read             "index": a task reads another as first_argument[name]; "call": as first_argument(name)
--   names            false: the engine knows tasks by number only
--   yield(), sleep(seconds)   inside a task
--   wrap             in place of coroutine.wrap
--   now()            monotonic seconds
-- A graph is { tasks = name -> function, order = the names in the order of their start, units = what a
-- time is divided by, verify = function(results) }; one that fails has fails = true, and verifies the error.

local function keys(count, named)
  local order = {}
  for i = 1, count do
    order[i] = named and ("t%07d"):format(i) or i -- in byte order too, as allua starts tasks in that
  end
  return order
end

-- N tasks that return at once.
local function wide(_, count, named)
  local order, tasks = keys(count, named), {}
  for i, name in ipairs(order) do
    tasks[name] = function()
      return i
    end
  end
  return {
    tasks = tasks,
    order = order,
    units = count,
    verify = function(results)
      local sum = 0
      for _, name in ipairs(order) do
        sum = sum + results[name]
      end
      return sum == count * (count + 1) // 2
    end,
  }
end

-- N tasks, of which each but one waits for another. `at(i)` is the place in the order of start of the
-- chain's i-th task. Every wait truly suspends: the first task of the chain lets all others start first.
local function chain(engine, count, named, at)
  local order, tasks, yield = keys(count, named), {}, engine.yield
  for i = 1, count do
    local before = order[i > 1 and at(i - 1)]
    local read = engine.read == "index" and function(self)
      return self[before] + 1
    end or function(wait)
      return wait(before) + 1
    end
    tasks[order[at(i)]] = i > 1 and read or function()
      yield()
      return 1
    end
  end
  return {
    tasks = tasks,
    order = order,
    units = count,
    verify = function(results)
      return results[order[at(count)]] == count
    end,
  }
end

local function chain_forward(engine, count, named)
  return chain(engine, count, named, function(i)
    return i
  end)
end

local function chain_backward(engine, count, named)
  return chain(engine, count, named, function(i)
    return count + 1 - i
  end)
end

local function chain_random(engine, count, named)
  local places, state = {}, 12345
  for i = 1, count do
    places[i] = i
  end
  for i = count, 2, -1 do -- the same permutation each time, on every machine
    state = (state * 1103515245 + 12345) & 0x7fffffff
    local j = (state >> 8) % i + 1
    places[i], places[j] = places[j], places[i]
  end
  return chain(engine, count, named, function(i)
    return places[i]
  end)
end

-- "LxW": L layers of W tasks, each task waiting for 3 of the layer before; the last layer starts first.
local function layers(engine, size, named)
  local depth, width = size:match("^(%d+)x(%d+)$")
  depth, width = math.tointeger(depth), math.tointeger(width)
  local order, tasks = keys(depth * width, named), {}
  local function place(layer, i)
    return (depth - layer) * width + i % width + 1
  end
  local expected = {}
  for layer = 1, depth do
    for i = 0, width - 1 do
      local name = order[place(layer, i)]
      if layer == 1 then
        expected[name] = i
        tasks[name] = function()
          return i
        end
      else
        local a, b, c = place(layer - 1, i), place(layer - 1, i + 1), place(layer - 1, i * 7 + 3)
        a, b, c = order[a], order[b], order[c]
        expected[name] = (expected[a] + expected[b] + expected[c]) % 1000003
        tasks[name] = engine.read == "index"
            and function(self)
              return (self[a] + self[b] + self[c]) % 1000003
            end
          or function(wait)
            return (wait(a) + wait(b) + wait(c)) % 1000003
          end
      end
    end
  end
  return {
    tasks = tasks,
    order = order,
    units = depth * width,
    verify = function(results)
      for name, value in pairs(expected) do
        if results[name] ~= value then
          return false
        end
      end
      return true
    end,
  }
end

-- The five-task graph: config, user, profile(user), preferences(user), dashboard(profile, preferences).
local function dashboard(engine, named, names)
  local order = keys(5, named)
  local key = {}
  for i, name in ipairs(names) do
    if named then
      order[i] = ("%d_%s"):format(i, name)
    end
    key[name] = order[i]
  end
  local user, profile, preferences = key.user, key.profile, key.preferences
  local index = engine.read == "index"
  return {
    order = order,
    tasks = {
      [key.config] = function()
        return 1
      end,
      [user] = function()
        return 7
      end,
      [profile] = index and function(self)
        return self[user] * 10
      end or function(wait)
        return wait(user) * 10
      end,
      [preferences] = index and function(self)
        return self[user] * 100
      end or function(wait)
        return wait(user) * 100
      end,
      [key.dashboard] = index and function(self)
        return self[profile] + self[preferences]
      end or function(wait)
        return wait(profile) + wait(preferences)
      end,
    },
    units = 1,
    verify = function(results)
      return results[key.dashboard] == 770 and results[key.config] == 1
    end,
  }
end

local function dashboard_leaves_first(engine, _, named)
  return dashboard(engine, named, { "config", "user", "profile", "preferences", "dashboard" })
end

local function dashboard_leaves_last(engine, _, named)
  return dashboard(engine, named, { "dashboard", "preferences", "profile", "user", "config" })
end

-- A task that reads another, which has settled, N times: in a generator's body, or straight.
local function reads(_, count, named, body)
  local order = keys(2, named)
  return {
    order = order,
    tasks = {
      [order[1]] = function()
        return 3
      end,
      [order[2]] = body(order[1]),
    },
    units = count,
    verify = function(results)
      return results[order[2]] == 3 * count
    end,
  }
end

local function generators(engine, count, named)
  local wrap = engine.wrap or coroutine.wrap
  return reads(engine, count, named, function(name)
    local function body(generate)
      return function(self)
        local sum = 0
        for value in wrap(generate), self do
          sum = sum + value
        end
        return sum
      end
    end
    return body(engine.read == "index" and function(self)
      for _ = 1, count do
        coroutine.yield(self[name])
      end
    end or function(wait)
      for _ = 1, count do
        coroutine.yield(wait(name))
      end
    end)
  end)
end

local function settled_read(engine, count, named)
  return reads(engine, count, named, function(name)
    return engine.read == "index"
        and function(self)
          local sum = 0
          for _ = 1, count do
            sum = sum + self[name]
          end
          return sum
        end
      or function(wait)
        local sum = 0
        for _ = 1, count do
          sum = sum + wait(name)
        end
        return sum
      end
  end)
end

-- N tasks, all asleep when the last of them fails.
local function cancel(engine, count, named)
  local order, tasks, failure = keys(count, named), {}, {}
  local function task()
    engine.sleep(60)
  end
  for _, name in ipairs(order) do
    tasks[name] = task
  end
  tasks[order[count]] = function()
    engine.yield()
    error(failure)
  end
  return {
    tasks = tasks,
    order = order,
    units = count,
    fails = true,
    verify = function(err)
      return err == failure
    end,
  }
end

-- N tasks that sleep. The unit is all of them.
local function sleepers(engine, count, named)
  local order, tasks = keys(count, named), {}
  local function task()
    engine.sleep(0.01)
    return 1
  end
  for _, name in ipairs(order) do
    tasks[name] = task
  end
  return {
    tasks = tasks,
    order = order,
    units = 1,
    verify = function(results)
      return results[order[1]] == 1 and results[order[count]] == 1
    end,
  }
end

-- N tasks that sleep while one more looks about: its graph.look() gives graph.looked.
local function resting(engine, count, named)
  local graph = sleepers(engine, count + 1, named)
  local function task()
    engine.sleep(2)
    return 1
  end
  for i = 1, count do
    graph.tasks[graph.order[i]] = task
  end
  graph.tasks[graph.order[count + 1]] = function()
    engine.sleep(1)
    graph.looked = graph.look()
    return 1
  end
  return graph
end

return {
  wide = wide,
  chain = chain_backward,
  ["chain forward"] = chain_forward,
  ["chain random"] = chain_random,
  layers = layers,
  ["dashboard, leaves first"] = dashboard_leaves_first,
  ["dashboard, leaves last"] = dashboard_leaves_last,
  generators = generators,
  ["settled read"] = settled_read,
  cancel = cancel,
  sleepers = sleepers,
  resting = resting,
}
