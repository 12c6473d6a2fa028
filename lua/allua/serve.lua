-- allua.serve { routes = … }: an HTTP/1.1 server whose requests are tasks.
local allua = require("allua")
local core = require("allua.core")
local router = core.load("allua.serve_router")
local uv = require("luv")

local events = core.load("allua.serve_event")
local files = core.load("allua.serve_files")

local Event, reply = events.class, events.reply
local pcall, type = pcall, type

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
local MOST = { head = 1 << 30, uri = 1 << 30, headers = 1 << 30, connections = 1 << 20 } -- of the others 10^12
local LIMITS = { "head", "uri", "headers", "body", "head_time", "body_time", "idle_time", "write_time", "connections" }
local OPTIONS = { "host", "port", "routes", "use", "tls", "limits", "grace" }
local TLS = { "cert", "key" }
local GRACE = 10 -- seconds
-- Seconds before a server that could not go on tries again: twice as long each time, so often in a row.
local PAUSE, LONGEST_PAUSE = 0.001, 0.1
local MOST_FAILURES = 20
local MOST_IDLE = 64 -- tasks that wait for requests
local PLACE <const> = (1 << 20) - 1 -- these bits of the number of a request are its connection's place
-- Of a worker's table: the event that it answers, or false, and the number of that request.
local EVENT <const>, ID <const> = 1, 2
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
    local most = MOST[name] or 10 ^ 12
    if type(value) ~= "number" or not (value > 0 and value <= most) then
      local words = 'serve: limit "%s" must be a number above 0, and at most %d (got %s)'
      error(words:format(name, most, tostring(value)), 4)
    end
    limits[name] = math.ceil(name:find("_time", 1, true) and value * 1000 or value)
  end
  return limits
end

local function check_tls(given)
  if type(given) ~= "table" then
    error('serve: option "tls" must be a table with cert and key (got ' .. type(given) .. ")", 4)
  end
  check_names("option of tls", given, TLS)
  for _, name in ipairs(TLS) do
    if type(given[name]) ~= "string" then
      error(("serve: tls.%s must be the path of a file in PEM (got %s)"):format(name, type(given[name])), 4)
    end
    local file, problem = io.open(given[name], "rb")
    if not file then
      error(("serve: tls.%s cannot be read: %s"):format(name, problem), 4)
    end
    file:close()
  end
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
  if type(options.host or "") ~= "string" then
    error('serve: option "host" must be a name or an address (got ' .. type(options.host) .. ")", 3)
  end
  if type(options.use or {}) ~= "table" then
    error('serve: option "use" must be a list of functions (got ' .. type(options.use) .. ")", 3)
  end
  for i, middleware in pairs(options.use or {}) do
    if math.type(i) ~= "integer" or not router.is_callable(middleware) then
      error(("serve: use[%s] is not a function (got %s)"):format(tostring(i), type(middleware)), 3)
    end
  end
  local grace = options.grace or GRACE
  if type(grace) ~= "number" or grace ~= grace or grace < 0 then
    error('serve: option "grace" must be a number of seconds (got ' .. tostring(options.grace) .. ")", 3)
  end
  if options.tls ~= nil then
    check_tls(options.tls)
  end
  return check_limits(options.limits or {}), port
end

local function fail(event, err)
  if event.replied then
    events.drop(event)
    return
  end
  if allua.is_error(err, "HTTPError") then
    event:status(err.status)
    event.content_type = nil
    local ok, text = pcall(core.json_encode, { error = err.message, data = err.data })
    if ok then
      event:send("application/json", text)
      return
    end
    io.stderr:write(("allua: %s %s: the data of an http_error: %s\n"):format(event.method, event.path, text))
  end
  event.code, event.sent_headers, event.content_type = 500, nil, nil
  event:send("application/json", FAILED)
end

-- What the handler gives.
local function handle(event, find)
  local handler, params = find(event)
  if params then
    event.params = params
  end
  return handler(event)
end

-- What it gives behind the middleware from the i-th on.
local function run(event, find, middleware, i)
  local outer = middleware[i]
  if outer then
    return outer(event, function()
      return run(event, find, middleware, i + 1)
    end)
  end
  return handle(event, find)
end

-- What answers a request that is not for a route without parameters alone.
local function answerer(find, middleware)
  return function(event)
    if core.tracing then
      core.trace_name(event.method .. " " .. event.path)
      local seen = { method = event.method, path = event.path }
      return core.load("allua.trace").operation("io", "request", seen, run, event, find, middleware, 1)
    end
    return run(event, find, middleware, 1)
  end
end

-- Whether the running task is, and not only another one that it waited for: each of its waits raises then.
local function is_cancelled()
  local ok, err = pcall(allua.yield)
  return not ok and allua.is_error(err, "CancelledError")
end

-- Tells of an error in what the words behind it say.
local function report(err, ...)
  io.stderr:write(("allua: %s: %s\n"):format(table.concat({ ... }, " "), core.describe(err)))
end

-- Why there is no reply from the handler.
local function tell(event, err)
  if allua.is_error(err, "ClientLeftError") or allua.is_error(err, "CancelledError") and is_cancelled() then
    events.drop(event)
    return
  end
  if not allua.is_error(err, "HTTPError") then
    pcall(report, err, event.method, event.path)
  end
  fail(event, err)
end

-- The servers that are open, by which the program's signals are answered.
local open = {}

local function on_terminate()
  for server in pairs(open) do
    server.terminated:resolve(true)
  end
end

local function on_hang_up()
  for server in pairs(open) do
    if server.tls then
      local ok, problem = pcall(server.reload, server)
      if not ok then
        io.stderr:write(("allua: %s: not reloaded: %s\n"):format(server.url, tostring(problem)))
      end
    end
  end
end

-- Without a certificate to take again, a terminal that hangs up ends the program as it ends any.
local function has_tls()
  for server in pairs(open) do
    if server.tls then
      return true
    end
  end
end

-- Only the program has signals: elsewhere they are the business of whoever embeds allua.
local function listen_to_signals()
  if core.on_signal then
    core.on_signal("SIGTERM", next(open) and on_terminate)
    core.on_signal("SIGHUP", has_tls() and on_hang_up)
  end
end

local function terminate(server)
  if server.terminated:await() then
    server:close(server.grace)
    if not next(open) then
      os.exit(0)
    end
  end
end

-- Answers in C what can be answered there, and here what is left of a request. Gives what listener:work does.
local function answer_some(worker, listener, ...)
  local got, value = listener:work(Event, worker, ...)
  if type(got) == "table" then
    reply(got, value)
    worker[EVENT] = false
  end
  return got
end

-- A task that answers one request after the other, as long as it is as good as new after each and there is one.
-- A handler that waits holds up its own request alone: `accept` sees to it that another task takes the next.
local function work(worker, listener, routes, answer, running, idle)
  core.answers(worker)
  while true do
    local ok, got = pcall(answer_some, worker, listener, running, routes, answer, events.start)
    if not ok then
      local event = worker[EVENT]
      worker[EVENT] = false
      if not event then
        error(got, 0)
      end
      if not pcall(tell, event, got) then -- for want of memory, say: the client need not wait
        events.drop(event)
      end
      return
    elseif got == false then
      return
    elseif got == true then
      allua.yield()
    elseif type(got) == "table" then
      if core.tracing then
        return -- there, each request is seen as a task
      end
    elseif got then
      local other = running[got & PLACE]
      if other and other[EVENT] and other[ID] == got then
        other.task:cancel("the client has left")
      end
    elseif #idle < MOST_IDLE then
      worker.called = core.promise("a request")
      idle[#idle + 1] = worker
      worker.called:await()
    else
      return
    end
  end
end

local function let_go(server)
  open[server] = nil
  listen_to_signals()
  server.terminated:resolve(false)
  server.listener:close()
end

local function accept_all(server, routes, answer)
  local running, idle, listener = {}, {}, server.listener
  server.accepting = true
  while true do
    listener:wait()
    local worker = table.remove(idle)
    if worker then
      worker.called:resolve()
    else
      worker = { false, 0 }
      worker.task = allua.spawn(work, worker, listener, routes, answer, running, idle)
    end
    listener:turn() -- after which it waits in a handler, has ended, or has answered all there was
    server.failures = 0
  end
end

-- Until it is cancelled: that memory has run out for a moment, say, is no end of it.
local function accept(server, routes, answer)
  local _ <close> = setmetatable({}, {
    __close = function()
      let_go(server)
    end,
  })
  while true do
    local _, err = pcall(accept_all, server, routes, answer)
    server.failures = server.failures + 1
    if is_cancelled() or server.failures == MOST_FAILURES then
      error(err, 0)
    end
    pcall(report, err, server.url)
    pcall(allua.sleep, math.min(PAUSE * 2 ^ (server.failures - 1), LONGEST_PAUSE))
  end
end

local Server = {}
Server.__index = Server

--- Take the certificate and the key from their files again, for the connections that come from now on.
function Server:reload()
  if not self.tls then
    error("reload: this server has no tls", 2)
  end
  self.listener:secure(self.tls.cert, self.tls.key)
end

--- Stop accepting, let what runs finish within `grace` seconds, then cancel it.
function Server:close(grace)
  self.listener:stop()
  pcall(allua.timeout, grace or 0, self.listener.drain, self.listener)
  self.task:cancel("the server closes")
  pcall(self.task.await, self.task)
end

local serve = { files = files.folder }

-- Its first address; an address stands for itself.
local function resolve(host)
  if host:find("^[%d.]+$") or host:find(":", 1, true) then
    return host
  end
  local ok, found = pcall(allua.promisify(uv.getaddrinfo), host, nil, { socktype = "stream" })
  if not ok then
    error(('serve: host "%s" is not known (%s)'):format(host, tostring(found)), 3)
  end
  return found[1].addr
end

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
    local routes, find = router.new(options.routes, serve.http_error)
    local middleware = options.use or {}
    local listener, bound = core.serve_listen(resolve(host), port, limits)
    if not listener then
      error(("serve: cannot listen at %s, port %d: %s"):format(host, port, bound), 2)
    end
    local tls = options.tls
    if tls then
      local ok, problem = pcall(listener.secure, listener, tls.cert, tls.key)
      if not ok then
        listener:close()
        error(problem, 0)
      end
    end
    local name = host:find(":", 1, true) and "[" .. host .. "]" or host
    local server = setmetatable({
      listener = listener,
      port = bound,
      url = ("%s://%s:%d"):format(tls and "https" or "http", name, bound),
      tls = tls and { cert = tls.cert, key = tls.key },
      grace = options.grace or GRACE,
      terminated = allua.promise(),
      failures = 0, -- of `accept`, since it last went on
    }, Server)
    -- A task that is cancelled before it has begun closes nothing.
    local _ <close> = setmetatable({}, {
      __close = function()
        if not server.accepting then
          let_go(server)
        end
      end,
    })
    open[server] = true
    listen_to_signals()
    server.task = allua.spawn(accept, server, not middleware[1] and routes, answerer(find, middleware))
    if core.on_signal then
      allua.spawn(terminate, server)
    end
    repeat
      allua.yield()
    until server.accepting or server.task.status ~= "pending"
    return server
  end,
})
