local allua = require("allua")
local errors = require("spec.support.errors")
local size = require("spec.support.size")
require("spec.support.leftovers")()

local each, raised, text = allua.each, errors.raised, errors.text

local function after(seconds, value)
  return function()
    allua.sleep(seconds)
    return value
  end
end

-- A variable to be closed that calls fn.
local function closing(fn)
  return setmetatable({}, { __close = fn })
end

-- A task that sleeps long, and counts in log its end.
local function sleeper(log)
  return function(_, task)
    local _ <close> = closing(function()
      log[#log + 1] = task.name
    end)
    allua.sleep(60)
  end
end

describe("each", function()
  it("gives names and values in the order in which the tasks settle", function()
    local seen = {}
    for name, value in each({ a = after(0.1, "A"), b = after(0.01, "B"), after(0.05, "one") }) do
      seen[#seen + 1] = name .. "=" .. value
    end
    assert.same({ "b=B", "1=one", "a=A" }, seen)
  end)

  it("gives a task as soon as it has settled, while the others run", function()
    local log = {}
    for name in each({
      a = function()
        return 1
      end,
      b = function()
        allua.sleep(0.02)
        log[#log + 1] = "b runs"
      end,
    }) do
      log[#log + 1] = name
    end
    assert.same({ "a", "b runs", "b" }, log)
  end)

  it("gives each task once, nil and false among the values, and one value each", function()
    local seen, count = {}, 0
    for name, value, extra in each({
      a = function() end,
      b = function()
        return false, "second"
      end,
      c = function()
        return nil, "second"
      end,
    }) do
      count = count + 1
      seen[name] = tostring(value)
      assert.is_nil(extra)
    end
    assert.equal(3, count)
    assert.same({ a = "nil", b = "false", c = "nil" }, seen)
  end)

  it("runs the loop not once where there are no tasks", function()
    for _ in each({}) do
      error("there is nothing")
    end
  end)

  it("lets the body wait, and misses nothing meanwhile", function()
    local tasks, order = {}, {}
    for i = 1, 10 do
      tasks[i] = after(i / 1000, i)
    end
    for _, value in each(tasks) do
      order[#order + 1] = value
      allua.sleep(0.005)
    end
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, order)
  end)

  it("lets tasks read each other", function()
    local seen = {}
    for name, value in each({
      a = function(self)
        return self.b + 1
      end,
      b = function()
        return 1
      end,
    }) do
      seen[#seen + 1] = name .. value
    end
    assert.same({ "b1", "a2" }, seen)
  end)

  it("raises a failure in the loop, as it is, when the rest have ended", function()
    local failure, log, names = {}, {}, {}
    local got = raised(function()
      for name in each({
        bad = function()
          allua.sleep(0.02)
          error(failure)
        end,
        good = after(0.001),
        slow = sleeper(log),
      }) do
        names[#names + 1] = name
      end
    end)
    assert.equal(failure, got)
    assert.same({ "good" }, names)
    assert.same({ "slow" }, log)
  end)

  it("cancels the rest where the loop is left by break, return or an error", function()
    local log = {}
    local function tasks()
      return { slow = sleeper(log), quick = after(0.001, "quick") }
    end
    for name in each(tasks()) do
      if name == "quick" then
        break
      end
    end
    assert.same({ "slow" }, log)

    local function first()
      for name, value in each(tasks()) do
        if name == "quick" then
          return value
        end
      end
    end
    assert.equal("quick", first())
    assert.same({ "slow", "slow" }, log)

    local got = raised(function()
      for _ in each(tasks()) do
        error("enough", 0)
      end
    end)
    assert.equal("enough", got)
    assert.same({ "slow", "slow", "slow" }, log)
  end)

  it("cancels the rest where the task that loops is cancelled", function()
    local log = {}
    raised(allua.all, {
      looper = function()
        for _ in each({ slow = sleeper(log) }) do
          error("never")
        end
      end,
      bad = function()
        allua.sleep(0.01)
        error("boom")
      end,
    })
    assert.same({ "slow" }, log)
  end)

  it("does not outlive the task that called it, though its loop is never run to the end", function()
    local log = {}
    allua.all({
      function()
        local iterator, state, control = each({ slow = sleeper(log), quick = after(0.001) })
        assert.equal("quick", (iterator(state, control)))
      end,
    })
    assert.same({ "slow" }, log)
  end)

  it("can be nested, and run by a generator", function()
    local seen = {}
    local function pairs_of_names()
      for outer in each({ after(0.001), after(0.01) }) do
        for inner in each({ a = after(0), b = after(0.005) }) do
          coroutine.yield(outer .. inner)
        end
      end
    end
    for name in coroutine.wrap(pairs_of_names) do
      seen[#seen + 1] = name
    end
    assert.same({ "1a", "1b", "2a", "2b" }, seen)
  end)

  it("takes the options of a group", function()
    local got = raised(function()
      for _ in each({ slow = after(60) }, { timeout = 0.01 }) do
        error("never")
      end
    end)
    assert.is_true(allua.is_error(got, "TimeoutError"))

    local running, most = 0, 0
    local function task()
      running = running + 1
      most = math.max(most, running)
      allua.yield()
      running = running - 1
    end
    local count = 0
    for _ in each({ task, task, task, task, task }, { concurrency = 2 }) do
      count = count + 1
    end
    assert.same({ 5, 2 }, { count, most })
  end)

  it("raises a circular dependency in the loop", function()
    local got = raised(function()
      for _ in each({
        a = function(self)
          return self.b
        end,
        b = function(self)
          return self.a
        end,
      }) do
        error("never")
      end
    end)
    assert.equal("circular dependency: b -> a -> b", text(got))
  end)

  it("goes through a hundred thousand tasks", function()
    local n = size.of(100000)
    local tasks, count = {}, 0
    local function task()
      allua.yield()
    end
    for i = 1, n do
      tasks[i] = task
    end
    for name in each(tasks) do
      count = count + 1
      assert(name == count)
    end
    assert.equal(n, count)
  end)
end)
