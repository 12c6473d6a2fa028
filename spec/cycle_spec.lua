local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local size = require("spec.support.size")
require("spec.support.leftovers")()

local all, raised, says, text = allua.all, errors.raised, errors.says, errors.text

-- A task that reads another, and gives what it got.
local function reads(name)
  return function(self)
    return self[name]
  end
end

-- The same, but when all the other tasks have started.
local function reads_last(name)
  return function(self)
    allua.yield()
    return self[name]
  end
end

local function after(seconds, value)
  return function()
    allua.sleep(seconds)
    return value
  end
end

describe("a circular dependency", function()
  it("of one task on itself is an error", function()
    assert.equal("circular dependency: a -> a", text(raised(all, { a = reads("a") })))
    assert.equal("circular dependency: a -> a", text(raised(all, { a = reads_last("a") })))
    assert.equal("circular dependency: 1 -> 1", text(raised(all, { reads(1) })))
  end)

  it("of two or three tasks is an error that begins at the one whose read closed it", function()
    assert.equal(
      "circular dependency: b -> a -> b",
      text(raised(all, {
        a = reads("b"),
        b = reads("a"),
      }))
    )
    assert.equal(
      "circular dependency: a -> b -> c -> a",
      text(raised(all, {
        a = reads_last("b"),
        b = reads("c"),
        c = reads("a"),
      }))
    )
    assert.equal(
      "circular dependency: c -> a -> b -> c",
      text(raised(all, {
        a = reads("b"),
        b = reads("c"),
        c = reads("a"),
      }))
    )
  end)

  it("names the tasks of the circle only, not those that lead to it", function()
    assert.equal(
      "circular dependency: d -> c -> d",
      text(raised(all, {
        a = reads("b"),
        b = reads("c"),
        c = reads("d"),
        d = reads("c"),
        e = reads("a"),
      }))
    )
  end)

  it("is raised at once, while other tasks run", function()
    local start = allua.now()
    local failure = raised(all, {
      a = reads("b"),
      b = reads("a"),
      slow = after(60),
    })
    assert.equal("circular dependency: b -> a -> b", text(failure))
    assert.is_true(allua.now() - start < 30)
  end)

  it("is raised at the reader, which may catch it and go on: the others get its value", function()
    local caught
    local results = all({
      a = reads("b"),
      b = reads("c"),
      c = function(self)
        local ok, failure = pcall(function()
          return self.a
        end)
        caught = failure
        return ok == false and "fallback"
      end,
    })
    assert.equal("circular dependency: c -> a -> b -> c", text(caught))
    assert.same({ a = "fallback", b = "fallback", c = "fallback" }, results)
  end)

  it("is raised at each try, as long as the other waits", function()
    local tries = 0
    local results = all({
      a = reads("b"),
      b = function(self)
        for _ = 1, 3 do
          local failure = raised(self, "a")
          assert.equal("circular dependency: b -> a -> b", text(failure))
          tries = tries + 1
          allua.yield()
        end
        return "b"
      end,
    })
    assert.equal(3, tries)
    assert.same({ a = "b", b = "b" }, results)
  end)

  it("names the place of the read", function()
    local failure = raised(all, { a = reads("a") })
    assert.matches("cycle_spec%.lua:%d+: circular dependency", tostring(failure))
  end)

  it("is found where self is called, and where a sibling's promise is awaited", function()
    assert.equal(
      "circular dependency: b -> a -> b",
      text(raised(all, {
        a = function(self)
          return self("b")
        end,
        b = function(self)
          return self("a")
        end,
      }))
    )
    local failure = raised(all, {
      a = function(_, task)
        return task:promise("b"):await()
      end,
      b = reads("a"),
    })
    assert.equal("circular dependency: b -> a -> b", text(failure))
    failure = raised(all, {
      a = reads("b"),
      b = function(_, task)
        return task:promise("a"):await()
      end,
    })
    assert.equal("circular dependency: b -> a -> b", text(failure))
  end)

  it("is found through generators", function()
    local caught
    local function generates(name)
      return function(self)
        local function inner()
          local ok, value = pcall(self, name)
          caught = not ok and value or caught
          coroutine.yield(ok and value or "fallback")
        end
        local function outer()
          for value in coroutine.wrap(inner) do
            coroutine.yield(value)
          end
        end
        return coroutine.wrap(outer)()
      end
    end
    local results = all({
      a = generates("b"),
      b = generates("c"),
      c = generates("a"),
    })
    assert.equal("circular dependency: c -> a -> b -> c", text(caught))
    assert.same({ a = "fallback", b = "fallback", c = "fallback" }, results)
  end)

  it("is found through spawned tasks that are awaited", function()
    local failure = raised(all, {
      a = function(self)
        return allua
          .spawn(function()
            allua.yield()
            return self.b
          end)
          :await()
      end,
      b = reads("a"),
    })
    assert.is_true(says(failure, "circular dependency: "), text(failure))
  end)

  it("is found in a group with a limit", function()
    for limit = 1, 3 do
      local failure = raised(all, {
        a = reads("b"),
        b = reads("c"),
        c = reads("a"),
      }, { concurrency = limit })
      assert.equal("circular dependency: c -> a -> b -> c", text(failure))
    end
  end)

  it("of ten thousand tasks is found, and told in a message of decent length", function()
    local n = size.of(10000)
    local tasks = {}
    for i = 1, n do
      tasks[i] = reads(i % n + 1)
    end
    local message = text(raised(all, tasks))
    assert.matches(("circular dependency: %d -> 1 -> 2 -> "):format(n), message, 1, true)
    assert.matches((" %%-> %d$"):format(n), message)
    assert.is_true(#message < 10000, ("%d bytes"):format(#message))
  end)
end)

describe("a circular dependency through nested groups", function()
  it("is found when the task inside reads the one outside", function()
    local failure = raised(all, {
      a = function(self)
        return all({
          x = function()
            return self.a
          end,
        }, { name = "inner" })
      end,
    }, { name = "outer" })
    assert.equal("circular dependency: inner.x -> outer.a -> inner.x", text(failure))
  end)

  it("is found when the task outside reads the one inside", function()
    local inner_self
    local failure = raised(all, {
      a = function()
        allua.yield()
        allua.yield()
        return inner_self.x
      end,
      b = function(self)
        return all({
          x = function(inner)
            inner_self = inner
            return self.a
          end,
        }, { name = "inner" })
      end,
    }, { name = "outer" })
    assert.equal("circular dependency: outer.a -> inner.x -> outer.a", text(failure))
  end)

  it("is told without labels where the groups have none", function()
    local failure = raised(all, {
      a = function(self)
        return all({
          x = function()
            return self.a
          end,
        })
      end,
    })
    assert.equal("circular dependency: x -> a -> x", text(failure))
  end)

  it("is found over a sibling of the task inside, and over several floors", function()
    local failure = raised(all, {
      a = function(self)
        return all({
          x = function(inner)
            return inner.y
          end,
          y = function()
            return all({
              deep = function()
                return self.b
              end,
            })
          end,
        })
      end,
      b = function(self)
        allua.yield()
        allua.yield()
        return self.a
      end,
    })
    assert.matches("circular dependency: b -> a -> ", text(failure), 1, true)
    assert.matches("y %-> deep %-> b$", text(failure))
  end)

  it("is found at once though another task inside still runs", function()
    local start = allua.now()
    local failure = raised(all, {
      a = function(self)
        return all({
          busy = after(60),
          x = function()
            return self.a
          end,
        })
      end,
    })
    assert.equal("circular dependency: x -> a -> x", text(failure))
    assert.is_true(allua.now() - start < 30)
  end)

  it("can be caught inside, so that both groups end well", function()
    local results = all({
      a = function(self)
        return all({
          x = function()
            return (pcall(function()
              return self.a
            end))
          end,
        })
      end,
    })
    assert.same({ a = { x = false } }, results)
  end)

  it("counts in map and all_settled, too", function()
    local failure = raised(all, {
      a = function(self)
        return allua.map({ "a" }, function(name)
          return self[name]
        end)
      end,
    })
    assert.equal("circular dependency: 1 -> a -> 1", text(failure))
    local results = all({
      a = function(self)
        return allua.all_settled({
          x = function()
            return self.a
          end,
          y = function()
            return "y"
          end,
        })
      end,
    })
    assert.equal("circular dependency: x -> a -> x", text(results.a.x.reason))
    assert.same({ status = "fulfilled", value = "y" }, results.a.y)
  end)
end)

describe("a circular dependency where the first result decides", function()
  local function each(tasks)
    for _ in allua.each(tasks) do -- luacheck: ignore 542
    end
  end

  -- Whether an error is, or gathers, that of a circular dependency.
  local function circular(failure)
    if allua.is_error(failure, "AggregateError") then
      failure = failure.errors.x
    end
    return says(failure, "circular dependency: ")
  end

  it("between the tasks of one group is an error at once: those waits never end, whoever decides", function()
    local circle = { a = reads("b"), b = reads("a"), c = after(60) }
    for _, run in ipairs({ allua.race, allua.flow }) do
      assert.equal("circular dependency: b -> a -> b", text(raised(run, circle)))
    end
  end)

  it("between the tasks of one any is a failure of theirs, which another task makes good", function()
    local value, name = allua.any({
      a = reads("b"),
      b = reads("a"),
      c = after(0.02, "won"),
    })
    assert.same({ "won", "c" }, { value, name })
  end)

  it("through a group is no error where another task of it can decide", function()
    for _, run in ipairs({ allua.race, allua.any, allua.flow }) do
      local results = all({
        a = function(self)
          local value = run({
            x = function()
              return self.a
            end,
            y = function(_, task)
              allua.sleep(0.01)
              if run == allua.flow then
                task:finish("y")
              end
              return "y"
            end,
          })
          return value
        end,
      })
      assert.same({ a = "y" }, results)
    end
  end)

  it("between all the tasks of a group is an error, never a wait without end", function()
    local circle = { a = reads("b"), b = reads("a") }
    assert.is_true(says(raised(allua.race, circle), "circular dependency: "))
    assert.is_true(says(raised(allua.flow, circle), "circular dependency: "))
    local failure = raised(allua.any, circle)
    assert.is_true(allua.is_error(failure, "AggregateError"))
    assert.is_true(says(failure.errors.a, "circular dependency: "))
    assert.is_true(says(failure.errors.b, "circular dependency: "))
  end)

  it("through a group is an error where every task of it waits in the circle", function()
    for _, run in ipairs({ allua.race, allua.any, allua.flow, each }) do
      local failure = raised(all, {
        a = function(self)
          local function reads_a()
            return self.a
          end
          return run({ x = reads_a, y = reads_a })
        end,
      })
      assert.is_true(circular(failure), text(failure))
    end
  end)

  it("through a group is an error as soon as the last of its tasks leads into the circle", function()
    for _, run in ipairs({ allua.race, allua.any, allua.flow, each }) do
      local failure = raised(all, {
        a = function(self)
          return run({
            x = function()
              return self.a
            end,
            y = function()
              allua.sleep(0.01)
              return self.b
            end,
          })
        end,
        b = reads("a"),
      })
      assert.is_true(circular(failure), text(failure))
    end
  end)

  it("through a group is an error as soon as the last task is gone that could have decided", function()
    for run, last in pairs({
      [allua.any] = function()
        allua.sleep(0.01)
        error("gave up")
      end,
      [allua.flow] = after(0.01, "ended without finishing"),
      [each] = after(0.01, "handed to the loop"),
    }) do
      local failure = raised(all, {
        a = function(self)
          return run({
            x = function()
              return self.a
            end,
            y = last,
          })
        end,
      })
      assert.is_true(circular(failure), text(failure))
    end
  end)
end)

describe("a dependency that is not circular", function()
  it("is no error, be it a diamond, a long way round, or read many times over", function()
    local results = all({
      top = function()
        allua.yield()
        return 1
      end,
      left = reads("top"),
      right = reads("top"),
      bottom = function(self)
        return self.left + self.right + self.left + self.top
      end,
      around = function(self)
        return all({
          x = reads("y"),
          y = function()
            return self.bottom
          end,
        }).x + self.bottom
      end,
    })
    assert.same({ top = 1, left = 1, right = 1, bottom = 4, around = 8 }, results)
  end)

  it("may go both ways where one of the two has ended its read", function()
    local results = all({
      a = function(self)
        local base = self.base
        return base .. "a"
      end,
      b = function(self)
        return self.a .. self.base
      end,
      base = function()
        return all({
          x = function(inner)
            return inner.y
          end,
          y = after(0.005, "y"),
        }).x
      end,
    })
    assert.equal("yay", results.b)
  end)

  it("may have the same names in groups inside and outside", function()
    local results = all({
      a = function(self)
        return all({
          b = reads("a"),
          a = function()
            return self.b
          end,
        }).b
      end,
      b = after(0.005, "outer b"),
    })
    assert.equal("outer b", results.a)
  end)

  it("is no error on a promise that somebody outside the circle settles", function()
    local promise = allua.promise()
    local results = all({
      a = function()
        return promise:await()
      end,
      b = function(self)
        allua.sleep(0.005)
        promise:resolve("settled")
        return self.a
      end,
    })
    assert.same({ a = "settled", b = "settled" }, results)
  end)
end)

describe("a circle of waits that no rule of groups can see", function()
  it("ends the program as a deadlock, never in silence", function()
    local result = host.eval([[
      local promise = allua.promise()
      all({
        a = function() return promise:await() end,
        b = function(self) promise:resolve(self.a) end,
      })
    ]])
    assert.equal(1, result.code)
    assert.matches("deadlock:", result.err, 1, true)
  end)
end)

describe("finding circles in a chain", function()
  local orders = {
    {
      "from its end",
      function(n)
        local order = {}
        for i = 1, n do
          order[i] = n + 1 - i
        end
        return order
      end,
    },
    {
      "from its beginning",
      function(n)
        local order = {}
        for i = 1, n do
          order[i] = i
        end
        return order
      end,
    },
    {
      "in random order",
      function(n)
        local order = {}
        for i = 1, n do
          order[i] = i
        end
        -- A generator of the spec's own, so that each run builds the same chain.
        local seed = 42
        for i = n, 2, -1 do
          seed = (seed * 1103515245 + 12345) & 0x7fffffff
          local j = (seed >> 8) % i + 1
          order[i], order[j] = order[j], order[i]
        end
        return order
      end,
    },
    {
      "from both ends to the middle",
      function(n)
        local order = {}
        for i = 1, n do
          order[i] = i % 2 == 1 and (i + 1) // 2 or n + 1 - i // 2
        end
        return order
      end,
    },
    {
      "from the middle to both ends",
      function(n)
        local order, middle = {}, (n + 1) // 2
        for i = 1, n do
          order[i] = i % 2 == 1 and middle - (i - 1) // 2 or middle + i // 2
        end
        return order
      end,
    },
  }

  -- The seconds that a chain of n tasks takes, each of which waits for the next one; the task that is
  -- started as the i-th is the order[i]-th of the chain.
  local function run(n, order)
    local position = {}
    for i = 1, n do
      position[order[i]] = i
    end
    local gate = allua.promise()
    local tasks = {}
    for i = 1, n do
      local next_name = position[order[i] + 1]
      if next_name then
        tasks[i] = function(self)
          return self[next_name] + 1
        end
      else
        tasks[i] = function()
          gate:await()
          return 1
        end
      end
    end
    -- Opens when every task waits.
    tasks.opener = function()
      gate:resolve()
    end
    collectgarbage()
    local start = os.clock()
    local results = all(tasks)
    local took = os.clock() - start
    assert.equal(n, results[position[1]])
    return took
  end

  for _, case in ipairs(orders) do
    local name, order = case[1], case[2]
    it("of a hundred thousand waits made " .. name .. " costs little, and no more for each", function()
      local small, big = size.of(20000), size.of(100000)
      local took_small, took_big = math.huge, math.huge
      -- Of several rounds the best times: the others had a busy machine.
      for _ = 1, size.full and 6 or 1 do
        took_small = math.min(took_small, run(small, order(small)))
        took_big = math.min(took_big, run(big, order(big)))
        if took_big < 8 * took_small then
          break
        end
      end
      assert.is_true(took_big < size.seconds(20), ("took %.3f s"):format(took_big))
      if size.full then
        -- Five times the tasks: 5 where each costs the same, 25 where each looks at all the others.
        local ratio = took_big / took_small
        assert.is_true(ratio < 12, ("%.3f s is %.1f times %.3f s"):format(took_big, ratio, took_small))
      end
    end)
  end

  it("closed by its last wait is found there, in whatever order the others were made", function()
    local function name(i)
      return ("t%03d"):format(i)
    end
    for n = 2, 40 do
      for _, case in ipairs(orders) do
        local order, gates, tasks = case[2](n), {}, {}
        for i = 1, n do
          gates[i] = allua.promise()
          tasks[name(order[i])] = function(self)
            gates[i]:await()
            if gates[i + 1] then
              gates[i + 1]:resolve()
            end
            return self[name(order[i] % n + 1)]
          end
        end
        function tasks.opener()
          gates[1]:resolve()
        end
        local message = raised(all, tasks)
        assert.is_true(says(message, "circular dependency: " .. name(order[n]) .. " -> "), tostring(message))
        assert.equal("fulfilled", gates[n].status)
      end
    end
  end)

  it("closed into a circle of a hundred thousand is found by its last read", function()
    local n = size.of(100000)
    local tasks = {}
    for i = 1, n do
      tasks[i] = reads(i % n + 1)
    end
    assert.is_true(says(raised(all, tasks), "circular dependency: "))
  end)

  it("costs little where very many wait for one, which waits for many others in turn", function()
    local n = size.of(50000)
    local tasks = {}
    local function reader(self)
      return self.hub
    end
    for i = 1, n do
      tasks[i] = reader
    end
    for i = n + 1, 2 * n do
      tasks[i] = function()
        allua.yield()
        return 1
      end
    end
    tasks.hub = function(self)
      local sum = 0
      for i = n + 1, 2 * n do
        sum = sum + self[i]
      end
      return sum
    end
    local start = os.clock()
    assert.equal(n, all(tasks)[1])
    assert.is_true(os.clock() - start < size.seconds(20))
  end)

  it("costs little in a mesh of layers, where each task reads the whole layer below", function()
    local layers = 40
    local width = size.full and 60 or 5
    local tasks = {}
    for layer = 1, layers do
      for i = 1, width do
        -- The upper layers first, so that each wait is made before its target can end.
        tasks[(layers - layer) * width + i] = function(self)
          if layer == 1 then
            allua.yield()
            return 1
          end
          local sum = 0
          for j = 1, width do
            sum = math.max(sum, self[(layers - layer + 1) * width + j])
          end
          return sum + 1
        end
      end
    end
    local start = os.clock()
    assert.equal(layers, all(tasks)[1])
    assert.is_true(os.clock() - start < size.seconds(20))
  end)
end)
