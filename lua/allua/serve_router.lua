-- From routes, "GET /users/:id" → handler, to a table of those without parameters, and a function that finds the
-- handler of any event.

local router = {}

local ANY = {}

function router.is_callable(value)
  local meta = getmetatable(value)
  return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
end

local function segments(path)
  local list = {}
  for segment in path:gmatch("/([^/]*)") do
    list[#list + 1] = segment
  end
  return list
end

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

-- The parameters, where the path fits.
local function fit(route, parts)
  local params = {}
  for i, want in ipairs(route.parts) do
    local kind, name = want:match("^([:*])(.+)$")
    if kind == "*" then
      params[name] = decoded(table.concat(parts, "/", i))
      return params, params[name]
    elseif parts[i] == nil or kind == ":" and parts[i] == "" then
      return nil
    elseif kind then
      params[name] = decoded(parts[i])
    elseif decoded(parts[i]) ~= want then
      return nil
    end
  end
  return #parts == #route.parts and params or nil, nil
end

-- What is fixed comes before a parameter, that before a rest.
local function rank(path)
  return (path:gsub("/:[^/]*", "/\1"):gsub("/%*.*", "/\2"):gsub("/([^/\1\2]+)", "/\0%1"))
end

local function allow(allowed, method)
  if method and not allowed[method] then
    allowed[#allowed + 1], allowed[method] = method, true
  end
end

-- Two routes of one rank would answer the same requests; a rest takes all that is behind it.
local function check(route, others)
  for i, part in ipairs(route.parts) do
    if part:find("^%*") and i < #route.parts then
      error(('serve: route "%s": "%s" takes all the rest, so nothing may follow it'):format(route.key, part), 4)
    end
  end
  local same = (route.method or "") .. " " .. route.rank
  if others[same] then
    local first, second = others[same], route.key
    if second < first then
      first, second = second, first
    end
    error(('serve: routes "%s" and "%s" answer the same requests'):format(first, second), 4)
  end
  others[same] = route.key
end

function router.new(routes, http_error)
  local list, ranks = {}, {}
  for key, handler in pairs(routes) do
    local method, path = tostring(key):match("^(%u+) (/.*)$")
    path = path or tostring(key):match("^/.*$")
    if not path then
      error(('serve: route "%s" must look like "GET /path" or "/path"'):format(tostring(key)), 3)
    elseif not router.is_callable(handler) then
      error(('serve: route "%s" is not a function (got %s)'):format(key, type(handler)), 3)
    end
    local route = { key = key, method = method, path = path, parts = segments(path), rank = rank(path) }
    route.handler = handler
    check(route, ranks)
    list[#list + 1] = route
  end
  table.sort(list, function(a, b)
    if a.rank ~= b.rank then
      return a.rank < b.rank
    end
    return (a.method or "~") < (b.method or "~")
  end)

  -- Those without parameters: path → method → handler; ANY for those of any method.
  local fixed = {}
  for _, route in ipairs(list) do
    if not route.rank:find("[\1\2]") then
      fixed[route.path] = fixed[route.path] or {}
      fixed[route.path][route.method or ANY] = route.handler
    end
  end

  return fixed,
    function(event)
      local at = fixed[event.path]
      local handler = at and (at[event.method] or event.method == "HEAD" and at.GET or at[ANY])
      if handler then
        return handler
      end
      local parts, allowed = segments(event.path), {}
      for _, route in ipairs(list) do
        local params, rest = fit(route, parts)
        if params then
          local method = event.method
          if not route.method or route.method == method or method == "HEAD" and route.method == "GET" then
            event.rest = rest
            return route.handler, params
          end
          allow(allowed, route.method)
          allow(allowed, route.method == "GET" and "HEAD" or nil)
        end
      end
      if event.path == "*" then -- OPTIONS, of the server and no path of its
        return function() end, {}
      elseif #allowed == 0 then
        http_error(404, "not found")
      end
      allow(allowed, "OPTIONS")
      event:header("Allow", table.concat(allowed, ", "))
      if event.method == "OPTIONS" then
        return function() end, {}
      end
      http_error(405, "method not allowed")
    end
end

return router
