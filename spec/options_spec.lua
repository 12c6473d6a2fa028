local allua = require("allua")
local errors = require("spec.support.errors")
local size = require("spec.support.size")
require("spec.support.leftovers")()

local all, raised, text = allua.all, errors.raised, errors.text

local function sleeper()
  allua.sleep(60)
end

-- Each kind of group, called so that it runs to its end.
local kinds = {
  all = all,
  all_settled = allua.all_settled,
  flow = allua.flow,
  race = allua.race,
  any = allua.any,
  each = function(...)
    for _ in allua.each(...) do -- luacheck: ignore 542
    end
  end,
  map = function(tasks, options)
    local list = {}
    for _, task in pairs(tasks) do
      list[#list + 1] = task
    end
    return allua.map(list, function(task)
      return task()
    end, options)
  end,
}

describe("options", function()
  it("may be left out, nil or empty", function()
    local function task()
      return 1
    end
    assert.same({ 1 }, all({ task }))
    assert.same({ 1 }, all({ task }, nil))
    assert.same({ 1 }, all({ task }, {}))
  end)

  for kind, run in pairs(kinds) do
    local function refused(options)
      local started = false
      local failure = raised(run, {
        function()
          started = true
        end,
      }, options)
      assert.is_false(started)
      return text(failure)
    end

    it("are refused by " .. kind .. " where they are no table", function()
      for _, options in ipairs({ 1, "timeout", true, print }) do
        refused(options)
      end
    end)

    it("are refused by " .. kind .. " where one is unknown, with the near name", function()
      local message = refused({ timout = 1 })
      assert.matches('"timout"', message, 1, true)
      assert.matches('did you mean "timeout"?', message, 1, true)
      message = refused({ weather = 1 })
      assert.matches('"weather"', message, 1, true)
      assert.not_matches("did you mean", message, 1, true)
      refused({ "timeout" })
      refused({ [true] = 1 })
    end)

    it("are refused by " .. kind .. " where one is of the wrong type", function()
      local wrong = {
        signal = { 1, "signal", {}, true, print },
        timeout = { "soon", {}, true, print, 0 / 0 },
        concurrency = { 0, -1, 1.5, "two", {}, true },
        on_settle = { 1, "log", {}, true },
        name = { {}, true, print },
        debug = { 1, "yes", {} },
      }
      for option, values in pairs(wrong) do
        for _, value in ipairs(values) do
          assert.matches(option, refused({ [option] = value }), 1, true)
        end
      end
    end)
  end

  it("may all be given at once", function()
    local controller = allua.abort_controller()
    local settled = 0
    local results = all({
      a = function(self)
        return self.b
      end,
      b = function()
        allua.yield()
        return 1
      end,
    }, {
      signal = controller.signal,
      timeout = 60,
      concurrency = 1,
      on_settle = function()
        settled = settled + 1
      end,
      name = "everything",
      debug = false,
    })
    assert.same({ a = 1, b = 1 }, results)
    assert.equal(2, settled)
  end)

  it("are read when the group is made, and left as they are", function()
    local options = { timeout = 60, concurrency = 1 }
    all({
      function()
        options.timeout = nil
        options.concurrency = "nonsense"
        options.unknown = true
        allua.yield()
      end,
      function() end,
    }, options)
    assert.same({ concurrency = "nonsense", unknown = true }, options)
  end)
end)

describe("option signal", function()
  it("cancels the whole group, which raises the signal's reason when all have ended", function()
    for _, kind in ipairs({ "all", "flow", "race", "any", "each", "map" }) do
      local controller, reason, caught = allua.abort_controller(), {}, {}
      local function task()
        local failure = raised(allua.sleep, 60)
        caught[#caught + 1] = failure
        allua.shield(allua.sleep, 0.01)
        caught[#caught + 1] = "ended"
      end
      local aborter = allua.spawn(function()
        allua.sleep(0.01)
        controller:abort(reason)
      end)
      assert.equal(reason, raised(kinds[kind], { task, task }, { signal = controller.signal }))
      assert.equal(4, #caught)
      for i = 1, 2 do
        assert.is_true(allua.is_error(caught[i], "CancelledError"))
        assert.equal(reason, caught[i].reason)
        assert.equal("ended", caught[i + 2])
      end
      aborter:await()
    end
  end)

  it("starts nothing where it was aborted already", function()
    for _, kind in ipairs({ "all", "flow", "race", "any", "each", "map" }) do
      local controller, reason, started = allua.abort_controller(), {}, false
      controller:abort(reason)
      local function task()
        started = true
      end
      assert.equal(reason, raised(kinds[kind], { task, task }, { signal = controller.signal }))
      assert.is_false(started)
    end
  end)

  it("can be aborted by one of the tasks", function()
    local controller = allua.abort_controller()
    local failure = raised(all, {
      a = function()
        controller:abort("enough")
        allua.sleep(60)
      end,
      b = sleeper,
    }, { signal = controller.signal })
    assert.equal("enough", failure)
  end)

  it("aborts the group's own signal with the same reason", function()
    local controller, reason, seen = allua.abort_controller(), {}, nil
    raised(all, {
      function(_, task)
        pcall(allua.sleep, 60)
        seen = { task.signal.aborted, task.signal.reason == reason }
      end,
      function()
        allua.yield()
        controller:abort(reason)
      end,
    }, { signal = controller.signal })
    assert.same({ true, true }, seen)
  end)

  it("is not aborted by a failure of the group", function()
    local controller = allua.abort_controller()
    raised(all, {
      function()
        error("boom")
      end,
    }, { signal = controller.signal })
    assert.is_false(controller.signal.aborted)
  end)

  it("may be the signal of another group's task", function()
    local ended
    local failure = raised(all, {
      a = function(_, task)
        raised(all, { sleeper, sleeper }, { signal = task.signal })
        ended = true
        allua.sleep(60)
      end,
      b = function()
        allua.sleep(0.01)
        error("boom", 0)
      end,
    })
    assert.equal("boom", failure)
    assert.is_true(ended)
  end)

  it("cancels every group that it was given to", function()
    local controller = allua.abort_controller()
    local function group()
      return raised(all, { sleeper }, { signal = controller.signal })
    end
    local results = all({
      a = group,
      b = group,
      c = group,
      d = function()
        allua.yield()
        controller:abort("all of you")
      end,
    })
    assert.same({ a = "all of you", b = "all of you", c = "all of you" }, results)
  end)

  it("means nothing to a group that has ended", function()
    local controller = allua.abort_controller()
    local results = all({
      function()
        return 1
      end,
    }, { signal = controller.signal })
    controller:abort("too late")
    assert.same({ 1 }, results)
  end)

  it("does not keep the groups that have ended", function()
    local controller = allua.abort_controller()
    local function groups(n)
      for _ = 1, n do
        all({ tostring, tostring }, { signal = controller.signal })
      end
      collectgarbage()
      collectgarbage()
      return collectgarbage("count")
    end
    local before = groups(100)
    local after = groups(size.of(5000))
    assert.is_true(after - before < 100, ("%.1f KB more"):format(after - before))
  end)
end)

describe("option timeout", function()
  it("raises a TimeoutError that names the tasks still running, in start order", function()
    local failure = raised(all, {
      zebra = sleeper,
      otter = function() end,
      lynx = function()
        allua.sleep(0.001)
      end,
      hare = sleeper,
    }, { timeout = 0.1 })
    assert.is_true(allua.is_error(failure, "TimeoutError"))
    local hare = failure.message:find("hare", 1, true)
    local zebra = failure.message:find("zebra", 1, true)
    assert.is_true(hare and zebra and hare < zebra, failure.message)
    assert.is_nil(failure.message:find("otter", 1, true))
    assert.is_nil(failure.message:find("lynx", 1, true))
    assert.equal("TimeoutError: " .. failure.message, tostring(failure))
  end)

  it("cancels the tasks, with the TimeoutError as the reason, and waits until they have ended", function()
    for _, kind in ipairs({ "all", "flow", "race", "any", "each", "map" }) do
      local caught, ended
      local failure = raised(kinds[kind], {
        function()
          caught = raised(allua.sleep, 60)
          allua.shield(allua.sleep, 0.01)
          ended = true
        end,
      }, { timeout = 0.01 })
      assert.is_true(allua.is_error(failure, "TimeoutError"))
      assert.is_true(allua.is_error(caught, "CancelledError"))
      assert.equal(failure, caught.reason)
      assert.is_true(ended)
    end
  end)

  it("is raised though every task swallows its cancelling", function()
    local failure = raised(all, {
      function()
        pcall(allua.sleep, 60)
        return "late"
      end,
    }, { timeout = 0.01 })
    assert.is_true(allua.is_error(failure, "TimeoutError"))
  end)

  it("covers the groups inside", function()
    local failure = raised(all, {
      outer = function()
        return all({ inner = sleeper })
      end,
    }, { timeout = 0.01 })
    assert.is_true(allua.is_error(failure, "TimeoutError"))
    assert.matches("outer", failure.message, 1, true)
  end)

  it("means nothing to a group that ends in time, or that fails before", function()
    assert.same(
      { 1 },
      all({
        function()
          return 1
        end,
      }, { timeout = 0.01 })
    )
    assert.equal(
      "boom",
      raised(all, {
        function()
          error("boom", 0)
        end,
        sleeper,
      }, { timeout = 60 })
    )
    allua.sleep(0.02)
  end)

  it("takes a time that never comes", function()
    local function task()
      allua.yield()
      return 1
    end
    assert.same({ 1 }, all({ task }, { timeout = 1e300 }))
    assert.same({ 1 }, all({ task }, { timeout = math.huge }))
  end)
end)

describe("option concurrency", function()
  -- Tasks 1 to n that yield a few times, and the most of them that ran at once.
  local function most_at_once(n, limit)
    local running, most = 0, 0
    local tasks = {}
    local function task()
      running = running + 1
      most = math.max(most, running)
      for _ = 1, 3 do
        allua.yield()
      end
      running = running - 1
    end
    for i = 1, n do
      tasks[i] = task
    end
    all(tasks, { concurrency = limit })
    assert.equal(0, running)
    return most
  end

  it("lets so many tasks run at once, and no more", function()
    for limit = 1, 7 do
      assert.equal(limit, most_at_once(30, limit))
    end
    assert.equal(5, most_at_once(5, 1000000))
  end)

  it("counts a task that sleeps as one that runs", function()
    local running, most = 0, 0
    local function task()
      running = running + 1
      most = math.max(most, running)
      allua.sleep(0.002)
      running = running - 1
    end
    all({ task, task, task, task, task, task }, { concurrency = 2 })
    assert.equal(2, most)
  end)

  it("starts tasks in their order, the next as soon as there is a place", function()
    local order = {}
    local function task(_, t)
      order[#order + 1] = t.name
      allua.sleep(0.001)
    end
    all({ c = task, b = task, a = task, task, task }, { concurrency = 1 })
    assert.same({ 1, 2, "a", "b", "c" }, order)
  end)

  it("gives a task's place to others while it waits for a sibling", function()
    for limit = 1, 3 do
      local n, order, tasks = 200, {}, {}
      for i = 1, n do
        tasks[i] = function(self)
          local value = i < n and self[i + 1] or 0
          order[#order + 1] = i
          allua.yield()
          return value + 1
        end
      end
      local results = all(tasks, { concurrency = limit })
      assert.equal(n, results[1])
      for i = 1, n do
        assert.equal(n + 1 - i, order[i])
      end
    end
  end)

  it("holds when those who waited for a sibling go on", function()
    local running, most = 0, 0
    local function busy()
      running = running + 1
      most = math.max(most, running)
      allua.yield()
      running = running - 1
    end
    local tasks = {
      base = function()
        busy()
        return 1
      end,
    }
    for i = 1, 20 do
      tasks[i] = function(self)
        local value = self.base
        busy()
        return value
      end
    end
    all(tasks, { concurrency = 3 })
    assert.equal(3, most)
  end)

  it("counts its own group's tasks only", function()
    local running, most = 0, 0
    local function inner()
      running = running + 1
      most = math.max(most, running)
      allua.yield()
      running = running - 1
    end
    local function outer()
      all({ inner, inner, inner })
    end
    all({ outer, outer }, { concurrency = 1 })
    assert.equal(3, most)
  end)

  it("does not deadlock a group inside that reads a task outside which has no place yet", function()
    local results = all({
      a = function(self)
        return all({
          x = function()
            return self.b .. "x"
          end,
          y = function(inner)
            return inner.x .. self.c
          end,
        }, { concurrency = 1 })
      end,
      b = function()
        allua.sleep(0.001)
        return "b"
      end,
      c = function(self)
        return self.b .. "c"
      end,
    }, { concurrency = 1 })
    assert.same({ x = "bx", y = "bxbc" }, results.a)
  end)

  it("does not deadlock a spawned task, a promise, or a group of groups that read a task without a place", function()
    local results = all({
      a = function(self)
        return allua
          .spawn(function()
            return self.z
          end)
          :await()
      end,
      b = function(_, task)
        return task:promise("z"):await()
      end,
      c = function(self)
        return allua.race({
          function()
            return all({
              function()
                return self.z
              end,
            })[1]
          end,
        })
      end,
      d = function(self)
        return coroutine.wrap(function()
          coroutine.yield(self.z)
        end)()
      end,
      z = function()
        allua.yield()
        return "z"
      end,
    }, { concurrency = 1 })
    assert.same({ a = "z", b = "z", c = "z", d = "z", z = "z" }, results)
  end)

  it("never starts what waits for a place when the group fails", function()
    local started = {}
    local function task(_, t)
      started[#started + 1] = t.name
      if t.name == 2 then
        error("boom")
      end
      allua.yield()
    end
    raised(all, { task, task, task, task }, { concurrency = 1 })
    assert.same({ 1, 2 }, started)
  end)

  it("frees the place of a task that fails where failures do not end the group", function()
    local results = allua.all_settled({
      function()
        error("one", 0)
      end,
      function()
        allua.yield()
        error("two", 0)
      end,
      function()
        return 3
      end,
    }, { concurrency = 1 })
    assert.same({ "one", "two", 3 }, { results[1].reason, results[2].reason, results[3].value })
  end)

  it("costs the same for each of very many tasks", function()
    local n = size.of(100000)
    local tasks = {}
    for i = 1, n do
      tasks[i] = allua.yield
    end
    local start = os.clock()
    all(tasks, { concurrency = 10 })
    assert.is_true(os.clock() - start < size.seconds(30))
  end)
end)

describe("option on_settle", function()
  it("is called with name, status and value or error as each task settles, in that order", function()
    local log, failure = {}, {}
    allua.all_settled({
      a = function()
        allua.sleep(0.05)
        return "A", "more"
      end,
      b = function()
        error(failure)
      end,
      c = function()
        allua.sleep(0.01)
        return nil
      end,
      function()
        return false
      end,
    }, {
      on_settle = function(...)
        log[#log + 1] = table.pack(...)
      end,
    })
    assert.same({
      { n = 3, 1, "fulfilled", false },
      { n = 3, "b", "rejected", failure },
      { n = 3, "c", "fulfilled", nil },
      { n = 3, "a", "fulfilled", "A" },
    }, log)
    assert.equal(failure, log[2][3])
  end)

  it("is called for the tasks that were cancelled, too, before the group raises", function()
    local log, failure = {}, {}
    raised(all, {
      a = sleeper,
      b = function()
        allua.yield()
        error(failure)
      end,
      c = sleeper,
    }, {
      on_settle = function(name, status, value)
        log[#log + 1] = name .. " " .. status
        if name ~= "b" then
          assert(allua.is_error(value, "CancelledError"))
          assert(value.reason == failure)
        end
      end,
    })
    assert.same({ "b rejected", "a rejected", "c rejected" }, log)
  end)

  it("is called for the tasks that never started", function()
    local log = {}
    raised(all, {
      function()
        error("boom")
      end,
      print,
      print,
    }, {
      concurrency = 1,
      on_settle = function(name, status)
        log[name] = status
      end,
    })
    assert.same({ "rejected", "rejected", "rejected" }, log)
  end)

  it("is called for a task given as a promise", function()
    local promise, log = allua.promise(), {}
    promise:resolve("value")
    all({ p = promise }, {
      on_settle = function(...)
        log[#log + 1] = { ... }
      end,
    })
    assert.same({ { "p", "fulfilled", "value" } }, log)
  end)

  it("fails the group by an error in it, as it is", function()
    for _, kind in ipairs({ "all", "all_settled", "flow", "race", "any", "each", "map" }) do
      local failure, ended = {}, false
      local got = raised(kinds[kind], {
        function()
          allua.sleep(0.005)
        end,
        function()
          local _ <close> = setmetatable({}, {
            __close = function()
              ended = true
            end,
          })
          allua.sleep(60)
        end,
      }, {
        on_settle = function(_, status)
          if status == "fulfilled" then
            error(failure)
          end
        end,
      })
      assert.equal(failure, got)
      assert.is_true(ended)
    end
  end)

  it("fails the group by an error in its last call, too", function()
    local got = raised(all, {
      function() end,
      function() end,
    }, {
      on_settle = function(name)
        if name == 2 then
          error("the last", 0)
        end
      end,
    })
    assert.equal("the last", got)
  end)

  it("is called once for each of many tasks", function()
    local n = size.of(10000)
    local tasks, count = {}, 0
    for i = 1, n do
      tasks[i] = allua.yield
    end
    all(tasks, {
      on_settle = function(name)
        count = count + 1
        assert(name == count)
      end,
    })
    assert.equal(n, count)
  end)
end)

describe("option name", function()
  it("labels the group's tasks in errors that go through several groups", function()
    local failure = raised(all, {
      a = function(self)
        return all({
          x = function()
            return self.a
          end,
        }, { name = "inner" })
      end,
    }, { name = "outer" })
    assert.matches("outer.a", text(failure), 1, true)
    assert.matches("inner.x", text(failure), 1, true)
  end)

  it("may be any string", function()
    for _, name in ipairs({ "", "a\0b", "line\nline", "\u{1F600}", ("x"):rep(1000) }) do
      assert.same({ 1 }, { #all({ tostring }, { name = name }) })
    end
  end)
end)
