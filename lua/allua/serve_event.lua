-- What a handler is given: the request that came, and the means to answer it.
local cjson = require("cjson")

local WORDS = {
  [200] = "OK",
  [201] = "Created",
  [202] = "Accepted",
  [204] = "No Content",
  [301] = "Moved Permanently",
  [302] = "Found",
  [303] = "See Other",
  [304] = "Not Modified",
  [307] = "Temporary Redirect",
  [308] = "Permanent Redirect",
  [400] = "Bad Request",
  [401] = "Unauthorized",
  [403] = "Forbidden",
  [404] = "Not Found",
  [405] = "Method Not Allowed",
  [409] = "Conflict",
  [413] = "Content Too Large",
  [422] = "Unprocessable Content",
  [429] = "Too Many Requests",
  [500] = "Internal Server Error",
  [502] = "Bad Gateway",
  [503] = "Service Unavailable",
}

local Event = {}
Event.__index = Event

local function decoded(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

local function pairs_of(text)
  local fields = {}
  for name, value in text:gmatch("([^&=]+)=?([^&]*)") do
    fields[decoded(name)] = decoded(value)
  end
  return fields
end

function Event:status(code)
  if math.type(code) ~= "integer" or code < 200 or code > 599 then
    error("status: expected an integer from 200 to 599 (got " .. tostring(code) .. ")", 2)
  end
  self.code = code
end

function Event:header(name, value)
  value = tostring(value)
  if type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
    error("header: not a name of a header field: " .. ("%q"):format(tostring(name)), 2)
  elseif value:find("[%c\127]") then
    error(('header: the value of "%s" holds a control character'):format(name), 2)
  end
  local lower = name:lower()
  if lower == "content-length" or lower == "transfer-encoding" or lower == "connection" then
    error(('header: "%s" is set by the server'):format(name), 2)
  end
  if lower == "content-type" then
    self.content_type = value
  else
    self.sent_headers[#self.sent_headers + 1] = name .. ": " .. value .. "\r\n"
  end
end

function Event:cookie(name, value, options)
  value = tostring(value)
  if not tostring(name):find("^[%w!#$%%&'*+.^_`|~-]+$") or value:find('[%c%s",;\\\127-\255]') then
    error("cookie: the name or the value holds a character that no cookie may hold", 2)
  end
  options = options or {}
  local text = { name .. "=" .. value, "Path=" .. (options.path or "/") }
  if options.max_age then
    text[#text + 1] = "Max-Age=" .. options.max_age
  end
  if options.http_only ~= false then
    text[#text + 1] = "HttpOnly"
  end
  if options.secure then
    text[#text + 1] = "Secure"
  end
  text[#text + 1] = "SameSite=" .. (options.same_site or "Lax")
  self:header("Set-Cookie", table.concat(text, "; "):gsub(";;+", ";"))
end

function Event:chunks()
  return function()
    if self.has_body then
      self.request:wait()
      return self.request:take()
    end
  end
end

function Event:body()
  if not self.read then
    local parts = {}
    for chunk in self:chunks() do
      parts[#parts + 1] = chunk
    end
    self.read = table.concat(parts)
  end
  return self.read
end

function Event:json()
  local ok, value = pcall(cjson.decode, self:body())
  if not ok then
    require("allua.serve").http_error(400, "the body is not JSON")
  end
  return value
end

function Event:form()
  return pairs_of(self:body())
end

local function head(self, framing)
  local code = self.code or 200
  self.replied = true
  local kind = self.content_type and "Content-Type: " .. self.content_type .. "\r\n" or ""
  local connection = not self.keep and "Connection: close\r\n" or self.minor == 0 and "Connection: keep-alive\r\n" or ""
  local words = WORDS[code] or "Status"
  return ("HTTP/1.1 %d %s\r\n%s%s%s%s\r\n"):format(
    code,
    words,
    kind,
    framing,
    connection,
    table.concat(self.sent_headers)
  )
end

function Event:send(kind, body)
  local code = self.code or 200
  self.content_type = self.content_type or kind
  local bare = code == 204 or code == 304
  local framing = bare and "" or ("Content-Length: %d\r\n"):format(#body)
  local text = head(self, framing)
  self.request:write((bare or self.method == "HEAD") and text or text .. body)
  self.request:finish(self.keep)
end

function Event:redirect(url, code)
  self:header("Location", url)
  self:status(code or 302)
  return ""
end

--- Answer by what fn(write) writes; write waits where the client is slow.
function Event:stream(fn)
  self.streams = fn
  return self
end

--- Server-sent events: fn(send), with send(data [, name]).
function Event:events(fn)
  self.content_type = "text/event-stream"
  self:header("Cache-Control", "no-store")
  return self:stream(function(write)
    fn(function(data, name)
      data = type(data) == "table" and cjson.encode(data) or tostring(data)
      name = name and "event: " .. tostring(name):gsub("%c", " ") .. "\n" or ""
      write(name .. "data: " .. data:gsub("\r\n?", "\n"):gsub("\n", "\ndata: ") .. "\n\n")
    end)
  end)
end

local function run_stream(self)
  local request, chunked = self.request, self.minor == 1
  self.keep = self.keep and chunked
  self.content_type = self.content_type or "application/octet-stream"
  local pending = head(self, chunked and "Transfer-Encoding: chunked\r\n" or "")
  if self.method == "HEAD" then
    request:write(pending)
    request:finish(self.keep)
    return
  end
  self.streams(function(data)
    if data ~= "" then
      data = chunked and ("%x\r\n%s\r\n"):format(#data, data) or data
      local full = request:write(pending .. data)
      pending = ""
      if full then
        request:drain()
      end
    end
  end)
  request:write(pending .. (chunked and "0\r\n\r\n" or ""))
  request:finish(self.keep)
end

function Event:reply(value)
  if value == self then
    run_stream(self)
  elseif value == nil then
    self.code = self.code or 204
    self:send(nil, "")
  elseif type(value) == "table" then
    self:send("application/json", cjson.encode(value))
  elseif type(value) == "string" then
    self:send("text/plain; charset=utf-8", value)
  else
    error("a handler must return a table, a string or nil (got " .. type(value) .. ")", 0)
  end
end

return function(request, method, target, fields, minor, remote, keep, has_body)
  target = target:gsub("^%a+://[^/?]*", "")
  local path, query = target:match("^([^?]*)%??(.*)$")
  local headers, cookies = {}, {}
  for i = 1, #fields, 2 do
    local name = fields[i]
    headers[name] = headers[name] and headers[name] .. (name == "cookie" and "; " or ", ") .. fields[i + 1]
      or fields[i + 1]
  end
  for name, value in (headers.cookie or ""):gmatch("([^=;%s]+)=([^;]*)") do
    cookies[name] = value
  end
  return setmetatable({
    request = request,
    method = method,
    path = path == "" and "/" or path,
    query = pairs_of(query),
    headers = headers,
    cookies = cookies,
    remote = remote,
    context = {},
    params = {},
    minor = minor,
    keep = keep,
    has_body = has_body,
    sent_headers = {},
  }, Event)
end
