-- Tells when every task waits and nothing is pending. To a program that is its end; the prompt and the
-- test runner use this to end only what is stuck.
--
--   local watch <close> = stall(function(e) … end) -- called outside any task, with a DeadlockError

local core = require("allua.core")
local uv = require("luv")
local setmetatable = setmetatable

local INTERVAL = 50 -- ms

return function(on_stall)
  local timer = uv.new_timer()
  local idle = 0
  -- Its own timer keeps the loop, and so the program, alive: what is left without it?
  timer:start(INTERVAL, INTERVAL, function()
    timer:unref()
    idle = uv.loop_alive() and 0 or idle + 1
    timer:ref()
    -- Once may be between a task's being ready and its turn.
    if idle == 2 then
      idle = 0
      local message = "deadlock: every task waits, and nothing is pending" .. core.waits()
      on_stall(core.error({ name = "DeadlockError", message = message }))
    end
  end)
  return setmetatable({}, {
    __close = function()
      timer:close()
    end,
  })
end
