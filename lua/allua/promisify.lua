-- allua.promisify(fn): a function whose last parameter is a callback (err, ...), as luv's are, turned
-- into one that waits.
local core = require("allua.core")

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

-- What luv calls it, where it is luv's.
local function name_of(fn)
  for name, value in pairs(package.loaded.luv or {}) do
    if value == fn then
      return "uv." .. name
    end
  end
end

-- In the place of values: what luv says of a failure comes behind it.
local FAILED = {}

-- Luv's errors name no operation, and no line: here they do.
local function values(name, ...)
  local first, message = ...
  if first == FAILED then
    error(core.where() .. name .. ": " .. message, 0)
  end
  return ...
end

local function start(name, fn, ...)
  if not name then
    return true, fn(...)
  end
  local ok, request, message = pcall(fn, ...)
  if not ok and type(request) == "string" then
    request = core.where() .. request:gsub("luv%.", "uv.", 1)
  end
  if not ok then
    error(request, 0)
  end
  return true, request, message
end

local function wait(name, what, fn, ...)
  local promise = core.promise(what)
  local pending <close> = setmetatable({ promise = promise }, guard)
  local arguments = table.pack(...)
  arguments.n = arguments.n + 1
  local mine = promise -- the callback gives it up: luv may keep that for longer than it needs it
  arguments[arguments.n] = function(err, ...)
    local settled = mine
    mine = nil
    if not settled then
      return
    elseif err and name and type(err) == "string" then
      settled:resolve(FAILED, err)
    elseif err then
      settled:reject(err)
    else
      settled:resolve(...)
    end
  end
  local _, request, message = start(name, fn, table.unpack(arguments, 1, arguments.n))
  if not request and message then
    -- luv's way to say that nothing was started
    error(core.where() .. (name and name .. ": " or "") .. message, 0)
  end
  pending.request = request
  return values(name, promise:await())
end

-- What of its arguments a trace shows: what is short and plain.
local function seen(...)
  local shown = {}
  for i = 1, math.min(select("#", ...), 4) do
    local value = select(i, ...)
    if type(value) == "number" or type(value) == "boolean" or type(value) == "string" and #value <= 200 then
      shown[tostring(i)] = value
    end
  end
  return shown
end

return function(fn)
  local callable = getmetatable(fn)
  if type(fn) ~= "function" and not (type(callable) == "table" and callable.__call) then
    error("promisify: expected a function (got " .. type(fn) .. ")", 2)
  end
  local name = name_of(fn)
  local what = name or "a callback"
  return function(...)
    if core.tracing then
      return core.load("allua.trace").operation("io", what, seen(...), wait, name, what, fn, ...)
    end
    return wait(name, what, fn, ...)
  end
end
