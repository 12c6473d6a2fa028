-- `require "allua"` in a stock Lua: what it gives, and what it leaves alone.

local before = {}
for name, value in pairs(_G) do
  before[name] = value
end
local allua = require("allua")
local check = require("spec.support.check")

check("no global comes, goes or changes", function()
  for name, value in pairs(_G) do
    assert(before[name] == value, name)
  end
  for name, value in pairs(before) do
    assert(_G[name] == value, name)
  end
end)

check("require gives one table", function()
  assert(require("allua") == allua and package.loaded.allua == allua)
end)

check("everything of sections 2 to 4 is in it", function()
  local names = "all all_settled flow race any each map shield abort_controller timeout is_error spawn promise sleep "
    .. "now yield retry promisify with run"
  for name in names:gmatch("%S+") do
    assert(type(allua[name]) == "function", name)
  end
  assert(allua.context ~= nil)
end)

check("a wrong name is nil", function()
  assert(allua.no_such_function == nil)
end)

check("luv is the one that the program loads", function()
  assert(type(require("luv").new_timer) == "function")
end)

check.done()
