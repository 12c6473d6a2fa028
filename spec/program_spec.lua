-- The host program: its command line, its exit status, its reports, seen from outside.

local allua = require("allua")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")

require("spec.support.leftovers")()

-- A result as a whole: what differs from the expected is seen at once.
local function ends(result, code, out)
  assert.same({ code = code, out = out, err = "" }, { code = result.code, out = result.out, err = result.err })
end

local function has(text, words)
  assert(text:find(words, 1, true), ("no %q in:\n%s"):format(words, text))
end

local function lacks(text, words)
  assert(not text:find(words, 1, true), ("%q in:\n%s"):format(words, text))
end

-- The result of a program that must end with an error report and the status of an error.
local function fails(code, ...)
  local result = host.eval(code)
  assert.equal(1, result.code, result.err)
  assert.equal("", result.out)
  for _, words in ipairs({ ... }) do
    has(result.err, words)
  end
  return result
end

describe("the command line", function()
  it("runs a script", function()
    local folder <close> = scratch.folder({ ["app.lua"] = "print('from the script')" })
    ends(host.run({ folder:at("app.lua") }), 0, "from the script\n")
  end)

  it("gives a script its arguments, as lua does", function()
    local folder <close> = scratch.folder({
      ["app.lua"] = [[
        print(select("#", ...), ...)
        print(#arg, arg[0], arg[1], arg[2], arg[3])
        print(arg[-1] ~= nil)
      ]],
    })
    local app = folder:at("app.lua")
    ends(
      host.run({ app, "one", "two words", "-x" }),
      0,
      "3\tone\ttwo words\t-x\n3\t" .. app .. "\tone\ttwo words\t-x\ntrue\n"
    )
  end)

  it("skips a script's first line when it begins with #", function()
    local folder <close> = scratch.folder({ app = "#!/usr/bin/env allua\nprint(1)\nerror('here')" })
    local result = host.run({ folder:at("app") })
    assert.equal("1\n", result.out)
    has(result.err, "app:3: here")
  end)

  it("runs the code of -e", function()
    ends(host.run({ "-e", "print(6 * 7)" }), 0, "42\n")
  end)

  it("runs standard input for -", function()
    ends(host.run({ "-" }, { stdin = "print('read', ...)" }), 0, "read\n")
    ends(host.run({ "-", "a", "b" }, { stdin = "print('read', ...)" }), 0, "read\ta\tb\n")
  end)

  it("runs standard input when it is not a terminal and nothing else is asked for", function()
    ends(host.run({}, { stdin = "local answer = 42\nprint(answer)\n" }), 0, "42\n")
  end)

  it("leaves standard input to a script", function()
    ends(host.run({ "-e", "print(io.read('l'))" }, { stdin = "a line\n" }), 0, "a line\n")
  end)

  it("prints help", function()
    local result = host.run({ "--help" })
    assert.equal(0, result.code)
    assert.equal("", result.err)
    for _, words in ipairs({ "allua", "script.lua", "-e", "--version", "--help", "test" }) do
      has(result.out:gsub("SCRIPT", "script.lua"), words)
    end
  end)

  it("prints its version", function()
    local header <close> = assert(io.open("host/allua.h"))
    local version = header:read("a"):match('ALLUA_VERSION "([^"]+)"')
    local result = host.run({ "--version" })
    assert.equal(0, result.code)
    has(result.out, version)
  end)

  it("ends with 2 when it is not understood, and says what it did not understand", function()
    local result = host.run({ "--no-such-option" })
    assert.equal(2, result.code)
    assert.equal("", result.out)
    has(result.err, "--no-such-option")
    result = host.run({ "-e" })
    assert.equal(2, result.code)
    has(result.err, "-e")
  end)

  it("ends with 1 when there is no such script", function()
    local result = host.run({ "/no/such/script.lua" })
    assert.equal(1, result.code)
    has(result.err, "/no/such/script.lua")
  end)

  it("ends with 1 when a script does not compile", function()
    local folder <close> = scratch.folder({ ["app.lua"] = "print(1)\nlocal = 2" })
    local result = host.run({ folder:at("app.lua") })
    assert.equal(1, result.code)
    assert.equal("", result.out)
    has(result.err, "app.lua:2:")
  end)
end)

describe("a script", function()
  it("is the root task: it waits at top level", function()
    ends(host.eval("local r = all { a = function() allua.sleep(0.01) return 'waited' end } print(r.a)"), 0, "waited\n")
  end)

  it("looks to itself as a main chunk does", function()
    ends(host.eval("print(select(2, coroutine.running()), coroutine.isyieldable())"), 0, "true\tfalse\n")
  end)

  it("has the globals all and allua", function()
    ends(host.eval("print(all == allua.all, allua == require('allua'))"), 0, "true\ttrue\n")
  end)

  it("has warn switched on", function()
    local result = host.eval("warn('careful')")
    assert.equal(0, result.code)
    has(result.err, "careful")
  end)

  it("has luv and cjson with nothing installed beside", function()
    local nothing = { LUA_PATH = "", LUA_CPATH = "", LUA_PATH_5_4 = false, LUA_CPATH_5_4 = false }
    ends(
      host.eval("print(require('cjson').encode({ 1, 2 }), require('luv').now() > 0)", { env = nothing }),
      0,
      "[1,2]\ttrue\n"
    )
  end)

  it("finds modules where lua does, and they may wait while they load", function()
    local folder <close> = scratch.folder({ ["slow.lua"] = "allua.sleep(0.01) return { loaded = ... }" })
    ends(host.eval("print(require('slow').loaded)", { cwd = folder.path }), 0, "slow\n")
    ends(
      host.eval("print(require('slow').loaded)", { env = { LUA_PATH = folder:at("?.lua"), LUA_PATH_5_4 = false } }),
      0,
      "slow\n"
    )
  end)

  it("reads allua's Lua half from ALLUA_PATH when that is set", function()
    local folder <close> = scratch.folder()
    local listing <close> = assert(io.popen("ls lua/allua"))
    for name in listing:lines() do
      local half <close> = assert(io.open("lua/allua/" .. name))
      local mark = name == "init.lua" and "from_path = true " or ""
      folder:write("allua/" .. name, mark .. half:read("a"))
    end
    local code = "print(from_path, all({ function() return 1 end })[1])"
    ends(host.eval(code, { env = { ALLUA_PATH = folder.path } }), 0, "true\t1\n")
    ends(host.eval(code, { env = { ALLUA_PATH = false } }), 0, "nil\t1\n")
  end)

  it("ends when its root task and what that spawned have ended", function()
    ends(
      host.eval("allua.spawn(function() allua.sleep(0.02) print('spawned') end) print('root')"),
      0,
      "root\nspawned\n"
    )
  end)

  it("ends when the luv handles that it left active have ended", function()
    ends(
      host.eval([[
        local timer = require("luv").new_timer()
        timer:start(20, 0, function() print("fired") timer:close() end)
        print("root")
      ]]),
      0,
      "root\nfired\n"
    )
  end)
end)

describe("an error that nobody caught", function()
  it("ends the program with 1 and is reported on standard error", function()
    fails("error('broken')", "broken", "stack traceback:")
  end)

  it("is reported with its place and the functions that led there", function()
    local folder <close> = scratch.folder({
      ["app.lua"] = "local function deep()\n  error('broken')\nend\nlocal function caller()\n  deep()\nend\ncaller()",
    })
    local result = host.run({ folder:at("app.lua") })
    assert.equal(1, result.code)
    has(result.err, "app.lua:2: broken")
    has(result.err, "app.lua:5:")
    has(result.err, "app.lua:7:")
  end)

  it("is reported with its traceback after a wait too", function()
    fails("local function late() allua.sleep(0.001) error('late') end\nlate()", "late", "stack traceback:", ":2:")
  end)

  it("may be any value", function()
    fails("error(nil)", "nil")
    fails("error({ code = 1 })", "table")
    fails("error(setmetatable({}, { __tostring = function() return 'told by itself' end }))", "told by itself")
    fails("error(setmetatable({}, { __tostring = function() error('no') end }))")
    fails("error(false)", "boolean")
  end)

  it("is reported once", function()
    local result = fails("all { a = function() all { b = function() error('broken') end } end }", "broken")
    assert.equal(1, select(2, result.err:gsub("broken", "")))
  end)

  it("is reported with the task that failed and the chain of tasks that it failed", function()
    local folder <close> = scratch.folder({
      ["app.lua"] = [[
local r = all {
  dashboard = function(self)
    return self.profile
  end,
  profile = function()
    allua.sleep(0.001)
    error("no profile")
  end,
}
]],
    })
    local result = host.run({ folder:at("app.lua") })
    assert.equal(1, result.code)
    has(result.err, "app.lua:7: no profile")
    has(result.err, 'task "profile"')
    has(result.err, 'awaited by task "dashboard"')
    assert.matches("started at [^\n]*app%.lua:1", result.err)
    local message = result.err:find("no profile", 1, true)
    local failed = result.err:find('task "profile"', 1, true)
    local reader = result.err:find('awaited by task "dashboard"', 1, true)
    assert.is_true(message < failed and failed < reader, result.err)
  end)

  it("is reported with the traceback of the task that failed, not of the one that waited for it", function()
    fails(
      "local function fetch_profile() error('no profile') end\nall { profile = function() fetch_profile() end }",
      "no profile",
      "fetch_profile"
    )
  end)

  it("is reported for a stack overflow", function()
    fails("local function deep() return 1 + deep() end deep()", "stack overflow")
  end)

  it("is reported for a callback of luv's", function()
    local result = host.eval("require('luv').new_timer():start(1, 0, function() error('in a callback') end)")
    assert.equal(1, result.code)
    has(result.err, "in a callback")
  end)

  it("is not reported when it was caught", function()
    ends(host.eval("print(pcall(all, { function() error('caught', 0) end }))"), 0, "false\tcaught\n")
  end)
end)

describe("a script that can make no progress", function()
  it("ends with 1 and a deadlock report", function()
    fails("allua.promise():await()", "deadlock:")
  end)

  it("is told what each task waits for", function()
    local result = fails(
      [[
        local never = allua.promise()
        all {
          reader = function(self) return self.source end,
          source = function() never:await() end,
        }
      ]],
      "deadlock:",
      "reader",
      "source"
    )
    has(result.err, 'task "source"')
  end)

  it("is not one that waits for a timer, a child, or a callback of luv's", function()
    ends(
      host.eval([[
        local uv = require("luv")
        local fired = allua.promise()
        local timer = uv.new_timer()
        timer:start(20, 0, function() timer:close() fired:resolve("fired") end)
        print(fired:await())
        local ended = allua.promise()
        local child
        child = uv.spawn("true", {}, function(code) child:close() ended:resolve(code) end)
        print(ended:await())
      ]]),
      0,
      "fired\n0\n"
    )
  end)
end)

describe("os.exit", function()
  it("ends the program with the status asked for", function()
    ends(host.eval("os.exit(7)"), 7, "")
    ends(host.eval("os.exit(true)"), 0, "")
    ends(host.eval("os.exit(false)"), 1, "")
    ends(host.eval("os.exit()"), 0, "")
  end)

  it("ends the program from any task, after a wait", function()
    ends(host.eval("all { function() allua.sleep(0.001) os.exit(3) end, function() allua.sleep(60) end }"), 3, "")
  end)

  it("writes what was buffered", function()
    ends(host.eval("io.stdout:setvbuf('full') io.write('buffered') os.exit(0)"), 0, "buffered")
  end)

  it("closes what is to be closed, in every task", function()
    local result = host.eval([[
      local function guard(name)
        return setmetatable({}, { __close = function() print(name) end })
      end
      local root <close> = guard("root")
      all {
        leaver = function()
          local mine <close> = guard("leaver")
          allua.sleep(0.01)
          os.exit(5)
        end,
        other = function()
          local mine <close> = guard("other")
          allua.sleep(60)
        end,
      }
    ]])
    assert.equal(5, result.code)
    assert.equal("", result.err)
    for _, name in ipairs({ "root", "leaver", "other" }) do
      has(result.out, name)
    end
  end)

  it("cannot be caught", function()
    ends(host.eval("pcall(function() os.exit(4) end) print('not reached')"), 4, "")
  end)

  it("lets no other task go on", function()
    ends(host.eval("pcall(all, { function() os.exit(5) end }) print('not reached') os.exit(6)"), 5, "")
    local code = [[
      local promise = allua.promise()
      allua.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() promise:resolve() end })
        os.exit(7)
      end)
      promise:await()
      print("not reached")
    ]]
    ends(host.eval(code), 7, "")
  end)
end)

describe("Ctrl-C", function()
  -- Starts the code and interrupts it once it waits: "ready" comes from a callback of the loop.
  local function interrupt(code)
    local child = host.start({
      "-e",
      [[
        io.stdout:setvbuf("no")
        local ready = require("luv").new_timer()
        ready:start(20, 0, function() ready:close() print("ready") end)
      ]] .. code,
    })
    child:wait_for("ready")
    child:kill("sigint")
    return child
  end

  local function interrupted(code)
    local child <close> = interrupt(code)
    return child:wait()
  end

  it("ends the program with 130", function()
    local result = interrupted("allua.sleep(60) print('not reached')")
    assert.equal(130, result.code)
    assert.equal("ready\n", result.out)
  end)

  it("cancels the root task, which cleans up", function()
    local result = interrupted([[
      local root <close> = setmetatable({}, { __close = function() print("root closed") end })
      all {
        function()
          local task <close> = setmetatable({}, {
            __close = function() allua.shield(function() allua.sleep(0.01) print("task closed") end) end,
          })
          allua.sleep(60)
        end,
      }
    ]])
    assert.equal(130, result.code)
    assert.equal("ready\ntask closed\nroot closed\n", result.out)
  end)

  it("raises a CancelledError at the wait", function()
    local result = interrupted([[
      local ok, err = pcall(allua.sleep, 60)
      print(ok, allua.is_error(err, "CancelledError"))
    ]])
    assert.equal("ready\nfalse\ttrue\n", result.out)
    assert.equal(130, result.code)
  end)

  it("is no error to report", function()
    lacks(interrupted("allua.sleep(60)").err, "traceback")
  end)

  it("ends a program whose root task has ended and whose handles have not", function()
    local result = interrupted("require('luv').new_timer():start(60000, 0, print)")
    assert.equal(130, result.code)
  end)

  it("a second time ends the program at once", function()
    local child <close> = interrupt([[
      pcall(allua.sleep, 60)
      print("cleaning")
      allua.shield(allua.sleep, 60)
      print("not reached")
    ]])
    child:wait_for("cleaning")
    child:kill("sigint")
    local result = child:wait()
    assert.equal(130, result.code)
    lacks(result.out, "not reached")
  end)

  it("ends a program that never waits, a second time at the latest", function()
    local child <close> = host.start({ "-e", "io.stdout:setvbuf('no') print('ready') while true do end" })
    child:wait_for("ready")
    child:kill("sigint")
    -- two signals that come together count as one
    allua.sleep(0.2)
    pcall(child.kill, child, "sigint")
    local result = child:wait()
    assert.equal(130, result.code)
  end)
end)
