-- Where a task may wait: everywhere that Lua can suspend. Elsewhere the error says where, and the way out.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")

require("spec.support.leftovers")()

local all = allua.all

--- Waits, truly: another task has run when this returns. Gives its arguments back.
local function wait(...)
  local other_ran = false
  local task = allua.spawn(function()
    other_ran = true
  end)
  allua.yield()
  task:await()
  assert(other_ran)
  return ...
end

local function on_close(fn)
  return setmetatable({}, { __close = fn })
end

describe("a task may wait inside", function()
  it("pcall, which gives its values and errors as ever", function()
    assert.same({ n = 4, true, 1, nil, nil }, table.pack(pcall(wait, 1, nil, nil)))
    local boom = {}
    local ok, err = pcall(function()
      wait()
      error(boom)
    end)
    assert.is_false(ok)
    assert.equal(boom, err)
    assert.same({ true, true, true, "deep" }, { pcall(pcall, pcall, wait, "deep") })
  end)

  it("xpcall, whose handler sees the stack of the error", function()
    assert.same({ n = 3, true, 1, nil }, table.pack(xpcall(wait, debug.traceback, 1, nil)))
    local function failing()
      wait()
      error("boom", 0)
    end
    local ok, trace = xpcall(function()
      failing()
    end, debug.traceback)
    assert.is_false(ok)
    assert.matches("^boom\nstack traceback:", trace)
    assert.matches("'failing'", trace, 1, true)
  end)

  it("a chunk that was loaded", function()
    local chunk = load("local wait = ... return wait('loaded')")
    assert.equal("loaded", chunk(wait))
  end)

  it("dofile", function()
    local path = os.tmpname()
    local file <close> = assert(io.open(path, "w"))
    file:write([[
      local allua = require "allua"
      allua.sleep(0.001)
      return "first", nil, "third"
    ]])
    file:close()
    local values = table.pack(dofile(path))
    os.remove(path)
    assert.same({ n = 3, "first", nil, "third" }, values)
  end)

  it("an iterator, and the closing value of its loop", function()
    local log = {}
    local function iterator(limit, last)
      if last < limit then
        return wait(last + 1)
      end
    end
    for i in
      iterator,
      3,
      0,
      on_close(function()
        log[#log + 1] = wait("closed")
      end)
    do
      log[#log + 1] = i
    end
    assert.same({ 1, 2, 3, "closed" }, log)
  end)

  it("a table.sort, a string.gsub and the like, what has been settled already", function()
    local result = all({
      weights = function()
        allua.yield()
        return { a = 3, b = 1, c = 2 }
      end,
      sorted = function(self)
        local _ = self.weights
        local list = { "a", "b", "c" }
        table.sort(list, function(x, y)
          return self.weights[x] < self.weights[y]
        end)
        return table.concat(list)
      end,
      replaced = function(self)
        local _ = self.weights
        return (("abc"):gsub(".", function(letter)
          return self.weights[letter]
        end))
      end,
    })
    assert.equal("bca", result.sorted)
    assert.equal("312", result.replaced)
  end)

  it("thousands of levels of Lua calls", function()
    local function deep(n)
      if n == 0 then
        return wait("bottom")
      end
      local value = deep(n - 1)
      return value
    end
    assert.equal("bottom", deep(10000))
  end)
end)

describe("a task may wait inside the metamethod", function()
  local calls
  local function waiting(name, result)
    return function(...)
      calls[#calls + 1] = name
      wait()
      if type(result) == "function" then
        return result(...)
      end
      return result
    end
  end

  before_each(function()
    calls = {}
  end)

  local meta = {}
  for name, result in pairs({
    __add = "add",
    __sub = "sub",
    __mul = "mul",
    __div = "div",
    __mod = "mod",
    __pow = "pow",
    __unm = "unm",
    __idiv = "idiv",
    __band = "band",
    __bor = "bor",
    __bxor = "bxor",
    __bnot = "bnot",
    __shl = "shl",
    __shr = "shr",
    __concat = "concat",
    __len = 42,
    __eq = true,
    __lt = true,
    __le = false,
  }) do
    meta[name] = waiting(name, result)
  end
  meta.__call = waiting("__call", function(_, ...)
    return ...
  end)
  meta.__index = waiting("__index", function(_, key)
    return key .. "!"
  end)
  meta.__newindex = waiting("__newindex", rawset)
  meta.__pairs = waiting("__pairs", function()
    return function(_, last)
      return wait((last or 0) < 2 and (last or 0) + 1 or nil)
    end
  end)
  meta.__close = waiting("__close")

  local function object()
    return setmetatable({}, meta)
  end

  local operations = {
    __add = function(a, b)
      return a + b, "add"
    end,
    __sub = function(a, b)
      return a - b, "sub"
    end,
    __mul = function(a)
      return a * 2, "mul"
    end,
    __div = function(a)
      return 2 / a, "div"
    end,
    __mod = function(a)
      return a % 2, "mod"
    end,
    __pow = function(a)
      return a ^ 2, "pow"
    end,
    __unm = function(a)
      return -a, "unm"
    end,
    __idiv = function(a)
      return a // 2, "idiv"
    end,
    __band = function(a)
      return a & 2, "band"
    end,
    __bor = function(a)
      return a | 2, "bor"
    end,
    __bxor = function(a)
      return a ~ 2, "bxor"
    end,
    __bnot = function(a)
      return ~a, "bnot"
    end,
    __shl = function(a)
      return a << 2, "shl"
    end,
    __shr = function(a)
      return a >> 2, "shr"
    end,
    __concat = function(a)
      return a .. "text", "concat"
    end,
    __len = function(a)
      return #a, 42
    end,
    __eq = function(a, b)
      return a == b, true
    end,
    __lt = function(a, b)
      return a < b, true
    end,
    __le = function(a, b)
      return a <= b, false
    end,
    __call = function(a)
      return select("#", a(nil, nil)), 2
    end,
    __index = function(a)
      return a.key, "key!"
    end,
    __newindex = function(a)
      a.key = "value"
      return rawget(a, "key"), "value"
    end,
    __pairs = function(a)
      local sum = 0
      for key in pairs(a) do
        sum = sum + key
      end
      return sum, 3
    end,
    __close = function(a)
      do
        local _ <close> = a
      end
      return true, true
    end,
  }

  for name, operation in pairs(operations) do
    it(name, function()
      local got, expected = operation(object(), object())
      assert.equal(expected, got)
      assert.same({ name }, calls)
    end)
  end

  it("__concat, between strings, from the right to the left", function()
    local a, b = object(), object()
    local got = "x" .. "y" .. a .. "z" .. b .. "w"
    assert.equal("xyconcat", got)
    assert.same({ "__concat", "__concat" }, calls)
  end)

  it("__index of a global, through _ENV", function()
    local env = setmetatable({}, {
      __index = function(_, name)
        return wait(name .. " is here")
      end,
    })
    assert.equal("somebody is here", load("return somebody", "=chunk", "t", env)())
  end)

  it("__index of an __index", function()
    local inner = setmetatable({}, {
      __index = function(_, key)
        return wait(key)
      end,
    })
    assert.equal("key", setmetatable({}, { __index = inner }).key)
  end)
end)

describe("a <close> handler may wait", function()
  it("at the end of its block, on break, return and goto, and the values come through", function()
    local log = {}
    local function noting(name)
      return on_close(function()
        log[#log + 1] = wait(name)
      end)
    end
    do
      local _ <close> = noting("block")
    end
    for i = 1, 2 do
      local _ <close> = noting("break " .. i)
      if i == 1 then
        break
      end
    end
    do
      local _ <close> = noting("goto")
      goto out
    end
    ::out::
    local function returning(...)
      local _ <close> = noting("outer return")
      local _ <close> = noting("inner return")
      return ...
    end
    assert.same({ n = 3, 1, nil, 3 }, table.pack(returning(1, nil, 3)))
    assert.same({ "block", "break 1", "goto", "inner return", "outer return" }, log)
  end)

  it("on an error, which goes on", function()
    local boom = {}
    local seen
    local ok, err = pcall(function()
      local _ <close> = on_close(function(_, given)
        seen = wait(given)
      end)
      error(boom)
    end)
    assert.is_false(ok)
    assert.equal(boom, err)
    assert.equal(boom, seen)
  end)

  it("at the end of a task, before the task is settled", function()
    local log = {}
    local result = all({
      task = function()
        local _ <close> = on_close(function()
          wait()
          log[#log + 1] = "closed"
        end)
        return "value"
      end,
      reader = function(self)
        local value = self.task
        log[#log + 1] = value
      end,
    })
    assert.equal("value", result.task)
    assert.same({ "closed", "value" }, log)
  end)

  it("in a generator that returns, and in one that fails", function()
    local log = {}
    local boom = {}
    local function generator(err)
      return coroutine.wrap(function()
        local _ <close> = on_close(function(_, given)
          log[#log + 1] = { wait(given) }
        end)
        coroutine.yield(1)
        if err then
          error(err)
        end
        return 2
      end)
    end
    local fn = generator()
    assert.same({ 1, 2 }, { fn(), fn() })
    fn = generator(boom)
    assert.equal(1, fn())
    assert.equal(boom, errors.raised(fn))
    assert.same({ {}, { boom } }, log)
  end)
end)

describe("a generator at the top level of a script", function()
  it("cannot wait in its <close> handlers when it fails, and the error says the way out", function()
    local got = host.eval([[
      local generator = coroutine.wrap(function()
        local _ <close> = setmetatable({}, { __close = function()
          allua.sleep(0.001)
          print "closed"
        end })
        coroutine.yield()
        error({ "boom" })
      end)
      generator()
      local ok, err = pcall(generator)
      print(ok, err)
    ]])
    assert.is_truthy(got.out:find("cannot wait inside the <close> handler of a generator that failed", 1, true))
    assert.is_truthy(got.out:find("allua.run", 1, true))
    assert.equal("", got.err)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)
end)

describe("a wait where Lua cannot suspend", function()
  local function waits()
    allua.sleep(0)
  end

  local indexing = {
    __index = function()
      waits()
    end,
    __newindex = function()
      waits()
    end,
    __len = function()
      return 2
    end,
  }

  local function textual()
    return setmetatable({}, {
      __tostring = function()
        waits()
        return "text"
      end,
    })
  end

  -- By the name that the error gives: what waits there.
  local places = {
    ["table.sort"] = {
      comparator = function()
        table.sort({ 3, 1, 2 }, function(a, b)
          waits()
          return a < b
        end)
      end,
      ["metamethod"] = function()
        local meta = {
          __lt = function()
            waits()
            return true
          end,
        }
        table.sort({ setmetatable({}, meta), setmetatable({}, meta) })
      end,
      ["generator in a comparator"] = function()
        table.sort({ 3, 1, 2 }, function(a, b)
          coroutine.wrap(waits)()
          return a < b
        end)
      end,
    },
    ["string.gsub"] = {
      callback = function()
        string.gsub("text", ".", waits)
      end,
      ["callback, as a method"] = function()
        local text = "text"
        text:gsub(".", waits)
      end,
      ["table"] = function()
        string.gsub("text", ".", setmetatable({}, indexing))
      end,
    },
    ["string.format"] = {
      argument = function()
        string.format("%s", textual())
      end,
    },
    ["tostring"] = {
      argument = function()
        tostring(textual())
      end,
    },
    ["print"] = {
      argument = function()
        print(textual())
      end,
    },
    ["ipairs"] = {
      element = function()
        for _ in ipairs(setmetatable({}, indexing)) do
          error("unreachable")
        end
      end,
    },
    ["table.concat"] = {
      element = function()
        table.concat(setmetatable({}, indexing))
      end,
    },
    ["table.unpack"] = {
      element = function()
        table.unpack(setmetatable({}, indexing))
      end,
    },
    ["table.insert"] = {
      element = function()
        table.insert(setmetatable({}, indexing), "value")
      end,
    },
    ["table.remove"] = {
      element = function()
        table.remove(setmetatable({}, indexing))
      end,
    },
    ["table.move"] = {
      element = function()
        table.move(setmetatable({}, indexing), 1, 2, 1, {})
      end,
    },
    ["load"] = {
      reader = function()
        error(
          select(
            2,
            load(function()
              waits()
            end)
          ),
          0
        )
      end,
    },
    ["coroutine.close"] = {
      handler = function()
        local co = coroutine.create(function()
          local _ <close> = on_close(waits)
          coroutine.yield()
        end)
        coroutine.resume(co)
        error(select(2, coroutine.close(co)), 0)
      end,
    },
  }

  for name, list in pairs(places) do
    for what, place in pairs(list) do
      it(("is an error that names it: %s (%s)"):format(name, what), function()
        local err = errors.raised(place)
        assert.is_true(errors.says(err, name), tostring(err))
        assert.is_true(errors.says(err, "wait before the call"), tostring(err))
      end)
    end
  end

  it("is told to a message handler of xpcall's, or to its caller", function()
    local told = {}
    local calls = 0
    local _, err = xpcall(error, function(message)
      told[#told + 1] = tostring(message)
      calls = calls + 1
      if calls < 5 then
        waits()
      end
      return message
    end, "boom")
    told[#told + 1] = tostring(err)
    assert.matches("xpcall", table.concat(told, "\n"), 1, true)
  end)

  it("leaves the task as it was: it may go on and wait elsewhere", function()
    for _, list in pairs(places) do
      for _, place in pairs(list) do
        pcall(place)
        assert.equal("went on", wait("went on"))
      end
    end
  end)

  it("does not lose what it would have waited for", function()
    local promise = allua.promise()
    local ok = pcall(string.gsub, "x", "x", function()
      promise:await()
    end)
    assert.is_false(ok)
    local task = allua.spawn(function()
      promise:resolve("later")
    end)
    assert.equal("later", promise:await())
    task:await()
  end)

  it("is an error for every kind of wait", function()
    local pending = allua.promise()
    local kinds = {
      sleep = function()
        allua.sleep(0.001)
      end,
      yield = allua.yield,
      await = function()
        pending:await()
      end,
      all = function()
        all({
          function()
            allua.sleep(0.001)
          end,
        })
      end,
      timeout = function()
        allua.timeout(60, allua.sleep, 0.001)
      end,
      shield = function()
        allua.shield(allua.sleep, 0.001)
      end,
      retry = function()
        allua.retry(allua.sleep, { attempts = 1 })
      end,
      promisify = allua.promisify(function() end),
      run = function()
        allua.run(allua.sleep, 0.001)
      end,
    }
    for name, kind in pairs(kinds) do
      local err = errors.raised(string.gsub, "x", "x", kind)
      assert.is_true(errors.says(err, "string.gsub"), name .. ": " .. tostring(err))
    end
  end)

  it("is an error for a sibling that is not settled", function()
    local results = allua.all_settled({
      slow = function()
        allua.sleep(0.02)
        return "slow"
      end,
      sorting = function(self)
        table.sort({ 1, 2 }, function()
          return self.slow
        end)
      end,
      joining = function(self)
        return ("slow"):gsub(".+", function(name)
          return self[name]
        end)
      end,
      listing = function(self)
        return table.concat({ "a", "b" }, ",", 1, 2) .. table.concat(setmetatable({}, { __index = self }), ",", 1, 1)
      end,
    })
    assert.equal("fulfilled", results.slow.status)
    assert.is_true(errors.says(results.sorting.reason, "table.sort"))
    assert.is_true(errors.says(results.joining.reason, "string.gsub"))
    assert.equal("rejected", results.listing.status)
  end)

  it("over a list of siblings names ipairs, table.unpack and table.concat", function()
    local function slow()
      allua.sleep(0.02)
      return "slow"
    end
    local results = allua.all_settled({
      slow,
      slow,
      counting = function(self)
        for _ in ipairs(self) do
          error("unreachable")
        end
      end,
      unpacking = function(self)
        return table.unpack(self, 1, 2)
      end,
      joining = function(self)
        return table.concat(self, " ", 1, 2)
      end,
    })
    assert.is_true(errors.says(results.counting.reason, "ipairs"), tostring(results.counting.reason))
    assert.is_true(errors.says(results.unpacking.reason, "table.unpack"), tostring(results.unpacking.reason))
    assert.is_true(errors.says(results.joining.reason, "table.concat"), tostring(results.joining.reason))
  end)

  it("does not end the program where a generator inside a comparator waits", function()
    local got = host.eval([[
      print((pcall(table.sort, { 3, 1, 2 }, function(a, b)
        coroutine.wrap(function() allua.sleep(0.001) end)()
        return a < b
      end)))
      allua.sleep(0.005)
      print "went on"
    ]])
    assert.equal("false\nwent on\n", got.out)
    assert.equal("", got.err)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)

  it("in a finalizer is a warning that names it; the program goes on", function()
    local got = host.eval([[
      setmetatable({}, { __gc = function() allua.sleep(0.001) end })
      collectgarbage()
      collectgarbage()
      allua.sleep(0.001)
      print "went on"
    ]])
    assert.equal("went on\n", got.out)
    assert.matches("__gc", got.err, 1, true)
    assert.matches("wait", got.err, 1, true)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)
end)
