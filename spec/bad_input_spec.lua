local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local size = require("spec.support.size")
require("spec.support.leftovers")()

local all, raised, says, text = allua.all, errors.raised, errors.says, errors.text

-- A value of each type but table, as { value, the name of its type }.
local no_tables = {
  { nil, "nil" },
  { false, "boolean" },
  { 7, "number" },
  { "tasks", "string" },
  { print, "function" },
  { coroutine.create(print), "thread" },
  { io.stdout, "userdata" },
}

local names = { "{}", "a\0b", "line\nline\r\n", "t\u{e4}sk \u{1F600}", "\xff\xfe", "", " ", "%s%d", ("long"):rep(1000) }

describe("a table of tasks", function()
  for _, kind in ipairs({ "all", "all_settled", "flow", "race", "any" }) do
    it("is what " .. kind .. " expects", function()
      for _, case in ipairs(no_tables) do
        assert.equal(
          ("%s: expected a table of tasks (got %s)"):format(kind, case[2]),
          text(raised(allua[kind], case[1]))
        )
      end
    end)

    it("for " .. kind .. " holds functions, callables and promises", function()
      local started = false
      local function task()
        started = true
      end
      local function refused(value)
        return text(raised(allua[kind], { a = task, x = value, z = task }))
      end
      for i = 2, #no_tables do
        if no_tables[i][2] ~= "function" then
          assert.equal(('task "x" is not a function (got %s)'):format(no_tables[i][2]), refused(no_tables[i][1]))
        end
      end
      assert.equal('task "x" is not a function (got table)', refused({}))
      assert.equal('task "x" is not a function (got table)', refused(setmetatable({}, { __index = print })))
      assert.is_true(says(raised(allua[kind], { task, "second" }), "is not a function (got string)"))
      assert.is_false(started)
    end)

    it("for " .. kind .. " has strings and integers for names", function()
      local started = false
      local function task()
        started = true
      end
      local function refused(name)
        return text(raised(allua[kind], { a = task, task, [name] = task }))
      end
      assert.equal("task names are strings or integers (got boolean)", refused(true))
      assert.equal("task names are strings or integers (got table)", refused({}))
      assert.equal("task names are strings or integers (got function)", refused(print))
      assert.equal("task names are strings or integers (got userdata)", refused(io.stdout))
      assert.equal("task names are strings or integers (got number)", refused(1.5))
      assert.equal("task names are strings or integers (got number)", refused(math.huge))
      assert.is_false(started)
    end)
  end

  it("is what each expects, before its loop begins", function()
    for _, case in ipairs(no_tables) do
      assert.equal(("each: expected a table of tasks (got %s)"):format(case[2]), text(raised(allua.each, case[1])))
    end
    assert.equal('task "x" is not a function (got number)', text(raised(allua.each, { x = 1 })))
    assert.equal("task names are strings or integers (got boolean)", text(raised(allua.each, { [true] = print })))
  end)

  it("need not be there to be missed: no arguments at all are an error", function()
    for _, kind in ipairs({ "all", "all_settled", "flow", "race", "any", "each" }) do
      assert.is_true(says(raised(allua[kind]), kind .. ": expected a table of tasks"))
    end
    raised(allua.map)
  end)

  it("names in the message the one that is wrong, though many are right", function()
    local tasks = {}
    for i = 1, 1000 do
      tasks["task " .. i] = print
    end
    tasks["task 500"] = 5
    assert.equal('task "task 500" is not a function (got number)', text(raised(all, tasks)))
  end)

  it("blames the line that called", function()
    local failure = raised(function()
      all(nil)
    end)
    assert.matches("bad_input_spec%.lua:%d+: ", failure)
  end)
end)

describe("map", function()
  it("expects a list and a function", function()
    local function refused(...)
      assert.matches("map: ", text(raised(allua.map, ...)), 1, true)
    end
    for _, case in ipairs(no_tables) do
      refused(case[1], print)
    end
    refused({ 1 })
    refused({ 1 }, nil)
    refused({ 1 }, 7)
    refused({ 1 }, "print")
    refused({ 1 }, {})
  end)
end)

describe("names of any bytes", function()
  it("name tasks, results and reads", function()
    local tasks, expected = {}, {}
    for i, name in ipairs(names) do
      tasks[name] = function(_, task)
        allua.yield()
        return task.name
      end
      tasks[i] = function(self)
        return self[name]
      end
      expected[name], expected[i] = name, name
    end
    assert.same(expected, all(tasks))
  end)

  it("stand in errors as they are", function()
    for _, name in ipairs(names) do
      local failure = raised(all, {
        [name] = function(self)
          return self[name]
        end,
      })
      assert.is_true(says(failure, "circular dependency: "))
      assert.is_true(says(raised(all, { [name] = 1 }), "is not a function (got number)"))
      failure = raised(all, {
        function(self)
          return self[name]
        end,
      })
      assert.is_true(says(failure, "unknown task "))
      failure = raised(all, {
        [name] = function()
          allua.sleep(60)
        end,
      }, { timeout = 0.001 })
      assert.is_true(allua.is_error(failure, "TimeoutError"))
    end
    assert.equal('task "a\0b" is not a function (got number)', text(raised(all, { ["a\0b"] = 1 })))
    assert.equal(
      "circular dependency: a\0b -> a\0b",
      text(raised(all, {
        ["a\0b"] = function(self)
          return self["a\0b"]
        end,
      }))
    )
  end)

  it("may be those of methods and metamethods", function()
    local tasks, expected = {}, {}
    for _, name in ipairs({ "__index", "__call", "__name", "__gc", "name", "signal", "promise", "self", "n", "nil" }) do
      tasks[name] = function(_, task)
        return task.name
      end
      expected[name] = name
    end
    tasks.reader = function(self)
      local got = {}
      for name in pairs(expected) do
        got[name] = self[name]
      end
      return got
    end
    local results = all(tasks)
    assert.same(expected, results.reader)
    assert.is_nil(getmetatable(results))
  end)

  it("may be the integers at the ends", function()
    local function name(_, task)
      return task.name
    end
    assert.same(
      { [math.mininteger] = math.mininteger, [math.maxinteger] = math.maxinteger, [0] = 0 },
      all({ [math.mininteger] = name, [math.maxinteger] = name, [0] = name })
    )
  end)
end)

describe("an error value", function()
  it("that raises in __tostring goes through groups as it is", function()
    local failure = setmetatable({}, {
      __tostring = function()
        error("not even this")
      end,
    })
    local function task()
      error(failure)
    end
    assert.is_true(rawequal(failure, raised(all, { a = task })))
    assert.is_true(rawequal(failure, raised(allua.race, { a = task })))
    assert.is_true(rawequal(failure, raised(allua.flow, { a = task })))
    assert.is_true(rawequal(failure, raised(allua.any, { a = task }).errors.a))
    assert.is_true(rawequal(failure, allua.all_settled({ a = task }).a.reason))
  end)

  it("that nobody catches ends the program with 1 and a report, whatever it is", function()
    local values = {
      "nil",
      "false",
      "42",
      "{}",
      "print",
      "setmetatable({}, { __tostring = function() error('not even this') end })",
      "setmetatable({}, { __tostring = function() return 42 end })",
      "setmetatable({}, { __tostring = function() allua.sleep(1) end })",
      "setmetatable({}, { __name = 42, __index = error })",
    }
    for _, value in ipairs(values) do
      local result = host.eval(("all({ a = function() error(%s) end })"):format(value))
      assert.equal(1, result.code, value)
      assert.equal(0, result.signal, value)
      assert.is_true(#result.err > 0, value)
    end
  end)

  it("that is a warning's, too, does no harm", function()
    local result = host.eval([[
      for _, value in ipairs({ {}, setmetatable({}, { __tostring = function() error("x") end }), false }) do
        pcall(all, {
          a = function() allua.yield() error("first") end,
          b = function() pcall(allua.sleep, 60) error(value) end,
        })
      end
      io.write("done")
    ]])
    assert.same({ "done", 0 }, { result.out, result.code })
  end)
end)

describe("an error in a close handler", function()
  local function failing(failure)
    return setmetatable({}, {
      __close = function()
        error(failure, 0)
      end,
    })
  end

  it("is the task's error", function()
    local failure = {}
    local got = raised(all, {
      a = function()
        local _ <close> = failing(failure)
        return "value"
      end,
    })
    assert.equal(failure, got)
    got = raised(all, {
      a = function()
        local _ <close> = failing(failure)
        error("hidden by it")
      end,
    })
    assert.equal(failure, got)
  end)

  it("of a cancelled task is a warning: the first error is raised", function()
    local result = host.eval([[
      local _, failure = pcall(all, {
        a = function()
          local _ <close> = setmetatable({}, { __close = function() error("while closing", 0) end })
          allua.sleep(60)
        end,
        b = function() allua.yield() error("the first", 0) end,
      })
      io.write(failure)
    ]])
    assert.equal("the first", result.out)
    assert.matches("while closing", result.err, 1, true)
    assert.equal(0, result.code)
  end)
end)

describe("an error in a finalizer", function()
  it("is a warning, and harms no task", function()
    local result = host.eval([[
      local results = all({
        a = function()
          setmetatable({}, { __gc = function() error("while collecting") end })
          allua.yield()
          collectgarbage()
          return "a"
        end,
        b = function(self) return self.a .. "b" end,
      })
      io.write(results.b)
    ]])
    assert.same({ "ab", 0 }, { result.out, result.code })
    assert.matches("while collecting", result.err, 1, true)
  end)

  it("that uses a group's self and task does no harm", function()
    all({
      a = function(self, task)
        setmetatable({}, {
          __gc = function()
            pcall(function()
              return self.b
            end)
            pcall(task.promise, task, "b")
            pcall(all, { tostring })
          end,
        })
        allua.yield()
        collectgarbage()
        collectgarbage()
      end,
      b = function()
        allua.yield()
        allua.yield()
      end,
    })
  end)
end)

describe("a task that asks for too much", function()
  -- Lua makes room for what is to be read before it reads.
  local function read_too_much()
    local file <close> = assert(io.open("/dev/zero", "rb"))
    return file:read(1 << 45)
  end

  it("of the stack fails its group with a stack overflow", function()
    local function deep(n)
      return 1 + deep(n + 1)
    end
    local caught
    local failure = raised(all, {
      bad = function()
        allua.yield()
        return deep(1)
      end,
      other = function()
        caught = raised(allua.sleep, 60)
        error(caught)
      end,
    })
    assert.matches("stack overflow", failure, 1, true)
    assert.equal(failure, caught.reason)
  end)

  it("of the C stack fails with an error", function()
    local object = setmetatable({}, {})
    getmetatable(object).__index = function(_, key)
      return (string.gsub("x", "x", function()
        return object[key]
      end))
    end
    local failure = raised(all, {
      a = function()
        return object.key
      end,
    })
    assert.matches("stack overflow", failure, 1, true)
  end)

  it("of memory fails its group with not enough memory", function()
    local caught
    local failure = raised(all, {
      bad = function()
        allua.yield()
        return read_too_much()
      end,
      other = function()
        caught = raised(allua.sleep, 60)
        error(caught)
      end,
    })
    assert.equal("not enough memory", failure)
    assert.equal(failure, caught.reason)
  end)

  it("may catch what it was refused, and go on", function()
    local results = all({
      a = function()
        local ok = pcall(read_too_much)
        allua.yield()
        return ok
      end,
      b = function(self)
        return self.a
      end,
    })
    assert.same({ a = false, b = false }, results)
  end)

  it("of values returns them all where the stack has room", function()
    local n = size.of(100000)
    all({
      many = function()
        local values = {}
        for i = 1, n do
          values[i] = i
        end
        return table.unpack(values)
      end,
      x = function(self)
        assert.equal(n, select("#", self("many")))
        assert.equal(n, (select(-1, self("many"))))
      end,
    })
  end)
end)

describe("a script that redefines", function()
  it("coroutine, error, pcall, print and the rest has all that allua does, errors included", function()
    local result = host.eval([[
      local all, allua, io, pcall_, tostring_ = all, allua, io, pcall, tostring
      local function broken() io.write("used what the script redefined\n") os.exit(3) end
      for _, name in ipairs({ "error", "pcall", "xpcall", "print", "select", "type", "tostring", "tonumber",
                              "setmetatable", "getmetatable", "rawget", "rawset", "rawequal", "rawlen", "next",
                              "pairs", "ipairs", "assert", "require", "warn", "load", "collectgarbage" }) do
        _G[name] = broken
      end
      coroutine, table, math, string, debug = broken, broken, broken, broken, broken
      local write = io.write

      local results = all({
        a = function() allua.sleep(0.001) return 1 end,
        b = function(self) return self.a + 1 end,
      }, { concurrency = 1, timeout = 60, on_settle = function() end, name = "g" })
      write(results.b, "\n")
      local _, failure = pcall_(all, { a = function(self) return self.a end })
      write(failure, "\n")
      _, failure = pcall_(all, { user = function(self) return self.usr end })
      write(failure, "\n")
      _, failure = pcall_(all, { 1 })
      _, failure = pcall_(all, {}, { timout = 1 })
      _, failure = pcall_(all, { function() allua.sleep(60) end }, { timeout = 0.001 })
      write(tostring_(failure), "\n")
      _, failure = pcall_(allua.any, { function() allua.timeout(0.001, allua.sleep, 60) end })
      write(failure.name, "\n")
      write(allua.flow({ function(_, task) task:finish("finished") end }), "\n")
      write(allua.race({ function() return "raced" end }), "\n")
      for _, value in allua.each({ function() return "each" end }) do write(value, "\n") end
      write(allua.map({ "mapped" }, function(item) return item end)[1], "\n")
      write(allua.all_settled({ function() return "settled" end })[1].value, "\n")
      write(allua.spawn(function() return "spawned" end):await(), "\n")
      all({ function(self) return self.nothing end })
    ]])
    local lines = {}
    for line in result.out:gmatch("[^\n]+") do
      lines[#lines + 1] = line
    end
    assert.equal("2", lines[1])
    assert.matches("circular dependency: a -> a", lines[2], 1, true)
    assert.matches('unknown task "usr" (did you mean "user"?)', lines[3], 1, true)
    assert.matches("^TimeoutError: ", lines[4])
    assert.same({
      "AggregateError",
      "finished",
      "raced",
      "each",
      "mapped",
      "settled",
      "spawned",
    }, { table.unpack(lines, 5) })
    assert.equal(1, result.code)
    assert.matches('unknown task "nothing"', result.err, 1, true)
  end)

  it("them all as nil still ends with a report", function()
    local result = host.eval([[
      local all = all
      local globals = _G
      for name in pairs(globals) do
        globals[name] = nil
      end
      all({ a = function(self) return self.a end })
    ]])
    assert.equal(1, result.code)
    assert.matches("circular dependency: a -> a", result.err, 1, true)
  end)
end)
