-- luv's operations on files, as waits: what is under way in a thread of libuv's cannot be cancelled, only
-- waited for.
local allua = require("allua")

return function(operation)
  local wait = allua.promisify(operation)
  return function(...)
    return allua.shield(wait, ...)
  end
end
