-- Tells when every task waits and nothing is pending. To a program that is its end; the prompt and the
-- test runner use this to end only what is stuck.
--
--   local watch <close> = stall(function(e) … end) -- called outside any task, with a DeadlockError

local core = require("allua.core")
local setmetatable = setmetatable

return function(on_stall)
  local before = core.on_stall(on_stall)
  return setmetatable({}, {
    __close = function()
      core.on_stall(before)
    end,
  })
end
