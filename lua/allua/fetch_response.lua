-- What fetch gives: the headers of a reply, the response of fetch.raw, and errors.
local allua = require("allua")
local core = require("allua.core")

local response = {}

-- ── headers ──

local entries = {} -- a key that is no header's name

local Headers = {}

-- headers["content-type"]: where it is repeated, its values with commas between.
function Headers.__index(self, name)
  local found = {}
  name = type(name) == "string" and name:lower()
  for _, entry in ipairs(rawget(self, entries)) do
    if entry[1] == name then
      found[#found + 1] = entry[2]
    end
  end
  return found[2] and table.concat(found, ", ") or found[1]
end

-- headers("set-cookie"): each of its values.
function Headers.__call(self, name)
  local values = {}
  for _, entry in ipairs(rawget(self, entries)) do
    if entry[1] == name:lower() then
      values[#values + 1] = entry[2]
    end
  end
  return table.unpack(values)
end

function Headers.__newindex()
  error("the headers of a reply are read-only", 2)
end

-- pairs(headers): name (in lower case), value, in the order in which they came.
function Headers.__pairs(self)
  local list, i = rawget(self, entries), 0
  return function()
    i = i + 1
    if list[i] then
      return list[i][1], list[i][2]
    end
  end
end

-- Reads a head. Gives the headers, the version of HTTP and the reason.
function response.headers(head)
  local list, version, reason = core.fetch_head(head)
  return setmetatable({ [entries] = list }, Headers), version, reason
end

-- ── errors ──

local function raise(hop, fields, words)
  fields.name = "FetchError"
  fields.message = ("%s %s: %s"):format(hop.method, hop.url, words)
  fields.method, fields.url = hop.method, hop.url
  fields.where = core.where():match("^(.*): $")
  error(core.error(fields), 0)
end

-- libcurl's words may hold the URL of a proxy that the environment gives, and its password.
function response.fail(hop, code, words)
  raise(hop, { code = code }, (words:gsub("'[^']*@", "'"):gsub("%S+@", "")))
end

local function is_json(content_type)
  local kind = content_type and content_type:lower():match("^%s*([^;%s]+)")
  return kind and (kind == "application/json" or kind:find("^[%w.-]+/.*%+json$") ~= nil)
end

-- Runs fn until it ends, or the signal is aborted; gives its first value.
function response.under(signal, fn)
  if not signal then
    return (fn())
  end
  return allua.all({ fn }, { signal = signal })[1]
end

-- The body as Lua values where it is JSON, else as it came.
function response.decode(hop, status, head, content_type, body)
  if not is_json(content_type) then
    return body
  elseif body == "" then
    return nil
  end
  local ok, value = pcall(core.json_decode, body)
  if ok then
    return value
  end
  raise(hop, { code = "json", status = status, headers = response.headers(head), data = body }, value)
end

-- Raises for a status that says so.
function response.refused(hop, status, head, content_type, body)
  local headers, _, reason = response.headers(head)
  local ok, data = pcall(response.decode, hop, status, head, content_type, body)
  local words = reason ~= "" and ("%d %s"):format(status, reason) or "status " .. status
  raise(hop, { status = status, headers = headers, data = ok and data or body }, words)
end

-- ── responses ──

local Response = {}
local methods = {}

-- for chunk in response:chunks(): leaving the loop early drops the transfer.
function methods:chunks()
  if rawget(self, "taken") then
    error("the body of this response has been taken already", 2)
  end
  self.taken = true
  local transfer, hop, progress, signal = self.transfer, self.hop, self.progress, self.signal
  local function read()
    local chunk, code, words
    repeat
      chunk, code, words = transfer:read()
    until chunk ~= "" -- which another task has taken in between
    if code then
      response.fail(hop, code, words)
    end
    return chunk
  end
  local function next_chunk()
    local chunk = response.under(signal, read)
    if chunk and progress then
      progress(chunk)
    end
    return chunk
  end
  return next_chunk, nil, nil, transfer
end

-- Drops what has not come yet.
function methods:close()
  self.transfer:close()
end

local lazy = {}

function lazy:body()
  if rawget(self, "taken") then
    error("the body of this response went through chunks()", 3)
  end
  local body = response.under(self.signal, function()
    local status, code, words, all = self.transfer:finish(self.limit)
    if not status then
      response.fail(self.hop, code, words)
    end
    return all
  end)
  if self.progress then
    self.progress(body)
  end
  return body
end

function lazy:data()
  return response.decode(self.hop, self.status, self.head, self.headers["content-type"], self.body)
end

function Response:__index(name)
  if methods[name] then
    return methods[name]
  elseif lazy[name] then
    local value = lazy[name](self)
    rawset(self, name, value)
    return value
  end
end

function Response:__close()
  self.transfer:close()
end

Response.__name = "allua.response"

function Response:__tostring()
  return ("response: %s %s: %d"):format(self.hop.method, self.url, self.status)
end

function response.new(hop, transfer, status, head, limit)
  local headers, version, reason = response.headers(head)
  return setmetatable({
    status = status,
    reason = reason,
    headers = headers,
    url = hop.url,
    http_version = version,
    hop = hop,
    transfer = transfer,
    head = head,
    limit = limit,
  }, Response)
end

return response
