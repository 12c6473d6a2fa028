-- The coroutine library: to the letter of Lua's manual, with waits passing through it.

local allua = require("allua")
local errors = require("spec.support.errors")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local all = allua.all

local function on_close(fn)
  return setmetatable({}, { __close = fn })
end

describe("the coroutine library", function()
  it("has the functions of Lua's and no others", function()
    local names = {}
    for name, value in pairs(coroutine) do
      assert.is_function(value)
      names[#names + 1] = name
    end
    table.sort(names)
    assert.same({ "close", "create", "isyieldable", "resume", "running", "status", "wrap", "yield" }, names)
    assert.equal(coroutine, require("coroutine"))
  end)

  it("refuses what is no function or no coroutine", function()
    assert.matches("function expected", errors.raised(coroutine.create, 3), 1, true)
    assert.matches("function expected", errors.raised(coroutine.create, {}), 1, true)
    assert.matches("function expected", errors.raised(coroutine.wrap), 1, true)
    for _, name in ipairs({ "resume", "status", "close" }) do
      local err = errors.raised(coroutine[name], 3)
      assert.matches("expected, got number", err, 1, true)
      assert.matches(name, err, 1, true)
      assert.is_false(pcall(coroutine[name]))
    end
  end)

  it("shows a task to its own code as a main chunk", function()
    local thread, main = coroutine.running()
    assert.equal("thread", type(thread))
    assert.is_true(main)
    assert.equal("running", coroutine.status(thread))
    assert.is_false(coroutine.isyieldable())
    assert.is_false(coroutine.isyieldable(thread))
    assert.matches("attempt to yield from outside a coroutine", errors.raised(coroutine.yield), 1, true)
    assert.same({ false, "cannot resume non-suspended coroutine" }, { coroutine.resume(thread) })
    assert.matches("cannot close a running coroutine", errors.raised(coroutine.close, thread), 1, true)
    coroutine.wrap(function()
      assert.equal("normal", coroutine.status(thread))
      assert.is_false(coroutine.isyieldable(thread))
      assert.same({ false, "cannot resume non-suspended coroutine" }, { coroutine.resume(thread) })
      assert.matches("cannot close a normal coroutine", errors.raised(coroutine.close, thread), 1, true)
    end)()
    assert.equal(thread, (coroutine.running()))
  end)
end)

describe("coroutine.resume and coroutine.yield", function()
  it("hand values to and fro, nils too", function()
    local got = {}
    local co = coroutine.create(function(...)
      got[1] = table.pack(...)
      got[2] = table.pack(coroutine.yield())
      got[3] = table.pack(coroutine.yield(nil))
      got[4] = table.pack(coroutine.yield(1, nil, 3, nil))
      return nil, "end", nil
    end)
    assert.same({ n = 1, true }, table.pack(coroutine.resume(co, 1, nil)))
    assert.same({ n = 2, true, nil }, table.pack(coroutine.resume(co)))
    assert.same({ n = 5, true, 1, nil, 3, nil }, table.pack(coroutine.resume(co, nil)))
    assert.same({ n = 4, true, nil, "end", nil }, table.pack(coroutine.resume(co, "a", "b", nil)))
    assert.same({
      { n = 2, 1, nil },
      { n = 0 },
      { n = 1, nil },
      { n = 3, "a", "b", nil },
    }, got)
  end)

  it("carry a thousand values", function()
    local co = coroutine.create(function(...)
      return coroutine.yield(...)
    end)
    local list = {}
    for i = 1, 1000 do
      list[i] = i
    end
    local out = table.pack(coroutine.resume(co, table.unpack(list)))
    assert.equal(1001, out.n)
    assert.equal(1000, out[1001])
    local back = table.pack(coroutine.resume(co, table.unpack(list)))
    assert.equal(1001, back.n)
    assert.equal(1000, back[1001])
  end)

  it("tell what cannot be resumed", function()
    local co = coroutine.create(function() end)
    coroutine.resume(co)
    assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })

    local itself
    itself = coroutine.create(function()
      return coroutine.resume(itself)
    end)
    assert.same({ true, false, "cannot resume non-suspended coroutine" }, { coroutine.resume(itself) })

    local outer
    outer = coroutine.create(function()
      return coroutine.wrap(function()
        return coroutine.status(outer), coroutine.resume(outer)
      end)()
    end)
    assert.same({ true, "normal", false, "cannot resume non-suspended coroutine" }, { coroutine.resume(outer) })
  end)

  it("give the very error, and the coroutine is dead", function()
    local boom = {}
    local co = coroutine.create(function()
      coroutine.yield()
      error(boom)
    end)
    coroutine.resume(co)
    local ok, err = coroutine.resume(co)
    assert.is_false(ok)
    assert.equal(boom, err)
    assert.equal("dead", coroutine.status(co))
    assert.same({ false, "cannot resume dead coroutine" }, { coroutine.resume(co) })
  end)

  it("do not close the variables of a coroutine that failed: coroutine.close does", function()
    local closed = false
    local co = coroutine.create(function()
      local _ <close> = on_close(function()
        closed = true
      end)
      error("boom", 0)
    end)
    assert.same({ false, "boom" }, { coroutine.resume(co) })
    assert.is_false(closed)
    assert.same({ false, "boom" }, { coroutine.close(co) })
    assert.is_true(closed)
    assert.same({ true }, { coroutine.close(co) })
  end)

  it("cannot pass through a function of C's that knows nothing of them", function()
    local co = coroutine.wrap(function()
      local ok, err = pcall(table.sort, { 3, 2, 1 }, function(a, b)
        coroutine.yield()
        return a < b
      end)
      assert.is_false(ok)
      assert.is_true(coroutine.isyieldable())
      coroutine.yield(err)
      return "end"
    end)
    assert.matches("attempt to yield across a C-call boundary", co(), 1, true)
    assert.equal("end", co())
  end)

  it("pass through pcall, xpcall, metamethods and iterators", function()
    local co = coroutine.wrap(function()
      local adds = setmetatable({}, {
        __add = function(_, b)
          return coroutine.yield("add") + b
        end,
      })
      local sum = 0
      for i in
        function(_, last)
          return coroutine.yield("next", last)
        end
      do
        sum = sum + i
      end
      return pcall(function()
        return xpcall(function()
          return adds + sum
        end, debug.traceback)
      end)
    end)
    assert.equal("next", co())
    assert.equal("next", co(1))
    assert.equal("next", co(2))
    assert.equal("add", co(nil))
    assert.same({ true, true, 103 }, { co(100) })
  end)
end)

describe("coroutine.wrap", function()
  it("makes a function that gives the values and raises the errors", function()
    local boom = {}
    local fn = coroutine.wrap(function(a)
      local b = coroutine.yield(a + 1)
      coroutine.yield(b + 1)
      error(boom)
    end)
    assert.equal(2, fn(1))
    assert.equal(6, fn(5))
    assert.equal(boom, errors.raised(fn))
    assert.matches("cannot resume dead coroutine", errors.raised(fn), 1, true)
  end)

  it("puts the place of the call before an error that is a string", function()
    local fn = coroutine.wrap(function()
      error("boom", 0)
    end)
    local err = errors.raised(function()
      fn()
    end)
    assert.matches("^[^\n]*coroutine_spec.lua:%d+: boom$", err)
    assert.equal(
      "boom",
      errors.raised(coroutine.wrap(function()
        error("boom", 0)
      end))
    )
  end)

  it("closes the variables of a coroutine that fails, and tells the last error", function()
    local log = {}
    local fn = coroutine.wrap(function()
      local _ <close> = on_close(function(_, err)
        log[#log + 1] = err
        error({ "second" })
      end)
      local _ <close> = on_close(function(_, err)
        log[#log + 1] = err
      end)
      coroutine.yield()
      error({ "first" })
    end)
    fn()
    assert.same({ "second" }, errors.raised(fn))
    assert.same({ { "first" }, { "first" } }, log)
  end)

  it("cannot be called by the coroutine that it runs", function()
    local fn
    fn = coroutine.wrap(function()
      return pcall(fn)
    end)
    local ok, err = fn()
    assert.is_false(ok)
    assert.matches("cannot resume non-suspended coroutine", err, 1, true)
  end)
end)

describe("coroutine.status, running and isyieldable", function()
  it("follow a coroutine through its life", function()
    local co
    co = coroutine.create(function()
      local running, main = coroutine.running()
      assert.equal(co, running)
      assert.is_false(main)
      assert.equal("running", coroutine.status(co))
      assert.is_true(coroutine.isyieldable())
      assert.is_true(coroutine.isyieldable(co))
      coroutine.wrap(function()
        assert.equal("normal", coroutine.status(co))
      end)()
      coroutine.yield()
    end)
    assert.equal("suspended", coroutine.status(co))
    assert.is_true(coroutine.isyieldable(co))
    coroutine.resume(co)
    assert.equal("suspended", coroutine.status(co))
    coroutine.resume(co)
    assert.equal("dead", coroutine.status(co))
  end)

  it("say that a callback of C's cannot yield", function()
    local co = coroutine.wrap(function()
      local answers = {}
      string.gsub("a", ".", function()
        answers[1] = coroutine.isyieldable()
      end)
      answers[2] = coroutine.isyieldable()
      return answers
    end)
    assert.same({ false, true }, co())
  end)
end)

describe("coroutine.close", function()
  it("closes the variables of a suspended coroutine, last first, without an error", function()
    local log = {}
    local co = coroutine.create(function()
      local _ <close> = on_close(function(_, err)
        log[#log + 1] = { "outer", err }
      end)
      local _ <close> = on_close(function(_, err)
        log[#log + 1] = { "inner", err }
      end)
      coroutine.yield()
    end)
    coroutine.resume(co)
    assert.same({ true, n = 1 }, table.pack(coroutine.close(co)))
    assert.same({ { "inner" }, { "outer" } }, log)
    assert.equal("dead", coroutine.status(co))
    assert.same({ true, n = 1 }, table.pack(coroutine.close(co)))
  end)

  it("closes one that has not begun, and one that has ended", function()
    local co = coroutine.create(print)
    assert.is_true(coroutine.close(co))
    assert.equal("dead", coroutine.status(co))
    local ended = coroutine.create(function() end)
    coroutine.resume(ended)
    assert.is_true(coroutine.close(ended))
  end)

  it("gives false and the last error of the handlers", function()
    local boom = {}
    local seen
    local co = coroutine.create(function()
      local _ <close> = on_close(function(_, err)
        seen = err
        error(boom)
      end)
      local _ <close> = on_close(function()
        error("first", 0)
      end)
      coroutine.yield()
    end)
    coroutine.resume(co)
    local ok, err = coroutine.close(co)
    assert.is_false(ok)
    assert.equal(boom, err)
    assert.equal("first", seen)
    assert.equal("dead", coroutine.status(co))
  end)

  it("refuses a running coroutine, and one that is being closed", function()
    local co
    co = coroutine.create(function()
      return pcall(coroutine.close, co)
    end)
    local _, ok, err = coroutine.resume(co)
    assert.is_false(ok)
    assert.matches("cannot close a running coroutine", err, 1, true)

    co = coroutine.create(function()
      local _ <close> = on_close(function()
        coroutine.close(co)
      end)
      coroutine.yield()
    end)
    coroutine.resume(co)
    ok, err = coroutine.close(co)
    assert.is_false(ok)
    assert.matches("cannot close a running coroutine", err, 1, true)
  end)
end)

describe("coroutines", function()
  it("are collected when nobody holds them", function()
    local witness = setmetatable({}, { __mode = "k" })
    do
      local co = coroutine.create(coroutine.yield)
      coroutine.resume(co)
      witness[co] = true
      local fn = coroutine.wrap(function()
        allua.yield()
        coroutine.yield()
      end)
      fn()
      witness[fn] = true
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(witness))
  end)

  it("nested without end are an error, not a crash", function()
    local function deeper()
      return coroutine.wrap(deeper)()
    end
    assert.matches("C stack overflow", tostring(errors.raised(deeper)), 1, true)
    local depth = 0
    local function deeper_after_a_wait()
      depth = depth + 1
      if depth % 10 == 0 then
        allua.yield()
      end
      return coroutine.wrap(deeper_after_a_wait)()
    end
    assert.matches("C stack overflow", tostring(errors.raised(deeper_after_a_wait)), 1, true)
    allua.yield()
  end)

  it("are seen by the debug library as ever", function()
    local co = coroutine.create(function(argument)
      coroutine.yield(argument)
    end)
    coroutine.resume(co, "value")
    local name, value = debug.getlocal(co, 1, 1)
    assert.same({ "argument", "value" }, { name, value })
    assert.matches("coroutine_spec.lua", debug.traceback(co), 1, true)
    local lines = 0
    debug.sethook(co, function()
      lines = lines + 1
    end, "l")
    coroutine.resume(co)
    assert.is_true(lines > 0)
  end)
end)

describe("a wait inside a coroutine", function()
  it("suspends the task, and its consumer sees the coroutine's own yields alone", function()
    local values = {}
    for value in
      coroutine.wrap(function()
        for i = 1, 3 do
          allua.sleep(0.001)
          coroutine.yield(i)
          allua.yield()
        end
        allua.sleep(0.001)
      end)
    do
      values[#values + 1] = value
    end
    assert.same({ 1, 2, 3 }, values)
  end)

  it("lets the other tasks run", function()
    local log = {}
    all({
      consumer = function()
        for value in
          coroutine.wrap(function()
            for i = 1, 2 do
              allua.yield()
              allua.yield()
              coroutine.yield("value " .. i)
            end
          end)
        do
          log[#log + 1] = value
        end
      end,
      other = function()
        log[#log + 1] = "other"
        allua.yield()
        log[#log + 1] = "other"
      end,
    })
    assert.same({ "other", "other", "value 1", "value 2" }, log)
  end)

  it("is not seen by coroutine.resume either, first, last or between", function()
    local co = coroutine.create(function(...)
      allua.yield()
      local got = table.pack(coroutine.yield(...))
      allua.sleep(0.001)
      got = table.pack(coroutine.yield(table.unpack(got, 1, got.n)))
      allua.sleep(0.001)
      return "end", got.n
    end)
    assert.same({ n = 3, true, 1, nil }, table.pack(coroutine.resume(co, 1, nil)))
    assert.same({ n = 2, true, "second" }, table.pack(coroutine.resume(co, "second")))
    assert.same({ n = 3, true, "end", 0 }, table.pack(coroutine.resume(co)))
    assert.equal("dead", coroutine.status(co))
  end)

  it("gives what it waited for to the coroutine, not to its consumer", function()
    local promise = allua.promise()
    local task = allua.spawn(function()
      allua.sleep(0.002)
      promise:resolve("a", nil, "c")
    end)
    local co = coroutine.create(function()
      local got = table.pack(promise:await())
      return got
    end)
    local ok, got = coroutine.resume(co)
    assert.is_true(ok)
    assert.same({ n = 3, "a", nil, "c" }, got)
    task:await()
  end)

  it("reads a sibling from inside a generator", function()
    local result = all({
      list = function()
        allua.sleep(0.005)
        return { 1, 2, 3 }
      end,
      sum = function(self)
        local sum = 0
        for value in
          coroutine.wrap(function()
            for _, value in ipairs(self.list) do
              coroutine.yield(value)
            end
          end)
        do
          sum = sum + value
        end
        return sum
      end,
    })
    assert.equal(6, result.sum)
  end)

  it("passes through generators two, three and thirty deep", function()
    local function numbers(depth)
      if depth == 0 then
        return coroutine.wrap(function()
          for i = 1, 3 do
            allua.sleep(0.001)
            coroutine.yield(i)
          end
        end)
      end
      return coroutine.wrap(function()
        for value in numbers(depth - 1) do
          allua.yield()
          coroutine.yield(value * 2)
        end
        allua.yield()
      end)
    end
    for _, depth in ipairs({ 1, 2, 30 }) do
      local values = {}
      for value in numbers(depth) do
        values[#values + 1] = value
      end
      assert.same({ 2 ^ depth, 2 * 2 ^ depth, 3 * 2 ^ depth }, values)
    end
  end)

  it("keeps the yields of each level apart, with coroutine.resume between", function()
    local inner = coroutine.create(function()
      allua.yield()
      coroutine.yield("inner 1")
      allua.yield()
      return "inner 2"
    end)
    local outer = coroutine.wrap(function()
      local _, first = coroutine.resume(inner)
      coroutine.yield("outer, with " .. first)
      local _, second = coroutine.resume(inner)
      return "outer, with " .. second
    end)
    assert.equal("outer, with inner 1", outer())
    assert.equal("suspended", coroutine.status(inner))
    assert.equal("outer, with inner 2", outer())
    assert.equal("dead", coroutine.status(inner))
  end)

  it("leaves an error after it as it was", function()
    local boom = {}
    local function failing(err, level)
      return function()
        allua.yield()
        error(err, level)
      end
    end
    local ok, err = coroutine.resume(coroutine.create(failing(boom)))
    assert.is_false(ok)
    assert.equal(boom, err)
    assert.equal(boom, errors.raised(coroutine.wrap(failing(boom))))
    local fn = coroutine.wrap(failing("boom", 0))
    local text = errors.raised(function()
      fn()
    end)
    assert.matches("^[^\n]*coroutine_spec.lua:%d+: boom$", text)
    assert.matches("cannot resume dead coroutine", errors.raised(fn), 1, true)
  end)

  it("is inside whatever pcall the coroutine has", function()
    local promise = allua.promise()
    local boom = {}
    local task = allua.spawn(function()
      allua.sleep(0.002)
      promise:reject(boom)
    end)
    local fn = coroutine.wrap(function()
      local ok, err = pcall(function()
        coroutine.yield("before")
        promise:await()
      end)
      coroutine.yield(ok, err)
      return "after"
    end)
    assert.equal("before", fn())
    assert.same({ false, boom }, { fn() })
    assert.equal("after", fn())
    task:await()
  end)

  it("leaves coroutine.running, isyieldable and status as they were", function()
    local co
    co = coroutine.create(function()
      local before = coroutine.running()
      allua.sleep(0.001)
      local after, main = coroutine.running()
      assert.equal(before, after)
      assert.equal(co, after)
      assert.is_false(main)
      assert.is_true(coroutine.isyieldable())
      assert.equal("running", coroutine.status(co))
    end)
    local thread = coroutine.running()
    assert.is_true((assert(coroutine.resume(co))))
    assert.equal(thread, (coroutine.running()))
    assert.is_false(coroutine.isyieldable())
  end)

  it("leaves the coroutine busy in the eyes of the other tasks", function()
    local seen
    local co = coroutine.create(function()
      allua.sleep(0.01)
      return "its own"
    end)
    local fn = coroutine.wrap(function()
      allua.sleep(0.01)
      return "its own"
    end)
    local result = all({
      function()
        return (select(2, coroutine.resume(co)))
      end,
      function()
        return fn()
      end,
      function()
        seen = {
          status = coroutine.status(co),
          resumed = table.pack(coroutine.resume(co)),
          called = errors.raised(fn),
          closed = errors.raised(coroutine.close, co),
        }
      end,
    })
    assert.equal("normal", seen.status)
    assert.same({ n = 2, false, "cannot resume non-suspended coroutine" }, seen.resumed)
    assert.matches("cannot resume non-suspended coroutine", seen.called, 1, true)
    assert.matches("cannot close a normal coroutine", seen.closed, 1, true)
    assert.equal("its own", result[1])
    assert.equal("its own", result[2])
  end)

  it("leaves its task out of reach of the other tasks", function()
    local thread, seen
    local result = all({
      function()
        thread = coroutine.running()
        allua.sleep(0.01)
        return "its own"
      end,
      function()
        seen = {
          status = coroutine.status(thread),
          resumed = table.pack(coroutine.resume(thread, "value")),
          closed = errors.raised(coroutine.close, thread),
        }
      end,
    })
    assert.equal("normal", seen.status)
    assert.same({ n = 2, false, "cannot resume non-suspended coroutine" }, seen.resumed)
    assert.matches("cannot close a normal coroutine", seen.closed, 1, true)
    assert.equal("its own", result[1])
  end)

  it("suspends the task that resumes it, whichever made it", function()
    local fn = coroutine.wrap(function()
      local last
      while true do
        allua.yield()
        last = coroutine.yield(last)
      end
    end)
    local result = all({
      a = function()
        fn()
        return (fn("a"))
      end,
      b = function(self)
        local _ = self.a
        return (fn("b"))
      end,
    })
    assert.same({ a = "a", b = "b" }, result)
  end)

  it("lets generators of several tasks wait at the same time", function()
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = function()
        local sum = 0
        for value in
          coroutine.wrap(function()
            for j = 1, 5 do
              allua.sleep(0.05)
              coroutine.yield(j)
            end
          end)
        do
          sum = sum + value
        end
        return sum
      end
    end
    local _ <close> = allua.clock.virtual()
    local sums = all(tasks)
    assert.near(0.25, allua.now(), 1e-9)
    for i = 1, 20 do
      assert.equal(15, sums[i])
    end
  end)

  it("lets a coroutine be closed between its waits", function()
    local closed
    local co = coroutine.create(function()
      local _ <close> = on_close(function()
        closed = true
      end)
      allua.yield()
      coroutine.yield("once")
      allua.yield()
      coroutine.yield("twice")
    end)
    assert.same({ true, "once" }, { coroutine.resume(co) })
    assert.is_true(coroutine.close(co))
    assert.is_true(closed)
    assert.equal("dead", coroutine.status(co))
  end)

  it("works in a scheduler of the user's own", function()
    local log = {}
    local queue = {}
    for name = 1, 3 do
      queue[name] = coroutine.create(function()
        for step = 1, 3 do
          allua.sleep(0.001)
          log[#log + 1] = name .. "." .. step
          coroutine.yield()
        end
      end)
    end
    while #queue > 0 do
      local co = table.remove(queue, 1)
      assert(coroutine.resume(co))
      if coroutine.status(co) ~= "dead" then
        queue[#queue + 1] = co
      end
    end
    assert.equal("1.1 2.1 3.1 1.2 2.2 3.2 1.3 2.3 3.3", table.concat(log, " "))
  end)

  it("makes no tasks of a group's its own: they look like main chunks there too", function()
    local fn = coroutine.wrap(function()
      local result = all({
        function()
          local _, main = coroutine.running()
          return { main, coroutine.isyieldable(), pcall(coroutine.yield, "lost") }
        end,
      })
      coroutine.yield(result[1])
      return "end"
    end)
    local seen = fn()
    assert.same({ true, false, false }, { seen[1], seen[2], seen[3] })
    assert.matches("attempt to yield from outside a coroutine", seen[4], 1, true)
    assert.equal("end", fn())
  end)

  it("passes thousands of times", function()
    local count = 0
    local times = size.of(10000)
    for _ in
      coroutine.wrap(function()
        for i = 1, times do
          allua.yield()
          coroutine.yield(i)
        end
      end)
    do
      count = count + 1
    end
    assert.equal(times, count)
  end)
end)
