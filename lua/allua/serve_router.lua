-- From routes, "GET /users/:id" → handler, to a function that finds an event's handler.

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
      return params
    elseif parts[i] == nil or kind == ":" and parts[i] == "" then
      return nil
    elseif kind then
      params[name] = decoded(parts[i])
    elseif decoded(parts[i]) ~= want then
      return nil
    end
  end
  return #parts == #route.parts and params or nil
end

-- What is fixed comes before a parameter, that before a rest.
local function rank(path)
  return (path:gsub("/:[^/]*", "/\1"):gsub("/%*.*", "/\2"):gsub("/([^/\1\2]+)", "/\0%1"))
end

return function(routes, http_error)
  local list = {}
  for key, handler in pairs(routes) do
    local method, path = tostring(key):match("^(%u+) (/.*)$")
    path = path or tostring(key):match("^/.*$")
    if not path then
      error(('serve: route "%s" must look like "GET /path" or "/path"'):format(tostring(key)), 3)
    elseif type(handler) ~= "function" and not (getmetatable(handler) or {}).__call then
      error(('serve: route "%s" is not a function (got %s)'):format(key, type(handler)), 3)
    end
    list[#list + 1] = { method = method, parts = segments(path), rank = rank(path), handler = handler }
  end
  table.sort(list, function(a, b)
    if a.rank ~= b.rank then
      return a.rank < b.rank
    end
    return (a.method or "~") < (b.method or "~")
  end)

  return function(event)
    local parts, allowed = segments(event.path), {}
    for _, route in ipairs(list) do
      local params = fit(route, parts)
      if params then
        local method = event.method
        if not route.method or route.method == method or method == "HEAD" and route.method == "GET" then
          return route.handler, params
        end
        allowed[#allowed + 1] = route.method
        if route.method == "GET" then
          allowed[#allowed + 1] = "HEAD"
        end
      end
    end
    if #allowed == 0 then
      http_error(404, "not found")
    end
    allowed[#allowed + 1] = "OPTIONS"
    event:header("Allow", table.concat(allowed, ", "))
    if event.method == "OPTIONS" then
      return function() end, {}
    end
    http_error(405, "method not allowed")
  end
end
