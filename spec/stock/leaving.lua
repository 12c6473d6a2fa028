-- How a stock Lua ends with allua loaded: as Lua does, with tasks under way or not, and never with a hang.

local check = require("spec.support.check")

local lua = arg[-1]

-- Runs the code in a Lua of its own; gives its output (both streams) and its exit status.
local function run(code)
  local name = os.tmpname()
  local file = assert(io.open(name, "w"))
  file:write("local allua = require('allua') ", code)
  file:close()
  local pipe = io.popen(("%s %s 2>&1"):format(lua, name))
  local output = pipe:read("a")
  local _, _, status = pipe:close()
  os.remove(name)
  return output, status
end

local function ends(name, code, expected_status, expected_output)
  check(name, function()
    local output, status = run(code)
    local report = ("status %s: %s"):format(status, output)
    assert(status == expected_status, report)
    assert(not expected_output or output:find(expected_output, 1, true), report)
    assert(expected_status ~= 0 or expected_output or output == "", report)
  end)
end

ends("a program that only loads it", "", 0)
ends("a program whose tasks have ended", "allua.all { function() allua.sleep(0.001) end }", 0)
ends("a program with a task under way", "allua.spawn(allua.sleep, 60) allua.sleep(0.001)", 0)
ends("a program with a task that never started", "allua.spawn(print, 'never')", 0)
ends(
  "a task under way is cleaned up",
  [[allua.spawn(function()
    local guard <close> = setmetatable({}, { __close = function() print("closed") end })
    allua.sleep(60)
  end)
  allua.sleep(0.001)]],
  0,
  "closed"
)
ends("a luv handle left open", "local t = require('luv').new_timer() t:start(60000, 0, print) allua.sleep(0.001)", 0)
ends("a half consumed loop over each", "kept = allua.each { allua.sleep } kept2 = allua.each { function() end }", 0)
ends("an error of a task ends the program with 1", "allua.all { function() error('broken', 0) end }", 1, "broken")
ends("an error has the place", "\nallua.all { function() error('broken') end }", 1, ":2: broken")
ends("a deadlock ends the program with 1", "allua.promise():await()", 1, "deadlock")
ends("os.exit in a task", "allua.all { function() allua.sleep(0.001) os.exit(7) end }", 7)
ends("os.exit in a task, closing the state", "allua.all { function() allua.sleep(0.001) os.exit(8, true) end }", 8)

check.done()
