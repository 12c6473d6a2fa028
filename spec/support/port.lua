-- A port for a server that cannot choose one itself. Below those that the system gives to connections, and to servers
-- that leave the choice to it: one of those may be somebody else's before our server has it.
local close = require("spec.support.close")
local uv = require("luv")

local FIRST <const>, LAST <const> = 10000, 32000
local last = FIRST + math.tointeger(uv.os_getpid()) * 1009 % (LAST - FIRST) -- each program begins elsewhere

local function is_free(port)
  local probe = uv.new_tcp()
  local free = probe:bind("127.0.0.1", port) and probe:listen(1, function() end)
  close(probe)
  return free
end

return function()
  repeat
    last = last < LAST and last + 1 or FIRST
  until is_free(last)
  return last
end
