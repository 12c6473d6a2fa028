-- What fetch takes: its options checked, and made into a plan, from which each exchange is made.
local allua = require("allua")
local core = require("allua.core")
local memo = core.load("allua.memo")

local options = {}

local megabyte = 1024 * 1024

local function callable(value)
  local meta = getmetatable(value)
  return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
end

local function is(kind)
  return function(value)
    return type(value) == kind
  end
end

local function seconds(value)
  return type(value) == "number" and value > 0 and value < math.huge
end

local function count(value)
  return math.type(value) == "integer" and value >= 0
end

local checks = {
  method = { "a string", is("string") },
  query = { "a table", is("table") },
  headers = { "a table", is("table") },
  body = {
    "a string, or a table for JSON",
    function(value)
      return type(value) == "string" or type(value) == "table"
    end,
  },
  form = { "a table of fields", is("table") },
  base_url = { "a string", is("string") },
  timeout = { "a number of seconds, more than 0", seconds },
  connect_timeout = { "a number of seconds, more than 0", seconds },
  retry = {
    "a count, or a table as for allua.retry",
    function(value)
      return count(value) or type(value) == "table" or value == false
    end,
  },
  redirects = {
    "a count, or false",
    function(value)
      return count(value) or value == false
    end,
  },
  proxy = {
    "a URL, or false",
    function(value)
      return type(value) == "string" or value == false
    end,
  },
  ca = { "a path, or certificates in PEM", is("string") },
  verify = { "a boolean", is("boolean") },
  max_body = {
    "a number of bytes",
    function(value)
      return count(value) or value == math.huge
    end,
  },
  to = {
    "a path, or a function",
    function(value)
      return type(value) == "string" or callable(value)
    end,
  },
  on_progress = { "a function", callable },
  signal = {
    "a signal",
    function(value)
      local ok, aborted = pcall(function()
        return value.aborted
      end)
      return type(value) == "userdata" and ok and type(aborted) == "boolean"
    end,
  },
}

local names = {}
for name in pairs(checks) do
  names[#names + 1] = name
end
table.sort(names)

-- The errors of this room have no place: fetch puts the caller's.
local function refuse(format, ...)
  error(format:format(...), 0)
end

function options.check(what, given)
  if type(given) ~= "table" then
    refuse("%s: expected a table of options (got %s)", what, type(given))
  end
  for name, value in pairs(given) do
    local rule = checks[name]
    if not rule then
      local hint = type(name) == "string" and core.near(name, names) or ""
      refuse('%s: unknown option "%s"%s', what, tostring(name), hint)
    end
    if not rule[2](value) then
      local got = type(value) == "number" and tostring(value) or type(value)
      refuse('%s: option "%s" must be %s (got %s)', what, name, rule[1], got)
    end
  end
end

local keys = memo.new(256) -- name of a header → the same in lower case

local function key_of(what, name)
  local key = keys[name]
  if key then
    return key
  elseif type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
    refuse('%s: "%s" is no name of a header', what, tostring(name):gsub("%c", "?"))
  end
  key = name:lower()
  if key == "content-length" or key == "transfer-encoding" then
    refuse("%s: the header %s follows from the body, and cannot be given", what, name)
  end
  keys[name] = key
  return key
end

local function header_text(what, name, item)
  if type(item) ~= "string" and type(item) ~= "number" then
    refuse("%s: the header %s must be a string, or a list of strings (got %s)", what, name, type(item))
  end
  item = tostring(item)
  if item:find("%c") and item:find("[\r\n\0]") then
    refuse("%s: the header %s has a line end or a NUL in it", what, name)
  end
  return item
end

-- Headers are kept by their names in lower case: { name, value, … }.
local function collect_headers(what, headers, into)
  for name, value in pairs(headers) do
    local key = key_of(what, name)
    local entry = { name }
    if type(value) == "table" then
      for _, item in ipairs(value) do
        entry[#entry + 1] = item and header_text(what, name, item) or nil
      end
    else
      entry[2] = value and header_text(what, name, value) or nil
    end
    into[key] = entry[2] and entry or nil
  end
  return into
end

local function add_all(into, from)
  for name, value in pairs(from) do
    into[name] = value
  end
  return into
end

-- The options of fetch.with, and on top of them those of a call.
function options.merge(defaults, given)
  local merged = add_all(add_all({}, defaults), given)
  if defaults.query and given.query then
    merged.query = add_all(add_all({}, defaults.query), given.query)
  end
  if defaults.headers and given.headers then
    merged.headers = {}
    for name, value in pairs(defaults.headers) do
      merged.headers[tostring(name):lower()] = value
    end
    for name, value in pairs(given.headers) do
      merged.headers[type(name) == "string" and name:lower() or name] = value
    end
  end
  return merged
end

-- A copy of options, so that they stay what they are whatever becomes of the tables that were given.
function options.frozen(given)
  local copy = {}
  for name, value in pairs(given) do
    if type(value) == "table" and (name == "headers" or name == "query") then
      value = add_all({}, value)
      for key, item in pairs(value) do
        value[key] = type(item) == "table" and add_all({}, item) or item
      end
    end
    copy[name] = value
  end
  return copy
end

local function text_of(what, name, value)
  if math.type(value) == "float" and math.tointeger(value) then
    return tostring(math.tointeger(value))
  elseif type(value) == "string" or type(value) == "number" or type(value) == "boolean" then
    return tostring(value)
  end
  refuse('%s: "%s" must be a string, a number or a boolean, or a list of such (got %s)', what, name, type(value))
end

-- Calls found(name, value) in a stable order: by name, and lists as they stand.
local function each_field(what, fields, found)
  local order = {}
  for name in pairs(fields) do
    if type(name) ~= "string" then
      refuse("%s: names are strings (got %s)", what, tostring(name))
    end
    order[#order + 1] = name
  end
  table.sort(order)
  for _, name in ipairs(order) do
    local value = fields[name]
    if type(value) == "table" and #value > 0 then
      for _, item in ipairs(value) do
        found(name, item)
      end
    elseif type(value) ~= "table" or next(value) ~= nil then
      found(name, value)
    end
  end
end

-- A URL without a fragment.
local function with_query(url, query)
  if query == "" then
    return url
  end
  local joint = not url:find("?", 1, true) and "?" or url:find("[?&]$") and "" or "&"
  return url .. joint .. query
end

-- What may stand in an error of a text that was to be a URL: all before an "@" may be a password.
local function without_credentials(text)
  local scheme = text:match("^%a[%w+.-]*:[/\\]+") or text:match("^[/\\]*")
  return scheme .. text:sub(#scheme + 1):gsub("^.*@", ""):gsub("%c", "?")
end

local function take_apart(what, url, base)
  local address, origin, scheme, user, password = core.fetch_url(url, base)
  if not address then
    local hint = not url:find("^%a[%w+.-]*://") and " (a URL begins with http:// or https://, or base_url is set)" or ""
    refuse('%s: "%s" is no URL: %s%s', what, without_credentials(url), origin, hint)
  elseif scheme ~= "http" and scheme ~= "https" then
    refuse("%s: only http and https URLs are fetched (got %s)", what, scheme)
  end
  return { url = address, origin = origin, secure = scheme == "https", user = user, password = password }
end

local known = memo.new(256) -- addresses that need not be taken apart again

-- Not to be changed: others get it too.
function options.known_address(what, url, base)
  if type(url) ~= "string" then
    refuse("%s: expected a URL (got %s)", what, type(url))
  end
  local key = base and base .. "\n" .. url or url
  local address = known[key]
  if not address then
    if url:find("%c") then
      refuse("%s: the URL has a control character in it", what)
    end
    address = take_apart(what, url, base)
    known[key] = address
  end
  return address
end

function options.address(what, url, base)
  return add_all({}, options.known_address(what, url, base))
end

local proxies = { http = true, https = true, socks4 = true, socks4a = true, socks5 = true, socks5h = true }

-- Checked before libcurl does, whose errors would tell its password.
local function check_proxy(what, proxy)
  local scheme, rest = proxy:match("^(%a[%w+.-]*)://(.*)$")
  scheme, rest = scheme and scheme:lower() or "http", rest or proxy
  if not proxies[scheme] then
    refuse("%s: a proxy's URL begins with http, https, socks4, socks4a, socks5 or socks5h (got %s)", what, scheme)
  elseif rest:find("%c") then
    refuse("%s: the URL of the proxy has a control character in it", what)
  end
  local address, problem = core.fetch_url("http://" .. rest)
  if not address then
    refuse('%s: the proxy "%s" is no URL: %s', what, without_credentials(proxy), problem)
  end
end

local part_fields = { file = true, data = true, name = true, type = true }

-- Fields alone are sent as from a form of a web page; with a file among them in parts.
local function plan_form(what, plan, form)
  local parts, files = {}, false
  each_field(what .. ": form", form, function(name, value)
    local part = { name = name }
    if type(value) == "table" then
      for field, text in pairs(value) do
        if not part_fields[field] or type(text) ~= "string" then
          refuse('%s: the file "%s" of the form has the fields file or data, name, type', what, name)
        end
      end
      if (value.file == nil) == (value.data == nil) then
        refuse('%s: the file "%s" of the form has either file (a path) or data', what, name)
      end
      files = true
      part.file, part.data, part.type = value.file, value.data, value.type
      part.filename = value.name or not value.file and name or nil
    else
      part.data = text_of(what .. ": form", name, value)
    end
    for _, text in pairs({ part.name, part.filename or "", part.type or "" }) do
      if text:find("[\r\n\0]") then
        refuse("%s: a name or a type in the form has a line end or a NUL in it", what)
      end
    end
    parts[#parts + 1] = part
  end)
  if files then
    plan.parts = parts
    return
  end
  plan.body = core.fetch_fields(what .. ": form", form):gsub("%%20", "+")
  plan.type = "application/x-www-form-urlencoded"
end

function options.plan_body(what, plan, given)
  if plan.method == "HEAD" and (given.body or given.form) then
    refuse("%s: a HEAD request has no body", what)
  elseif given.body and given.form then
    refuse("%s: body and form cannot both be given", what)
  elseif given.form then
    plan_form(what, plan, given.form)
  elseif type(given.body) == "table" then
    local ok, text = pcall(core.json_encode, given.body)
    if not ok then
      refuse("%s: body: %s", what, tostring(text))
    end
    plan.body, plan.type = text, "application/json"
  elseif given.body then
    plan.body, plan.type = given.body, "text/plain; charset=utf-8"
  elseif plan.method == "POST" or plan.method == "PUT" or plan.method == "PATCH" then
    plan.body = ""
  end
end

local usual = {}
for _, method in ipairs({ "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH" }) do
  usual[method], usual[method:lower()] = method, method
end

function options.method(what, method, body)
  method = method or body and "POST" or "GET"
  local found = usual[method] or usual[method:lower()]
  if found then
    return found
  elseif not method:find("^[%w!#$%%&'*+.^_`|~-]+$") then
    refuse('%s: "%s" is no method', what, (method:gsub("%c", "?")))
  elseif method:upper() == "CONNECT" then
    refuse("%s: CONNECT is the proxy's business (option proxy)", what)
  end
  return method
end

local secrets = { ["authorization"] = true, ["cookie"] = true, ["proxy-authorization"] = true }

-- The headers without those that another server must not see.
function options.without_secrets(headers)
  local public = {}
  for key, entry in pairs(headers) do
    public[key] = not secrets[key] and entry or nil
  end
  return public
end

local function plan_trust(plan, given)
  if given.ca then
    if given.ca:find("-----BEGIN", 1, true) then
      plan.ca_text = given.ca
    else
      local folder = io.open(given.ca .. "/.", "r")
      if folder then
        folder:close()
      end
      plan[folder and "ca_folder" or "ca_file"] = given.ca
    end
  end
  plan.insecure = given.verify == false
end

-- The settings of allua.retry that the option says, or nil.
function options.retry(given)
  return type(given) == "number" and { attempts = given + 1 } or given or nil
end

-- The headers with more of them on top; false takes one away.
function options.headers(what, more, headers)
  return collect_headers(what, more, add_all({}, headers))
end

-- What the options of fetch.with say of all that is asked of a server alike. The headers among them were made for the
-- server of base_url: no secrets of theirs go to another.
function options.plan_for_server(what, plan, given)
  plan.headers = collect_headers(what, given.headers or {}, {})
  if given.headers and given.base_url then
    local own = options.known_address(what, given.base_url)
    if own.origin ~= plan.origin then
      plan.headers = options.without_secrets(plan.headers)
    end
  end
  plan_trust(plan, given)
  plan.connect_timeout = given.connect_timeout or 30
  if given.proxy then
    check_proxy(what, given.proxy)
  end
  plan.proxy = given.proxy == false and "" or given.proxy
  plan.redirects = given.redirects == nil and 20 or given.redirects
  plan.retry = options.retry(given.retry)
  plan.limit = given.max_body or 64 * megabyte
  plan.limit = plan.limit == math.huge and math.maxinteger or plan.limit
  plan.stream_limit = given.max_body and plan.limit or math.maxinteger
  plan.timeout, plan.signal = given.timeout, given.signal
end

function options.url_with_query(what, url, query, default)
  if not query and not default then
    return url
  elseif query and default then
    query = add_all(add_all({}, default), query)
  end
  return with_query(url, core.fetch_fields(what .. ": query", query or default))
end

-- A plan: what to ask whom, and how long to wait. Raises strings.
function options.plan(what, url, given, defaults)
  options.check(what, given)
  local merged = options.merge(defaults, given)
  local plan = options.address(what, url, merged.base_url)
  plan.url = options.url_with_query(what, plan.url, merged.query)
  plan.method = options.method(what, merged.method, merged.body or merged.form)
  merged.headers, merged.base_url = defaults.headers, defaults.base_url
  options.plan_for_server(what, plan, merged)
  plan.headers = options.headers(what, given.headers or {}, plan.headers)
  options.plan_body(what, plan, merged)
  plan.deadline = merged.timeout and allua.now() + merged.timeout
  plan.to, plan.on_progress = merged.to, merged.on_progress
  return plan
end

-- The lines of headers, as libcurl wants them.
function options.lines(plan, headers)
  local lines = { (plan.body or plan.parts) and "Expect:" or nil }
  if plan.body and not headers["content-type"] then
    local kind = plan.body ~= "" and plan.type
    lines[#lines + 1] = kind and "Content-Type: " .. kind or "Content-Type:"
  end
  for _, entry in pairs(headers) do
    for i = 2, #entry do
      -- libcurl's way to send a header that is empty
      lines[#lines + 1] = entry[i]:find("%S") and entry[1] .. ": " .. entry[i] or entry[1] .. ";"
    end
  end
  return lines
end

return options
