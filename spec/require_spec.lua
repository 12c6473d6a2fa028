-- require: modules that wait while they load, and otherwise require as Lua's manual has it.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local uv = require("luv")

require("spec.support.leftovers")()

local all = allua.all

local folder, path_before, made

--- Makes a module of the tests' own, found by require for as long as the test runs.
local function module(name, text)
  local file <close> = assert(io.open(folder .. "/" .. name .. ".lua", "w"))
  file:write(text)
  made[#made + 1] = name
end

before_each(function()
  folder = assert(uv.fs_mkdtemp((os.getenv("TMPDIR") or "/tmp") .. "/allua-spec-XXXXXX"))
  path_before = package.path
  package.path = folder .. "/?.lua;" .. package.path
  made = {}
  _G.loads = {}
end)

after_each(function()
  package.path = path_before
  for _, name in ipairs(made) do
    os.remove(folder .. "/" .. name .. ".lua")
    package.loaded[name] = nil
  end
  uv.fs_rmdir(folder)
  _G.loads = nil
end)

describe("a module that waits while it loads", function()
  it("is loaded, and its value returned with where it was found", function()
    module(
      "waiting",
      [[
        local allua = require "allua"
        local name, path = ...
        allua.sleep(0.002)
        return { name = name, path = path }
      ]]
    )
    local value, where = require("waiting")
    assert.equal("waiting", value.name)
    assert.equal(folder .. "/waiting.lua", value.path)
    assert.equal(folder .. "/waiting.lua", where)
    assert.equal(value, require("waiting"))
    assert.equal(value, package.loaded.waiting)
  end)

  it("lets other tasks run meanwhile", function()
    module("waiting", [[require("allua").sleep(0.02)]])
    local log = {}
    all({
      function()
        require("waiting")
        log[#log + 1] = "loaded"
      end,
      function()
        allua.sleep(0.002)
        log[#log + 1] = "other"
      end,
    })
    assert.same({ "other", "loaded" }, log)
  end)

  it("is loaded once though several tasks require it, and all of them get its value", function()
    module(
      "shared",
      [[
        loads[#loads + 1] = ...
        require("allua").sleep(0.01)
        return { "the one" }
      ]]
    )
    local tasks = {}
    for i = 1, 10 do
      tasks[i] = function()
        if i % 2 == 0 then
          allua.sleep(0.002)
        end
        return (require("shared"))
      end
    end
    local values = all(tasks)
    assert.same({ "shared" }, _G.loads)
    for i = 1, 10 do
      assert.equal(values[1], values[i])
    end
  end)

  it("is loaded once by a task and by a generator of another", function()
    module(
      "shared",
      [[
        loads[#loads + 1] = ...
        require("allua").sleep(0.01)
        return { "the one" }
      ]]
    )
    local values = all({
      function()
        return (require("shared"))
      end,
      function()
        return coroutine.wrap(function()
          coroutine.yield((require("shared")))
        end)()
      end,
    })
    assert.same({ "shared" }, _G.loads)
    assert.equal(values[1], values[2])
  end)

  it("may require others that wait", function()
    module("first", [[require("allua").sleep(0.002) return "first " .. require "second"]])
    module("second", [[require("allua").sleep(0.002) return "second " .. require "third"]])
    module("third", [[require("allua").yield() return "third"]])
    assert.equal("first second third", (require("first")))
  end)

  it("may load beside others: a module takes no other's turn", function()
    module("slow", [[require("allua").sleep(0.05) loads[#loads + 1] = ...]])
    module("quick", [[require("allua").yield() loads[#loads + 1] = ...]])
    all({
      function()
        require("slow")
      end,
      function()
        require("quick")
      end,
    })
    assert.same({ "quick", "slow" }, _G.loads)
  end)

  it("may use groups", function()
    module(
      "grouping",
      [[
        return require("allua").all {
          a = function() return 1 end,
          b = function(self) return self.a + 1 end,
        }
      ]]
    )
    assert.same({ a = 1, b = 2 }, (require("grouping")))
  end)

  it("that fails gives its error to the task that loads it, and is loaded anew for the next", function()
    module(
      "failing",
      [[
        loads[#loads + 1] = ...
        require("allua").sleep(0.005)
        if #loads == 1 then
          error { "boom" }
        end
        return "loaded at last"
      ]]
    )
    local results = allua.all_settled({
      function()
        return (require("failing"))
      end,
      function()
        return (require("failing"))
      end,
    })
    assert.equal("rejected", results[1].status)
    assert.same({ "boom" }, results[1].reason)
    assert.equal("loaded at last", results[2].value)
    assert.equal("loaded at last", (require("failing")))
    assert.equal("loaded at last", package.loaded.failing)
  end)

  it("that is cancelled with its task is loaded anew by the next", function()
    module(
      "interrupted",
      [[
        loads[#loads + 1] = ...
        if #loads == 1 then
          require("allua").sleep(60)
        end
        return "loaded at last"
      ]]
    )
    local task = allua.spawn(require, "interrupted")
    allua.yield()
    task:cancel()
    assert.is_true(allua.is_error(errors.raised(task.await, task), "CancelledError"))
    assert.equal("loaded at last", (require("interrupted")))
  end)

  it("and is cancelled is loaded by another that waited for it", function()
    module(
      "interrupted",
      [[
        loads[#loads + 1] = ...
        if #loads == 1 then
          require("allua").sleep(60)
        end
        return "loaded at last"
      ]]
    )
    local first = allua.spawn(require, "interrupted")
    allua.yield()
    local second = allua.spawn(require, "interrupted")
    allua.yield()
    first:cancel()
    pcall(first.await, first)
    assert.equal("loaded at last", (allua.timeout(60, second.await, second)))
    assert.equal(2, #_G.loads)
  end)

  it("may give a value before it has loaded, which others get at once", function()
    module(
      "early",
      [[
        package.loaded.early = { "early" }
        require("allua").sleep(0.02)
      ]]
    )
    local values = all({
      function()
        return (require("early"))
      end,
      function()
        allua.sleep(0.002)
        return (require("early"))
      end,
    })
    assert.same({ "early" }, values[1])
    assert.equal(values[1], values[2])
  end)

  it("may be preloaded", function()
    package.preload["allua-spec-preloaded"] = function(name, where)
      allua.sleep(0.002)
      return { name, where }
    end
    local value, where = require("allua-spec-preloaded")
    package.preload["allua-spec-preloaded"] = nil
    package.loaded["allua-spec-preloaded"] = nil
    assert.same({ "allua-spec-preloaded", ":preload:" }, value)
    assert.equal(":preload:", where)
  end)

  it("may be found by a searcher that waits", function()
    local function searcher(name)
      allua.sleep(0.002)
      if name == "allua-spec-remote" then
        return function(...)
          allua.sleep(0.002)
          return { ... }
        end, "far away"
      end
    end
    table.insert(package.searchers, 2, searcher)
    local ok, value, where = pcall(require, "allua-spec-remote")
    table.remove(package.searchers, 2)
    package.loaded["allua-spec-remote"] = nil
    assert.is_true(ok, tostring(value))
    assert.same({ "allua-spec-remote", "far away" }, value)
    assert.equal("far away", where)
  end)
end)

describe("modules that require each other", function()
  it("are an error in one task, which names them, not a hang", function()
    module("here", [[require("allua").yield() return require "there"]])
    module("there", [[require("allua").yield() return require "here"]])
    local err = errors.raised(allua.timeout, 60, require, "here")
    assert.is_false(allua.is_error(err, "TimeoutError"))
    assert.is_true(errors.says(err, "here"), tostring(err))
  end)

  it("are an error in two tasks too", function()
    module("here", [[require("allua").sleep(0.005) return require "there"]])
    module("there", [[require("allua").sleep(0.005) return require "here"]])
    local err = errors.raised(allua.timeout, 60, all, {
      function()
        return (require("here"))
      end,
      function()
        return (require("there"))
      end,
    })
    assert.is_false(allua.is_error(err, "TimeoutError"))
    assert.is_true(errors.says(err, "here"), tostring(err))
  end)

  it("work where each sets its value first", function()
    module(
      "here",
      [[
        local here = {}
        package.loaded.here = here
        require("allua").yield()
        here.there = require "there"
        return here
      ]]
    )
    module(
      "there",
      [[
        local there = {}
        package.loaded.there = there
        require("allua").yield()
        there.here = require "here"
        return there
      ]]
    )
    local here = allua.timeout(60, require, "here")
    assert.equal(here, here.there.here)
  end)
end)

describe("require otherwise", function()
  it("returns true for a module that returns nothing, and its false as it is", function()
    module("nothing", "loads[1] = ...")
    assert.is_true((require("nothing")))
    assert.is_true(package.loaded.nothing)
    module("no", "return false")
    assert.is_false((require("no")))
  end)

  it("loads anew what package.loaded has lost", function()
    module("again", "loads[#loads + 1] = ...")
    require("again")
    require("again")
    package.loaded.again = nil
    require("again")
    assert.same({ "again", "again" }, _G.loads)
  end)

  it("says where it has looked", function()
    local err = errors.raised(require, "allua-spec-nowhere")
    assert.matches("module 'allua-spec-nowhere' not found:", err, 1, true)
    assert.matches("no field package.preload['allua-spec-nowhere']", err, 1, true)
    assert.matches("no file '" .. folder .. "/allua-spec-nowhere.lua'", err, 1, true)
  end)

  it("says who required what is not there", function()
    local err = errors.raised(function()
      local found = require("allua-spec-nowhere")
      return found
    end)
    assert.matches("^spec/require_spec.lua:%d+: module 'allua%-spec%-nowhere' not found", err)
  end)

  it("does its work whatever a script has made of the globals", function()
    local result = host.eval([[
      local require, print = require, print
      package.preload.made = function(name, data)
        return { name, data }
      end
      _G.require, _G.package.loaded, _G.package = nil, {}, nil
      print(require("made")[2])
    ]])
    assert.same({ "", ":preload:\n", 0 }, { result.err, result.out, result.code })
  end)

  it("says where a module is wrong", function()
    module("wrong", "this is not Lua")
    local err = errors.raised(require, "wrong")
    assert.matches("error loading module 'wrong' from file '" .. folder .. "/wrong.lua'", err, 1, true)
    assert.matches("wrong.lua:1:", err, 1, true)
  end)

  it("wants a name, and lists for path and searchers", function()
    assert.matches("string expected", errors.raised(require), 1, true)
    local searchers = package.searchers
    package.searchers = nil
    local ok, err = pcall(require, "allua-spec-nowhere")
    package.searchers = searchers
    assert.is_false(ok)
    assert.matches("'package.searchers' must be a table", err, 1, true)
  end)

  it("finds allua's own modules, the same each time", function()
    assert.equal(allua, require("allua"))
    assert.equal(require("luv"), uv)
  end)
end)
