-- What a group's names are is found once and used again: whatever other groups there are, each has its own.
require("spec.support.leftovers")()

local allua = require("allua")
local size = require("spec.support.size")
local all = allua.all

local function failure(self, name)
  local ok, message = pcall(function()
    return self[name]
  end)
  return not ok and message
end

-- A group of these names, each task giving its name and that of the one before it, read too early or not.
local function run(names, backward)
  local tasks, order = {}, {}
  for i, name in ipairs(names) do
    local other = names[backward and i + 1 or i - 1]
    tasks[name] = function(self)
      order[#order + 1] = name
      return { name, other and self[other][1] or nil }
    end
  end
  local results = all(tasks)
  local count, wrong = 0, 0
  for name, value in pairs(results) do
    count = count + 1
    wrong = wrong + (value[1] == name and 0 or 1)
  end
  for i, name in ipairs(names) do
    wrong = wrong + (results[name][2] == names[backward and i + 1 or i - 1] and 0 or 1)
  end
  assert.equal(#names, count)
  assert.equal(0, wrong)
  return order
end

local function numbered(count, prefix)
  local names = {}
  for i = 1, count do
    names[i] = ("%s%06d"):format(prefix, i)
  end
  return names
end

local function shuffled(list)
  local copy = table.move(list, 1, #list, 1, {})
  for i = #copy, 2, -1 do
    local j = math.random(i)
    copy[i], copy[j] = copy[j], copy[i]
  end
  return copy
end

describe("names that were met before", function()
  it("start their tasks in the same order, in groups of any size", function()
    for _, count in ipairs({ 1, 2, 5, 31, 32, 33, 100, 4095, 4096, 4097 }) do
      local names = numbered(count > 100 and size.of(count) or count, "n")
      for _ = 1, 3 do
        local order = table.concat(names, " ")
        assert.equal(order, table.concat(run(names), " "))
        assert.equal(order, table.concat(run(shuffled(names)), " "))
        assert.equal(order, table.concat(run(names, true), " "))
      end
    end
  end)

  it("have other tasks the next time", function()
    for i = 1, 10 do
      local results = all({
        one = function()
          return i
        end,
        two = i % 2 == 0 and function(self)
          return self.one * 2
        end or function(self, task)
          return task.name .. self.one
        end,
        three = i % 3 == 0 and allua.spawn(function()
          return "promise"
        end) or function()
          return nil
        end,
      })
      assert.equal(i, results.one)
      assert.equal(i % 2 == 0 and i * 2 or "two" .. i, results.two)
      assert.equal(i % 3 == 0 and "promise" or nil, results.three)
    end
  end)

  it("are not those of a group with one more, one less or another", function()
    for _ = 1, 6 do
      run({ "a", "b", "c" })
      run({ "a", "b" })
      run({ "a", "b", "c", "d" })
      run({ "a", "b", "e" })
      run({ "a" })
    end
  end)

  it("are integers, floats that are none, and strings that look like them", function()
    for i = 1, 6 do
      local order = run({ math.mininteger, -7, 0, 1, 2, 3, 9, math.maxinteger, "1", "2", "x" })
      assert.same({ math.mininteger, -7, 0, 1, 2, 3, 9, math.maxinteger, "1", "2", "x" }, order)
      local results = all({
        [2] = function()
          return i
        end,
        [1] = function(self)
          return self[2.0] + 1
        end,
        sum = function(self)
          return self[1] + self[2]
        end,
        missing = function(self)
          return failure(self, "2")
        end,
        half = function(self)
          return failure(self, 1.5)
        end,
      })
      assert.equal(2 * i + 1, results.sum)
      assert.matches('unknown task "2"', results.missing)
      assert.matches("unknown task 1.5", results.half)
    end
  end)

  it("are long strings, equal but not the same", function()
    local long = ("long "):rep(20)
    for i = 1, 6 do
      local seen = all({
        [long .. "a" .. ("!"):rep(1)] = function(self)
          return self[long .. "b"] .. self[table.concat({ long, "c" })]
        end,
        [long .. "b"] = function()
          return i
        end,
        [long .. "c"] = function(self)
          return self[long .. "b"]
        end,
        short = function(self)
          return self[long .. "a!"]
        end,
      })
      assert.equal(("%d%d"):format(i, i), seen.short)
    end
  end)

  it("are forgotten for others, thousands of them, and met again", function()
    for round = 1, 3 do
      for i = 1, size.of(300) do
        run({ "first", "second" .. i, "third" .. i * 7 })
        if i % 10 == 0 then
          run({ "first", "second", "third" })
        end
      end
      run(numbered(size.of(4000), "many" .. round))
      collectgarbage()
    end
  end)

  it("are told from new ones that lie where collected ones were", function()
    for i = 1, size.of(2000) do
      local names = { "k" .. i, "l" .. i, "m" .. i }
      run(names)
      run(names)
      run(names, true)
      if i % 50 == 0 then
        collectgarbage()
      end
    end
  end)

  it("that are no task's are unknown, read early or late, near or far", function()
    for _ = 1, 4 do
      local results = all({
        user = function(self)
          return failure(self, "usr")
        end,
        zebra = function(self)
          allua.yield()
          return failure(self, "usr")
        end,
      })
      assert.matches('unknown task "usr" %(did you mean "user"%?%)', results.user)
      assert.matches('unknown task "usr" %(did you mean "user"%?%)', results.zebra)
    end
  end)

  it("give nil as a value, to whoever reads it early or late", function()
    for _ = 1, 4 do
      local results = all({
        a = function(self)
          return tostring(self.c)
        end,
        b = function(self)
          return tostring(self.c) .. select("#", self("c"))
        end,
        c = function() end,
        d = function(self)
          return tostring(self.c)
        end,
      })
      assert.same({ a = "nil", b = "nil0", d = "nil" }, results)
    end
  end)

  it("are those of nested groups of the same names too", function()
    local function nest(depth)
      return all({
        depth = function()
          return depth
        end,
        inner = function(self)
          return depth > 0 and nest(depth - 1).sum + self.depth or 0
        end,
        sum = function(self)
          return self.inner + self.depth
        end,
      })
    end
    for _ = 1, 3 do
      assert.equal(5 * 6, nest(5).sum)
    end
  end)
end)

-- More of them than a host remembers by value.
describe("very many names that were met before", function()
  local count <const> = 4500
  local names <const> = numbered(count, "n")

  local function refused(words, tasks)
    local _, message = pcall(all, tasks)
    assert.matches(words, message, 1, true)
  end

  -- A table of tasks whose order of start goes to `log`; each gives its number.
  local function tasks_of(log)
    local tasks = {}
    for i, name in ipairs(names) do
      tasks[name] = function()
        log[#log + 1] = i
        return i
      end
    end
    return tasks
  end

  -- Runs them some times, each time forgetting the log. Its tasks must have started in order, and given their numbers.
  local function check(tasks, log, missing)
    for _ = 1, 3 do
      for i = 1, #log do
        log[i] = nil
      end
      local results = all(tasks)
      assert.equal(count - (missing and 1 or 0), #log)
      for i = 2, #log do
        assert(log[i - 1] < log[i])
      end
      for i, name in ipairs(names) do
        assert(results[name] == (i ~= missing and i or nil))
      end
    end
  end

  it("start their tasks in the same order, whatever table they are in", function()
    local log = {}
    local tasks = tasks_of(log)
    check(tasks, log)
    check(tasks_of(log), log)
    local other = {}
    for name, task in pairs(tasks) do
      other[name] = task
    end
    check(other, log)
  end)

  it("have other tasks the next time, which wait and fail", function()
    local log, failed = {}, {}
    local tasks = tasks_of(log)
    check(tasks, log)
    for turn = 1, 3 do
      tasks.n000001 = function(self)
        return self.n004500 + self.n000002 + turn
      end
      tasks.n004500 = function()
        allua.yield()
        return 10
      end
      assert.equal(12 + turn, all(tasks).n000001)
      tasks.n004500 = function()
        allua.yield()
        error(failed)
      end
      assert.equal(failed, select(2, pcall(all, tasks)))
      local settled = allua.all_settled(tasks)
      assert.equal("rejected", settled.n000001.status)
      assert.equal("n004500", settled.n000001.from)
      assert.equal(failed, settled.n004500.reason)
      assert.same({ status = "fulfilled", value = 3 }, settled.n000003)
    end
  end)

  it("are not those of a group with one more, one less or another, wherever that is", function()
    local log = {}
    local tasks = tasks_of(log)
    check(tasks, log)
    for _, at in ipairs({ 2250, count }) do
      local name = names[at]
      local task = tasks[name]
      tasks[name] = nil
      check(tasks, log, at)
      tasks.other = function()
        return "other"
      end
      for _ = 1, 3 do
        assert.equal("other", all(tasks).other)
      end
      check(tasks, log, at)
      tasks[name] = task
      for _ = 1, 3 do
        assert.equal(at, all(tasks)[name])
        assert.equal("other", all(tasks).other)
      end
      tasks.other = nil
      check(tasks, log)
    end
  end)

  it("may be integers among strings, and are refused as ever", function()
    local log = {}
    local tasks = tasks_of(log)
    for _ = 1, 3 do
      for _, name in ipairs({ 0, -3, 1, 7 }) do
        tasks[name] = function()
          return name
        end
        for _ = 1, 3 do
          local results = all(tasks)
          assert.equal(name, results[name])
          assert.equal(count, results.n004500)
        end
        tasks[name] = nil
        tasks[name + 0.5] = print
        refused("task names are strings or integers (got number)", tasks)
        tasks[name + 0.5] = nil
      end
      tasks[true] = print
      refused("task names are strings or integers (got boolean)", tasks)
      tasks[true] = nil
      tasks.n000100 = 3
      refused('task "n000100" is not a function (got number)', tasks)
      tasks.n000100 = allua.spawn(function()
        return "promise"
      end)
      assert.equal("promise", all(tasks).n000100)
      tasks.n000100 = function()
        return 100
      end
    end
  end)

  it("are forgotten when they have not come again for a second", function()
    local function used()
      collectgarbage()
      collectgarbage()
      return collectgarbage("count")
    end
    local before = used()
    local tasks = tasks_of({})
    for _ = 1, 3 do
      all(tasks)
    end
    tasks = nil
    assert.is_nil(tasks)
    allua.sleep(2.1)
    assert.is_true(used() < before + 50, used() - before)
  end)
end)
