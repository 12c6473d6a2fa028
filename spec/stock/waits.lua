-- Outside a task, every call that waits runs the loop until it is done, then returns.

local allua = require("allua")
local check = require("spec.support.check")
local all, sleep, now = allua.all, allua.sleep, allua.now

check("all runs a graph of tasks", function()
  local order = {}
  local r = all({
    total = function(self)
      local total = self.a + self.b
      order[#order + 1] = "total"
      return total
    end,
    a = function()
      sleep(0.01)
      order[#order + 1] = "a"
      return 1
    end,
    b = function()
      sleep(0.03)
      order[#order + 1] = "b"
      return 2
    end,
  })
  assert(r.total == 3 and table.concat(order, " ") == "a b total")
end)

check("tasks wait side by side", function()
  local before = now()
  all({
    function()
      sleep(0.2)
    end,
    function()
      sleep(0.2)
    end,
    function()
      sleep(0.2)
    end,
  })
  assert(now() - before < 0.5, "one after the other")
end)

check("sleep, yield and now", function()
  local before = now()
  sleep(0.02)
  allua.yield()
  assert(now() - before >= 0.015)
end)

check("every relative of all", function()
  local function value(v)
    return function()
      sleep(0.001)
      return v
    end
  end
  local function slow()
    sleep(60)
  end
  local function bad()
    error("bad", 0)
  end
  local settled = allua.all_settled({ a = value(1), b = bad })
  assert(settled.a.value == 1 and settled.b.reason == "bad")
  assert(allua.flow({
    a = function(_, task)
      task:finish("done")
    end,
    b = slow,
  }) == "done")
  local winner, name = allua.race({ a = value(2), b = slow })
  assert(winner == 2 and name == "a")
  assert(allua.any({ bad, value(3) }) == 3)
  local seen = {}
  for key, v in allua.each({ a = value(4), b = value(5) }) do
    seen[key] = v
  end
  assert(seen.a == 4 and seen.b == 5)
  local doubled = allua.map({ 1, 2, 3 }, function(n)
    sleep(0.001)
    return n * 2
  end, { concurrency = 2 })
  assert(table.concat(doubled, " ") == "2 4 6")
end)

check("leaving each early cancels the rest", function()
  local before = now()
  for _ in
    allua.each({
      function()
        return 1
      end,
      function()
        sleep(60)
      end,
    })
  do
    break
  end
  assert(now() - before < 30)
end)

check("an error keeps its identity", function()
  local mine = {}
  local err = check.raises(all, {
    function()
      sleep(0.001)
      error(mine)
    end,
  })
  assert(err == mine)
end)

check("a timeout is raised", function()
  local err = check.raises(allua.timeout, 0.01, sleep, 60)
  assert(allua.is_error(err, "TimeoutError"))
end)

check("a signal from outside", function()
  local controller = allua.abort_controller()
  allua.spawn(function()
    sleep(0.01)
    controller:abort("enough")
  end)
  local err = check.raises(all, {
    function()
      sleep(60)
    end,
  }, { signal = controller.signal })
  assert(err == "enough")
end)

check("promises and spawned tasks are awaited", function()
  local promise = allua.promise()
  local task = allua.spawn(function(a)
    sleep(0.001)
    promise:resolve(a, nil, "c")
    return "spawned"
  end, "a")
  local values = table.pack(promise:await())
  assert(values.n == 3 and values[1] == "a" and values[3] == "c")
  assert(task:await() == "spawned" and task.status == "fulfilled")
end)

check("run gives the values of a root task", function()
  local values = table.pack(allua.run(function(...)
    sleep(0.001)
    return select("#", ...), ...
  end, nil, 2, nil))
  assert(values.n == 4 and values[1] == 3 and values[3] == 2)
end)

check("retry, with and context", function()
  local tries = 0
  local got = allua.retry(function()
    tries = tries + 1
    sleep(0.001)
    return tries == 3 and "third" or error("again", 0)
  end, { attempts = 3, delay = 0.001 })
  assert(got == "third")
  local r = allua.with({ user = "ada" }, all, {
    function()
      sleep(0.001)
      return allua.context.user
    end,
  })
  assert(r[1] == "ada" and allua.context.user == nil)
end)

check("shield", function()
  assert(allua.shield(function(v)
    sleep(0.001)
    return v
  end, "kept") == "kept")
end)

check("what can never end is an error, not a hang", function()
  local err = check.raises(function()
    allua.promise():await()
  end)
  assert(tostring(err):find("deadlock", 1, true), tostring(err))
end)

check("after an error the next wait works", function()
  check.raises(all, {
    function()
      error("no")
    end,
    function()
      sleep(60)
    end,
  })
  assert(all({
    function()
      sleep(0.001)
      return 1
    end,
  })[1] == 1)
end)

check.done()
