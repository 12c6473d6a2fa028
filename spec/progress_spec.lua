-- What --progress shows, on a terminal and elsewhere.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local screens = require("spec.support.screen")
local terminals = require("spec.support.terminal")

require("spec.support.leftovers")()

local ROWS, COLUMNS = 24, 100 -- of spec.support.terminal

-- Times, and where the spinner stands, are not the same twice.
local function still(text)
  return (text:gsub("%d+%.%d s", "T s"):gsub("\226[\160-\163][\128-\191]", "*"))
end

-- Waits until the terminal shows what is asked for, and gives it as text.
local function shows(terminal, wanted, rows, columns)
  local text
  local ok = pcall(allua.timeout, 120, function()
    repeat
      local screen = screens.after(terminal.raw, rows or ROWS, columns or COLUMNS)
      text = still(screen:text())
      if text:find(wanted, 1, true) and not screen.held then
        return
      end
      terminal.changed:await()
    until terminal.ended.status ~= "pending"
  end)
  if not ok or not text:find(wanted, 1, true) then
    error(("no %q on the screen:\n%s"):format(wanted, text), 2)
  end
  return text
end

local function started(code)
  return terminals.start({ "--progress", "-e", code })
end

-- The screen when the program has ended: all is as it was, and the cursor there.
local function left(terminal)
  terminal:wait()
  local screen = screens.after(terminal.raw, ROWS, COLUMNS)
  assert.equal(1, screen.top)
  assert.equal(ROWS, screen.bottom)
  assert.is_false(screen.hidden)
  assert.is_false(screen.held)
  return still(screen:text())
end

describe("--progress", function()
  it("has a line for each task that is under way, counts the others, and keeps errors", function()
    local terminal <close> = started([[
      print("before")
      all({
        a = function() end,
        asleep = function() allua.sleep(60) end,
        bad = function()
          pcall(all, {
            inner = function() allua.yield() error("no\27[2J good", 0) end,
            reader = function(self) return self.inner end,
          })
          allua.sleep(60)
        end,
        count = function() allua.progress(12) allua.sleep(60) end,
        download = function() allua.timeout(60, function() allua.progress(3, 8) allua.sleep(60) end) end,
        file = function() allua.promisify(function() end)() end,
        group = function() allua.map({ 1, 2, 3 }, function(i) if i > 1 then allua.sleep(60) end end) end,
        reader = function(self) return self["日本"] end,
        ["日本"] = function() allua.promise():await() end,
      })
    ]])
    assert.equal(
      [[
before











* asleep    asleep  T s
* bad       asleep  T s
* count     12  T s
* download  ██████░░░░░░░░░░  37 %  3 of 8  T s
* file      waits for a callback  T s
* group     its tasks: 1 of 3 ended  T s
*   2       asleep  T s
*   3       asleep  T s
* reader    waits for 日本  T s
* 日本      waits for a promise  T s
✗ bad/inner, bad/reader  no\x1B[2J good
10 under way · 2 finished · 2 failed · T s
]],
      shows(terminal, "10 under way")
    )
  end)

  it("stays below what is printed, by whomever", function()
    local terminal <close> = started([[
      local uv = require("luv")
      allua.spawn(function() allua.sleep(60) end)
      allua.sleep(0.3) -- there are lines by now
      print("print")
      io.write("io.", "write") io.stdout:flush()
      allua.sleep(0.2)
      io.write(" goes on\n")
      io.stderr:write("stderr\n")
      os.execute("echo a child; echo its errors >&2")
      local tty = uv.new_tty(1, false)
      allua.promisify(function(done) tty:write("luv\n", done) end)()
      tty:close()
      for i = 1, 30 do print("line " .. i) if i % 10 == 0 then allua.sleep(0.1) end end
      allua.sleep(0.2)
      io.write("end")
      io.stdout:flush()
      allua.sleep(0.2)
      os.exit(3)
    ]])
    local expected = { "print", "io.write goes on", "stderr", "a child", "its errors", "luv" }
    for i = 1, 30 do
      expected[#expected + 1] = "line " .. i
    end
    expected[#expected + 1] = "endallua: 0 tasks finished, 1 cancelled in T s\n"
    assert.equal(table.concat(expected, "\n"), left(terminal))
    assert.equal(3, terminal:wait())
  end)

  it("fits a terminal that is small, or becomes so, and says how many there are", function()
    local terminal <close> = started([[
      for i = 1, 50 do allua.spawn(function() allua.sleep(60) end) end
      allua.sleep(0.3)
      os.execute("stty rows 8 cols 30")
      print("small")
      allua.sleep(60)
    ]])
    shows(terminal, "… and 40 more\n50 under way · T s\n")
    terminal:wait_for("small")
    terminal:wait_for("… and 48 more")
    local drawn = 0
    for row, line in terminal.raw:match(".*small(.*)"):gmatch("\27%[(%d+);1H(.-)\27%[K") do
      drawn = drawn + 1
      assert(tonumber(row) <= 8 and utf8.len((line:gsub("\27%[[%d;]*m", ""))) < 30, line)
    end
    assert(drawn >= 3)
  end)

  it("leaves the terminal as it was, however the program ends", function()
    local busy = "allua.spawn(function() allua.sleep(60) end) allua.sleep(0.3) print('ready') "
    for name, code in pairs({
      ["an error"] = busy .. "error('wrong', 0)",
      ["Ctrl-C"] = busy .. "allua.sleep(60)",
      ["SIGTERM"] = busy .. "require('luv').kill(require('luv').os_getpid(), 'sigterm') allua.sleep(60)",
      ["a crash"] = busy .. "require('luv').kill(require('luv').os_getpid(), 'sigabrt')",
      ["os.exit"] = busy .. "coroutine.wrap(os.exit)(1)",
    }) do
      local terminal <close> = started(code)
      if name == "Ctrl-C" then
        terminal:wait_for("ready")
        terminal:type("\3")
      end
      local text = left(terminal)
      assert.is_nil(text:find("*", 1, true), name .. ": " .. text)
      assert.is_nil(text:find("under way", 1, true), name)
    end
  end)

  it("writes lines where there is no terminal", function()
    local result = host.run({
      "--progress",
      "-e",
      [[
        pcall(all, {
          bad = function(self) local _ = self.quick error("wrong", 0) end,
          quick = function() all({ function() end, [3] = function() end }) end,
          slow = function() allua.sleep(60) end,
        })
      ]],
    })
    assert.equal("", result.out)
    assert.equal(
      [[
allua: started bad
allua: started quick
allua: started slow
allua: started quick/1
allua: finished quick/1, T s
allua: started quick/3
allua: finished quick/3, T s
allua: finished quick, T s
allua: failed bad, T s: wrong
allua: cancelled slow, T s
allua: 3 tasks finished, 1 failed, 1 cancelled in T s
]],
      still(result.err)
    )
  end)

  it("is asked for by ALLUA_PROGRESS, which others do not inherit", function()
    local result = host.eval([[print(os.getenv("ALLUA_PROGRESS"))]], { env = { ALLUA_PROGRESS = "1" } })
    assert.equal("nil\n", result.out)
    assert.equal("allua: 0 tasks finished in T s\n", still(result.err))
  end)
end)

describe("allua.progress", function()
  it("does nothing where nothing is shown", function()
    allua.progress(1, 2)
    allua.progress(0)
    allua.progress(2.5, nil)
  end)

  it("refuses what is no amount", function()
    for _, wrong in ipairs({ "1", -1, 0 / 0, math.huge, {}, false }) do
      assert.matches(
        "^progress: expected a number, 0 or more, for done %(got ",
        errors.text(errors.raised(allua.progress, wrong))
      )
      assert.matches("for total", errors.text(errors.raised(allua.progress, 1, wrong)), 1, true)
    end
    assert.is_true(errors.says(errors.raised(allua.progress), "for done (got nil)"))
  end)
end)
