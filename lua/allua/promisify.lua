-- allua.promisify(fn): a function whose last parameter is a callback (err, ...), as luv's are, turned
-- into one that waits.
local allua = require("allua")

-- When the wait ends early, ask luv to give the request up.
local guard = {
  __close = function(self)
    local request = self.request
    if self.promise.status == "pending" and type(request) == "userdata" then
      local uv = package.loaded.luv
      if uv then
        pcall(uv.cancel, request)
      end
    end
  end,
}

return function(fn)
  local callable = getmetatable(fn)
  if type(fn) ~= "function" and not (type(callable) == "table" and callable.__call) then
    error("promisify: expected a function (got " .. type(fn) .. ")", 2)
  end
  return function(...)
    local promise = allua.promise()
    local pending <close> = setmetatable({ promise = promise }, guard)
    local arguments = table.pack(...)
    arguments.n = arguments.n + 1
    local mine = promise -- the callback gives it up: luv may keep that for longer than it needs it
    arguments[arguments.n] = function(err, ...)
      local settled = mine
      mine = nil
      if not settled then
        return
      elseif err then
        settled:reject(err)
      else
        settled:resolve(...)
      end
    end
    local request, message = fn(table.unpack(arguments, 1, arguments.n))
    if not request and message then
      -- luv's way to say that nothing was started
      error(message, 2)
    end
    pending.request = request
    return promise:await()
  end
end
