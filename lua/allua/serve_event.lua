-- What a handler is given: the request that came, and the means to answer it.
local core = require("allua.core")
local dates = core.load("allua.serve_date")
local files = core.load("allua.serve_files")
local forms = core.load("allua.serve_form")
local memo = core.load("allua.memo")

local WORDS = {
  [200] = "OK",
  [201] = "Created",
  [202] = "Accepted",
  [204] = "No Content",
  [206] = "Partial Content",
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
  [406] = "Not Acceptable",
  [409] = "Conflict",
  [410] = "Gone",
  [412] = "Precondition Failed",
  [413] = "Content Too Large",
  [415] = "Unsupported Media Type",
  [416] = "Range Not Satisfiable",
  [422] = "Unprocessable Content",
  [429] = "Too Many Requests",
  [500] = "Internal Server Error",
  [501] = "Not Implemented",
  [502] = "Bad Gateway",
  [503] = "Service Unavailable",
  [504] = "Gateway Timeout",
}

local type = type

local COOKIE = { "path", "domain", "max_age", "http_only", "secure", "same_site" }
local SAME_SITE = { strict = "Strict", lax = "Lax", none = "None" }
local MOST_STARTS = 256

local function http_error(status, message)
  require("allua.serve").http_error(status, message)
end

-- What an event is made with has no names, which makes it cheaper: the listener, the number of the request, a block
-- with the client's address and the fields of the head, and whether the reply is another than its value alone. Its
-- path and method have, and its target, where that is not the path.
local LISTENER <const>, ID <const>, HEAD <const>, ALTERED <const> = 1, 2, 3, 4

-- What most requests are like; where one is not, its event says so.
local Event = { minor = 1, keep = true, has_body = false }

-- What few handlers look at is made when it is first asked for.
local lazy = {}

function lazy.request(event)
  return event[LISTENER]:request(event[ID])
end

function lazy.headers(event)
  return core.serve_headers(event[HEAD])
end

function lazy.target(event)
  return event.path
end

function lazy.remote(event)
  return core.serve_remote(event[HEAD])
end

function lazy.query(event)
  return forms.pairs_of(event.target:match("%?(.*)$") or "")
end

function lazy.cookies(event)
  local cookies = {}
  for pair in (event.headers.cookie or ""):gmatch("[^;]+") do
    local name, value = pair:match("^%s*([^=%s]+)%s*=(.*)$")
    -- Of two with one name the first is the one for the longer path.
    if name and not cookies[name] then
      local first = value:find("%S")
      value = first and value:match("^.*%S", first) or ""
      cookies[name] = value:match('^"(.*)"$') or value
    end
  end
  return cookies
end

function lazy.context()
  return {}
end

function lazy.params()
  return {}
end

function Event:__index(name)
  local value = Event[name]
  if value == nil and lazy[name] then
    value = lazy[name](self)
    rawset(self, name, value)
  end
  return value
end

function Event:status(code)
  if math.type(code) ~= "integer" or code < 200 or code > 599 then
    error("status: expected an integer from 200 to 599 (got " .. tostring(code) .. ")", 2)
  end
  self.code, self[ALTERED] = code, true
end

function Event:header(name, value)
  value = tostring(value)
  if type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
    error("header: not a name of a header field: " .. ("%q"):format(tostring(name)), 2)
  elseif value:find("[%c\127]") then
    error(('header: the value of "%s" holds a control character'):format(name), 2)
  end
  local lower = name:lower()
  self[ALTERED] = true
  if lower == "content-length" or lower == "transfer-encoding" or lower == "connection" then
    error(('header: "%s" is set by the server'):format(name), 2)
  end
  if lower == "content-type" then
    self.content_type = value
  else
    self.has_date = self.has_date or lower == "date"
    self.sent_headers = (self.sent_headers or "") .. name .. ": " .. value .. "\r\n"
  end
end

function Event:cookie(name, value, options)
  value = tostring(value)
  if not tostring(name):find("^[%w!#$%%&'*+.^_`|~-]+$") or value:find('[%c%s",;\\\127-\255]') then
    error("cookie: the name or the value holds a character that no cookie may hold", 2)
  end
  options = options or {}
  for option, given in pairs(options) do
    if not table.concat(COOKIE, " "):find("%f[%w_]" .. tostring(option) .. "%f[^%w_]") then
      error(('cookie: unknown option "%s"%s'):format(tostring(option), core.near(tostring(option), COOKIE)), 2)
    elseif tostring(given):find("[%c;]") then
      error(('cookie: option "%s" holds a character that it may not hold'):format(option), 2)
    end
  end
  local same_site = SAME_SITE[tostring(options.same_site or "lax"):lower()]
  if not same_site then
    error(('cookie: option "same_site" must be "strict", "lax" or "none" (got "%s")'):format(options.same_site), 2)
  end
  local text = { name .. "=" .. value, "Path=" .. (options.path or "/") }
  if options.domain then
    text[#text + 1] = "Domain=" .. options.domain
  end
  if options.max_age then
    text[#text + 1] = ("Max-Age=%d"):format(math.floor(options.max_age))
  end
  if options.http_only ~= false then
    text[#text + 1] = "HttpOnly"
  end
  if options.secure then
    text[#text + 1] = "Secure"
  end
  text[#text + 1] = "SameSite=" .. same_site
  self:header("Set-Cookie", table.concat(text, "; "))
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
  local ok, value = pcall(core.json_decode, self:body())
  if not ok then
    http_error(400, "the body is not JSON: " .. value)
  end
  return value
end

--- The fields of an HTML form; a file is a table { filename, type, data }, what is repeated a list.
function Event:form()
  local kind = self.headers["content-type"] or "application/x-www-form-urlencoded"
  self.fields = self.fields or forms.read(kind, function()
    return self:body()
  end)
  return self.fields
end

--- The parts of a multipart form as they come, for what is too long to be held in memory.
function Event:parts()
  return forms.parts(self.headers["content-type"], self.read and forms.once(self.read) or self:chunks())
end

-- "HTTP/1.1 200 OK\r\nContent-Type: …\r\n", kept for each status and type. They are few, but for a handler that
-- makes types up.
local starts = memo.new(MOST_STARTS)

local function start_of(code, kind)
  local key = kind and code .. kind or code
  local text = starts[key]
  if not text then
    text = ("HTTP/1.1 %d %s\r\n"):format(code, WORDS[code] or "Status")
    text = kind and text .. "Content-Type: " .. kind .. "\r\n" or text
    starts[key] = text
  end
  return text
end

local dated_at, dated

-- Made once a second.
local function date()
  local now = os.time()
  if now ~= dated_at then
    dated_at, dated = now, "Date: " .. dates.format(now) .. "\r\n"
  end
  return dated
end

local function head(self, framing)
  self.replied = true
  local connection = not self.keep and "Connection: close\r\n" or self.minor == 0 and "Connection: keep-alive\r\n" or ""
  local date_line = self.has_date and "" or date()
  return start_of(self.code or 200, self.content_type)
    .. date_line
    .. framing
    .. connection
    .. (self.sent_headers or "")
    .. "\r\n"
end

function Event:send(kind, body)
  local code = self.code or 200
  local start = start_of(code, self.content_type or kind)
  self[LISTENER]:answer(self[ID], start, body, self.sent_headers, self.has_date, code == 204 or code == 304)
end

function Event:redirect(url, code)
  self:header("Location", url)
  self:status(code or 302)
  return ""
end

--- Answer with a file: its type by its name, ranges and conditions as the client asks for them.
function Event:file(path, options)
  self.sends, self[ALTERED] = files.open(path, options or {}), true
  return self
end

--- Answer by what fn(write) writes; write waits where the client is slow.
function Event:stream(fn)
  self.streams, self[ALTERED] = fn, true
  return self
end

--- Server-sent events: fn(send), with send(data [, name]).
function Event:events(fn)
  self.content_type = "text/event-stream"
  self:header("Cache-Control", "no-store")
  return self:stream(function(write)
    write("") -- the head, so that the client knows that it is connected
    fn(function(data, name)
      data = type(data) == "table" and core.json_encode(data) or tostring(data)
      name = name and "event: " .. tostring(name):gsub("%c", " ") .. "\n" or ""
      write(name .. "data: " .. data:gsub("\r\n?", "\n"):gsub("\n", "\ndata: ") .. "\n\n")
    end)
  end)
end

-- There is no reply, or it broke off. Needs no memory.
local function drop(self)
  self[LISTENER]:drop(self[ID])
end

-- What self.streams writes; `length`: how many bytes that will be, where it is known.
local function run_stream(self, length)
  local request, bare = self.request, self.code == 204 or self.code == 304
  length = bare and 0 or length
  local chunked = not length and self.minor == 1
  self.keep = self.keep and (chunked or length ~= nil)
  self.content_type = self.content_type or "application/octet-stream"
  local framing = bare and ""
    or length and ("Content-Length: %d\r\n"):format(length)
    or chunked and "Transfer-Encoding: chunked\r\n"
    or ""
  local pending, written = head(self, framing), 0
  if bare or self.method == "HEAD" then
    request:write(pending)
    request:finish(self.keep)
    return
  end
  self.streams(function(data)
    if data ~= "" or pending ~= "" then
      written = written + #data
      data = chunked and data ~= "" and ("%x\r\n%s\r\n"):format(#data, data) or data
      local full = request:write(pending .. data)
      pending = ""
      if full then
        request:drain()
      end
    end
  end)
  if length and written ~= length then
    drop(self)
    return
  end
  request:write(pending .. (chunked and "0\r\n\r\n" or ""))
  request:finish(self.keep)
end

-- "<!doctype html>" or "<html>" says that it is HTML.
local function type_of(text)
  local start = text:sub(1, 200):lower()
  return (start:find("^%s*<!doctype html") or start:find("^%s*<html")) and "text/html; charset=utf-8"
    or "text/plain; charset=utf-8"
end

-- `start`: what a reply begins with that is a handler's value alone, a table.
local event = { class = Event, start = start_of(200, "application/json"), drop = drop }

-- Answer with what the handler gave.
function event.reply(self, value)
  local kind = type(value)
  if value == self and self.sends then
    files.send(self, self.sends, run_stream)
  elseif value == self then
    run_stream(self)
  elseif value == core.null then
    self:send("application/json", "null")
  elseif value == nil then
    self.code = self.code or 204
    self:send(nil, "")
  elseif kind == "table" then
    self:send("application/json", value)
  elseif kind == "string" then
    self:send(type_of(value), value)
  else
    error("a handler must return a table, a string or nil (got " .. kind .. ")", 0)
  end
end

return event
