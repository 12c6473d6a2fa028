-- allua.serve { routes = … }: an HTTP/1.1 server whose requests are tasks.
local allua = require("allua")
local cjson = require("cjson")
local core = require("allua.core")
local router = core.load("allua.serve_router")
local event_of = core.load("allua.serve_event")

local DEFAULTS = {
  head = 16384, -- bytes
  uri = 8192,
  headers = 100,
  body = 1048576,
  head_time = 10, -- seconds
  body_time = 20,
  idle_time = 60,
  write_time = 30,
  connections = 1000,
}
local LIMITS = { "head", "uri", "headers", "body", "head_time", "body_time", "idle_time", "write_time", "connections" }
local OPTIONS = { "host", "port", "routes", "use", "limits" }
local FAILED = '{"error":"Internal Server Error"}'

local function check_names(what, options, names)
  local known = {}
  for _, name in ipairs(names) do
    known[name] = true
  end
  for name in pairs(options) do
    if not known[name] then
      local hint = type(name) == "string" and core.near(name, names) or ""
      error(('serve: unknown %s "%s"%s'):format(what, tostring(name), hint), 4)
    end
  end
end

local function check_limits(given)
  if type(given) ~= "table" then
    error('serve: option "limits" must be a table (got ' .. type(given) .. ")", 4)
  end
  check_names("limit", given, LIMITS)
  local limits = {}
  for _, name in ipairs(LIMITS) do
    local value = given[name] or DEFAULTS[name]
    if type(value) ~= "number" or not (value > 0 and value < 1e12) then
      error(('serve: limit "%s" must be a number above 0 (got %s)'):format(name, tostring(value)), 4)
    end
    limits[name] = math.ceil(name:find("_time", 1, true) and value * 1000 or value)
  end
  return limits
end

local function check(options)
  if type(options) ~= "table" then
    error("serve: expected a table of options (got " .. type(options) .. ")", 3)
  end
  check_names("option", options, OPTIONS)
  if type(options.routes) ~= "table" then
    error('serve: option "routes" must be a table of routes (got ' .. type(options.routes) .. ")", 3)
  end
  local port = options.port or 0
  if math.type(port) ~= "integer" or port < 0 or port > 65535 then
    error('serve: option "port" must be an integer from 0 to 65535 (got ' .. tostring(port) .. ")", 3)
  end
  if type(options.use or {}) ~= "table" then
    error('serve: option "use" must be a list of functions (got ' .. type(options.use) .. ")", 3)
  end
  return check_limits(options.limits or {}), port
end

local function fail(event, err)
  if event.replied then
    event.request:drop()
    return
  end
  if allua.is_error(err, "HTTPError") then
    event:status(err.status)
    event:send("application/json", cjson.encode({ error = err.message, data = err.data }))
    return
  end
  event.code, event.sent_headers = 500, {}
  event:send("application/json", FAILED)
end

local function handle(event, find, middleware)
  local function run(i)
    if middleware[i] then
      return middleware[i](event, function()
        return run(i + 1)
      end)
    end
    local handler, params = find(event)
    event.params = params
    return handler(event)
  end
  local ok, err = pcall(function()
    event:reply(run(1))
  end)
  if ok or allua.is_error(err, "CancelledError") or allua.is_error(err, "ClientLeftError") then
    if not ok then
      event.request:drop()
    end
    return
  end
  if not allua.is_error(err, "HTTPError") then
    io.stderr:write(("allua: %s %s: %s\n"):format(event.method, event.path, core.describe(err)))
  end
  pcall(fail, event, err)
end

local function accept(listener, find, middleware)
  local tasks = {}
  local _ <close> = setmetatable({}, {
    __close = function()
      listener:close()
    end,
  })
  while true do
    local id, request, method, target, fields, minor, remote, keep, has_body = listener:next()
    if not id then
      listener:wait()
    elseif not request then
      if tasks[id] then
        tasks[id]:cancel("the client has left")
        tasks[id] = nil
      end
    else
      local event = event_of(request, method, target, fields, minor, remote, keep, has_body)
      tasks[id] = allua.spawn(function()
        handle(event, find, middleware)
        tasks[id] = nil
      end)
    end
  end
end

local Server = {}
Server.__index = Server

--- Stop accepting, let what runs finish within `grace` seconds, then cancel it.
function Server:close(grace)
  self.listener:stop()
  pcall(allua.timeout, grace or 0, self.listener.drain, self.listener)
  self.task:cancel("the server closes")
  pcall(self.task.await, self.task)
end

local serve = {}

--- Raise what becomes a reply with that status, in JSON.
function serve.http_error(status, message, data)
  if math.type(status) ~= "integer" or status < 400 or status > 599 then
    error("http_error: expected a status from 400 to 599 (got " .. tostring(status) .. ")", 2)
  end
  error(core.error({ name = "HTTPError", status = status, message = message or "error", data = data }), 0)
end

return setmetatable(serve, {
  __call = function(_, options)
    local limits, port = check(options)
    local host = options.host or "127.0.0.1"
    local find = router(options.routes, serve.http_error)
    local listener, bound = core.serve_listen(host, port, limits)
    if not listener then
      error(("serve: cannot listen at %s, port %d: %s"):format(host, port, bound), 2)
    end
    local name = host:find(":", 1, true) and "[" .. host .. "]" or host
    return setmetatable({
      listener = listener,
      port = bound,
      url = ("http://%s:%d"):format(name, bound),
      task = allua.spawn(accept, listener, find, options.use or {}),
    }, Server)
  end,
})
