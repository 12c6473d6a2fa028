-- A dashboard: its server loads user, config, posts and analytics at once, each as early as what it needs is
-- there, and its page shows every part as it arrives.
--
--   allua examples/dashboard/server.lua [--db URL] [--port PORT] [--latency SECONDS] [--analytics URL]
--
-- The database is one in memory unless --db names another (sqlite:app.db, postgres://me@host/name). Without
-- --analytics it starts the service beside this file. --latency is how long each query takes longer, as over a
-- network (0.15).
local hmac = require("openssl.hmac") -- Debian's lua-luaossl
local rand = require("openssl.rand")

local folder = arg[0]:match("^(.*)/") or "."

local options = { db = "sqlite::memory:", port = "0", latency = "0.15", analytics = "" }
local function usage()
  io.stderr:write("usage: server.lua [--db URL] [--port PORT] [--latency SECONDS] [--analytics URL]\n")
  os.exit(2)
end
for i = 1, #arg, 2 do
  local name = arg[i]:match("^%-%-(%a+)$")
  if not options[name or ""] or not arg[i + 1] then
    usage()
  end
  options[name] = arg[i + 1]
end
local port, latency = math.tointeger(options.port), tonumber(options.latency)
if not port or not latency or latency < 0 then
  usage()
end

local parts = dofile(folder .. "/cards.lua")
local service <close> = parts.start_analytics(folder, options.analytics)
local db <close> = parts.open(folder, options.db)

local function cards(user_id)
  return parts.cards(db, service.fetch, latency, user_id)
end

-- A card that fails is a card that says so: the others go on.
local function told(err)
  return allua.is_error(err, "FetchError") and type(err.data) == "table" and err.data.error
    or "this could not be loaded"
end

-- The same tasks, each with when it began to wait, went on and ended, in seconds, for the page's waterfall.
local function watched(tasks, began)
  local result = {}
  for name, task in pairs(tasks) do
    result[name] = function(self, about)
      local at = { start = allua.now() - began, waited = {} }
      local seen = setmetatable({}, {
        __index = function(_, other)
          local value = self[other]
          table.insert(at.waited, other)
          at.ready = allua.now() - began
          if value.error then
            error(value.error, 0)
          end
          return value.data
        end,
      })
      local ok, value = pcall(task, seen, about)
      if not ok and allua.is_error(value, "CancelledError") then
        error(value, 0)
      end
      at.ready = at.ready or at.start
      at.finish, at.waited = allua.now() - began, table.concat(at.waited, ", ")
      return { name = name, data = ok and value or nil, error = not ok and told(value) or nil, times = at }
    end
  end
  return result
end

-- ── who asks ──

local KEY = rand.bytes(32)

local function hex(bytes)
  return (bytes:gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end))
end

local function signature(text)
  return hex(hmac.new(KEY, "sha256"):final(text))
end

-- Compares in a time that tells nothing.
local function same(a, b)
  local differ = #a ~ #b
  for i = 1, math.min(#a, #b) do
    differ = differ | (a:byte(i) ~ b:byte(i))
  end
  return differ == 0
end

local function user_of(cookie)
  local id, signed = (cookie or ""):match("^(%d+)%.(%x+)$")
  return id and same(signed, signature(id)) and math.tointeger(id) or nil
end

local function authenticate(event, next)
  local user_id = user_of(event.cookies.session)
  event.context.auth = { user_id = user_id }
  if not user_id and event.path:find("^/api/") then
    allua.http_error(401, "sign in first: the page at / does so for you")
  end
  return next()
end

local function log(event, next)
  local began, ended = allua.now(), nil
  local _ <close> = setmetatable({}, {
    __close = function(_, err)
      local left = allua.is_error(err, "CancelledError")
      ended = ended or left and "cancelled: its client has left" or "failed: " .. tostring(err)
      io.stdout:write(("%s %s %s, %.0f ms\n"):format(event.method, event.path, ended, (allua.now() - began) * 1000))
      io.stdout:flush()
    end,
  })
  local reply = next()
  ended = reply == event and "begins to stream" or "done"
  return reply
end

-- ── the server ──

local server = allua.serve({
  port = port,
  use = { log, authenticate },
  routes = {
    ["GET /"] = function(event)
      if not event.context.auth.user_id then
        event:cookie("session", "1." .. signature("1"), { max_age = 86400, same_site = "strict" })
      end
      return event:file(folder .. "/page/index.html")
    end,
    ["GET /page/*file"] = allua.serve.files(folder .. "/page"),
    ["GET /api/dashboard"] = function(event)
      local ok, result = pcall(all, cards(event.context.auth.user_id), { name = "dashboard" })
      if not ok and allua.is_error(result, "FetchError") then
        allua.http_error(502, told(result))
      end
      return ok and result or error(result, 0)
    end,
    ["GET /api/dashboard/events"] = function(event)
      local began, ended = allua.now(), false
      return event:events(function(send)
        local _ <close> = setmetatable({}, {
          __close = function()
            local how = ended and "done" or "broke off: its client has left"
            print(("GET /api/dashboard/events %s, %.0f ms"):format(how, (allua.now() - began) * 1000))
            io.stdout:flush()
          end,
        })
        for _, card in allua.each(watched(cards(event.context.auth.user_id), began)) do
          send(card, "card")
        end
        send({ total = allua.now() - began }, "end")
        ended = true
      end)
    end,
    ["GET /api/cards/:name"] = function(event)
      local wanted, tasks = event.params.name, cards(event.context.auth.user_id)
      if not tasks[wanted] then
        allua.http_error(404, "there is no such card")
      end
      local needed = { [wanted] = tasks[wanted], user = tasks.user }
      return all(watched(needed, allua.now()))[wanted]
    end,
  },
})
print("the dashboard is at " .. server.url .. "/")
io.stdout:flush()
server.task:await()
