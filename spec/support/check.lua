-- Named checks for programs that run under a stock lua5.4, where there is no busted: one line of output each.
--
--   local check = require("spec.support.check")
--   check("a sum is a sum", function() assert(1 + 1 == 2) end)
--   check.done()                                            -- exits: 1 when a check failed

local check = { failed = 0 }

local function run(_, name, fn)
  local ok, problem = pcall(fn)
  if ok then
    print("ok " .. name)
  else
    check.failed = check.failed + 1
    print(("not ok %s: %s"):format(name, tostring(problem)))
  end
  io.stdout:flush()
end

-- The error that fn raises.
function check.raises(fn, ...)
  local ok, problem = pcall(fn, ...)
  assert(not ok, "nothing was raised")
  return problem
end

function check.done()
  os.exit(check.failed == 0 and 0 or 1, true)
end

return setmetatable(check, { __call = run })
