-- proxy: a reverse proxy that streams, and keeps for a while what it may. For each GET a flow asks the cache
-- and the origin: the first to have an answer wins, and the other is cancelled.
--
--   allua examples/proxy.lua http://127.0.0.1:8080 [PORT]      then: curl -i http://127.0.0.1:PORT/
local origin, port = arg[1], math.tointeger(arg[2] or 0)
if not origin or not origin:find("^https?://[^/]") or not port or arg[3] then
  io.stderr:write("usage: proxy.lua ORIGIN [PORT]   (ORIGIN: http://host:port)\n")
  os.exit(2)
end

local MOST = 1048576 -- bytes of a body that is kept
local MOST_KEPT = 1000 -- bodies
local fetch = allua.fetch.with({ base_url = origin, redirects = false, timeout = 60 })
local cache, kept = {}, 0 -- target → { headers, body, expires }, and how many of them

-- Between two neighbours only (RFC 9110, 7.6.1), or made anew on the way.
local hop = "connection keep-alive proxy-connection te trailer transfer-encoding upgrade content-length "
  .. "content-encoding accept-encoding host expect proxy-authorization"
local is_hop = {}
for name in hop:gmatch("%S+") do
  is_hop[name] = true
end

local function request_headers(event)
  local headers = { ["X-Forwarded-For"] = event.remote, ["X-Forwarded-Host"] = event.headers.host }
  for name, value in pairs(event.headers) do
    if not is_hop[name] then
      headers[name] = value
    end
  end
  return headers
end

local function answer(event, status, headers, from)
  event:status(status)
  for name, value in pairs(headers) do
    if not is_hop[name:lower()] then
      event:header(name, value)
    end
  end
  event:header("X-Cache", from)
end

-- How many seconds a reply may be kept, for everybody.
local function lifetime(event, response)
  local control = (response.headers["cache-control"] or ""):lower()
  local private = control:find("no%-store") or control:find("no%-cache") or control:find("private")
  local personal = event.headers.authorization or response.headers["set-cookie"]
  local varies = (response.headers.vary or "accept-encoding"):lower() ~= "accept-encoding" -- which is not passed on
  if event.method ~= "GET" or response.status ~= 200 or private or personal or varies then
    return 0
  end
  return tonumber(control:match("max%-age=(%d+)")) or 0
end

local function forget(target)
  if cache[target] then
    cache[target], kept = nil, kept - 1
  end
end

local function keep(target, entry)
  if kept == MOST_KEPT then
    cache, kept = {}, 0
  end
  forget(target)
  cache[target], kept = entry, kept + 1
end

-- The origin's reply goes through as it comes, and is kept on its way where it may be.
local function forward(event)
  local body = event.method ~= "GET" and event.method ~= "HEAD" and event:body() or nil
  local ok, response = pcall(fetch.raw, event.target, {
    method = event.method,
    headers = request_headers(event),
    body = body,
  })
  if not ok then
    if allua.is_error(response, "FetchError") then
      allua.http_error(response.code == "timeout" and 504 or 502, "the origin does not answer")
    end
    error(response, 0)
  end
  answer(event, response.status, response.headers, "miss")
  if response.status == 204 or response.status == 304 then
    return ""
  end
  local headers, seconds = {}, lifetime(event, response)
  for name, value in pairs(response.headers) do
    headers[name] = value
  end
  return event:stream(function(write)
    local parts, size = {}, 0
    for chunk in response:chunks() do
      size = size + #chunk
      parts[#parts + 1] = seconds > 0 and size <= MOST and chunk or nil
      write(chunk)
    end
    if seconds > 0 and size <= MOST then
      keep(event.target, { headers = headers, body = table.concat(parts), expires = allua.now() + seconds })
    end
  end)
end

local function cached(event)
  local entry = event.method == "GET" and cache[event.target]
  if entry and entry.expires > allua.now() then
    return entry
  elseif entry then
    forget(event.target)
  end
end

local server = allua.serve({
  port = port,
  routes = {
    ["/*path"] = function(event)
      return allua.flow({
        cache = function(_, task)
          local entry = cached(event)
          if entry then
            answer(event, 200, entry.headers, "hit")
            task:finish(entry.body)
          end
        end,
        origin = function(_, task)
          allua.yield() -- the cache is asked first
          task:finish(forward(event))
        end,
      })
    end,
  },
})
print(server.url)
