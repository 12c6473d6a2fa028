-- A stock Lua's own coroutines, with allua loaded: unchanged outside tasks, and waits pass through them.

local allua = require("allua")
local check = require("spec.support.check")
local sleep = allua.sleep

check("coroutines that never wait are Lua's", function()
  local co = coroutine.create(function(a)
    local b = coroutine.yield(a + 1)
    return b * 2
  end)
  assert(select(2, coroutine.resume(co, 1)) == 2)
  assert(select(2, coroutine.resume(co, 21)) == 42)
  assert(coroutine.status(co) == "dead")
  local ok, err = coroutine.resume(co)
  assert(not ok and err == "cannot resume dead coroutine")
end)

check("the main chunk is the main chunk", function()
  local _, main = coroutine.running()
  assert(main and not coroutine.isyieldable())
end)

check("a coroutine outside a task may wait", function()
  local generator = coroutine.wrap(function()
    sleep(0.001)
    coroutine.yield("one")
    sleep(0.001)
    return "two"
  end)
  assert(generator() == "one" and generator() == "two")
end)

check("a generator of allua's coroutine library waits inside a task, two deep", function()
  local function numbers()
    return allua.coroutine.wrap(function()
      for i = 1, 3 do
        sleep(0.001)
        coroutine.yield(i)
      end
    end)
  end
  local r = allua.all({
    squares = function()
      local list = {}
      local squares = allua.coroutine.wrap(function()
        for n in numbers() do
          coroutine.yield(n * n)
        end
      end)
      for square in squares do
        list[#list + 1] = square
      end
      return table.concat(list, " ")
    end,
  })
  assert(r.squares == "1 4 9")
end)

check("a generator of Lua's own cannot wait inside a task, and the error names the way out", function()
  local err = check.raises(allua.all, {
    function()
      return coroutine.wrap(function()
        sleep(0.001)
      end)()
    end,
  })
  assert(tostring(err):find("allua.coroutine.wrap", 1, true), tostring(err))
end)

check("a task may wait in metamethods, iterators, pcall and <close>", function()
  local lazy = setmetatable({}, {
    __index = function(_, key)
      sleep(0.001)
      return key
    end,
  })
  local closed
  local r = allua.all({
    function()
      local guard <close> = setmetatable({}, { --luacheck: ignore guard
        __close = function()
          sleep(0.001)
          closed = true
        end,
      })
      local ok, value = pcall(function()
        return lazy.field
      end)
      return ok and value
    end,
  })
  assert(r[1] == "field" and closed)
end)

check("where Lua cannot suspend, the error says so", function()
  local err = check.raises(allua.all, {
    function()
      table.sort({ 3, 2, 1 }, function(a, b)
        sleep(0.001)
        return a < b
      end)
    end,
  })
  assert(tostring(err):find("sort", 1, true), tostring(err))
end)

check.done()
