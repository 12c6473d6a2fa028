-- What fetch gives: the headers of a reply, the response of fetch.raw, and errors.
local core = require("allua.core")

local response = {}

-- ── headers ──

local entries = {} -- a key that is no header's name

local Headers = {}

-- headers["content-type"]: where it is repeated, its values with commas between.
function Headers.__index(self, name)
  local found
  name = type(name) == "string" and name:lower()
  for _, entry in ipairs(rawget(self, entries)) do
    if entry[1] == name then
      found = found and found .. ", " .. entry[2] or entry[2]
    end
  end
  return found
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
  local list = {}
  local version, reason = head:match("^HTTP/(%S+) %d+ ?([^\r\n]*)")
  for line in head:gsub("^[^\n]*\n", "", 1):gmatch("([^\n]+)") do
    local name, value = line:match("^([^:%s]+)%s*:%s*(.-)%s*$")
    if name then
      list[#list + 1] = { name:lower(), value }
    elseif #list > 0 and line:find("^[ \t]+%S") then
      list[#list][2] = list[#list][2] .. " " .. line:match("^%s*(.-)%s*$")
    end
  end
  return setmetatable({ [entries] = list }, Headers), version, reason
end

-- ── errors ──

local function raise(hop, fields, words)
  fields.name = "FetchError"
  fields.message = ("%s %s: %s"):format(hop.method, hop.url, words)
  fields.method, fields.url = hop.method, hop.url
  error(core.error(fields), 0)
end

function response.fail(hop, code, words)
  raise(hop, { code = code }, words)
end

local function is_json(content_type)
  local kind = content_type and content_type:lower():match("^%s*([^;%s]+)")
  return kind and (kind == "application/json" or kind:find("^[%w.-]+/.*%+json$") ~= nil)
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
  local transfer, hop, progress = self.transfer, self.hop, self.progress
  local function next_chunk()
    local chunk, code, words = transfer:read()
    if code then
      response.fail(hop, code, words)
    elseif chunk and progress then
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
  local status, code, words, body = self.transfer:finish(self.limit)
  if not status then
    response.fail(self.hop, code, words)
  end
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
