-- What forms and queries hold: names and values, in either of the two ways that browsers send them.
local allua = require("allua")
local core = require("allua.core")
local output = core.load("allua.serve_output")

local PARTS = 1000 -- of a form; more are refused

local forms = {}

local function decoded(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

-- What comes more than once is a list.
local function add(fields, repeated, name, value)
  if fields[name] == nil then
    fields[name] = value
  elseif repeated[name] then
    table.insert(fields[name], value)
  else
    fields[name], repeated[name] = { fields[name], value }, true
  end
end

function forms.pairs_of(text)
  local fields, repeated = {}, {}
  for pair in text:gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    add(fields, repeated, decoded(name), decoded(value))
  end
  return fields
end

-- The text in quotes that begins there, and where it ends. A backslash hides a quote and itself; elsewhere it is
-- one of a path.
local function quoted(value, at)
  local text = {}
  while true do
    local plain, special = value:match('^([^"\\]*)(["\\])', at)
    if not plain then
      return nil
    end
    at = at + #plain + 1
    text[#text + 1] = plain
    if special == '"' then
      return table.concat(text), at
    end
    local hidden = value:match('^["\\]', at)
    text[#text + 1] = hidden or special
    at = at + (hidden and 1 or 0)
  end
end

-- A parameter of a header's value: plain, or quoted, with what browsers put for a quote and a line break.
local function parameter(value, name)
  local at = value:find(";", 1, true)
  while at do
    local key, begin = value:match('^;%s*([^%s=;"]+)=()', at)
    local text, after
    if not key then
      after = at + 1
    elseif value:sub(begin, begin) == '"' then
      text, after = quoted(value, begin + 1)
      text = text and text:gsub("%%22", '"'):gsub("%%0[Dd]", "\r"):gsub("%%0[Aa]", "\n")
    else
      text, after = value:match('^([^%s;"]+)()', begin)
    end
    if text and key:lower() == name then
      return text
    end
    at = after and value:find(";", after, true)
  end
end

local function header(head, name)
  for line in head:gmatch("[^\r\n]+") do
    local field, value = line:match("^([^:]+):[ \t]*(.*)$")
    if field and field:lower() == name then
      return value
    end
  end
end

-- A part of a multipart form: name, filename, type, head, and the bytes that have not been read yet.
local Part = {}
Part.__index = Part

--- The bytes, as they come: `for chunk in part:chunks() do`.
function Part:chunks()
  return function()
    local reader = self.reader
    if reader.part == self then
      return reader:data()
    end
  end
end

--- All bytes that have not been read yet.
function Part:body()
  local pieces = {}
  for chunk in self:chunks() do
    pieces[#pieces + 1] = chunk
  end
  return table.concat(pieces)
end

--- Write them to a file; returns how many there were. What is there already is replaced.
function Part:save(path)
  local file, total = output.open(path), 0
  local closing <close> = file -- luacheck: ignore
  for chunk in self:chunks() do
    file:write(chunk)
    total = total + #chunk
  end
  file:finish()
  return total
end

-- What comes from `chunks`, taken apart.
local Reader = {}
Reader.__index = Reader

local function refuse(status, reason)
  allua.http_error(status, "multipart: " .. reason)
end

-- "head" or "data" and its bytes, or nothing at the end of the body.
function Reader:next()
  while true do
    if not self.chunk then
      self.chunk, self.at = self.source(), 1
      if not self.chunk then
        if not self.parser:is_whole() then
          refuse(400, "the body ends too early")
        end
        return nil
      end
    end
    local at, kind, what, reason = self.parser:run(self.chunk, self.at)
    self.at = at
    if kind == "refused" then
      refuse(what, reason)
    elseif not kind then
      self.chunk = nil
    elseif kind ~= "end" then
      return kind, what
    end
  end
end

-- Bytes of the part that is being read, or nil at its end.
function Reader:data()
  if not self.head then
    local kind, what = self:next()
    if kind == "data" then
      return what
    end
    self.head, self.over = what, not what
  end
end

function Reader:next_part()
  repeat
    local data = self:data()
  until not data
  local head = self.head
  self.head, self.part = nil, nil
  if self.over then
    return nil
  end
  local disposition = header(head, "content-disposition") or ""
  local name = disposition:find("^form%-data%s*;") and parameter(disposition, "name")
  if not name then
    refuse(400, "a part without a name")
  end
  self.part = setmetatable({
    name = name,
    filename = parameter(disposition, "filename"),
    type = header(head, "content-type") or "text/plain",
    reader = self,
  }, Part)
  return self.part
end

local function type_of(kind)
  return (kind or ""):lower():match("^%s*([^;%s]*)")
end

local function refuse_type(kind)
  allua.http_error(415, ("a form was expected, not %s"):format(type_of(kind)))
end

--- An iterator over the parts of a multipart form; `source` gives the next bytes of the body, or nil.
function forms.parts(kind, source)
  if type_of(kind) ~= "multipart/form-data" then
    refuse_type(kind)
  end
  local boundary = parameter(kind, "boundary")
  if not boundary or #boundary == 0 or #boundary > 70 or boundary:find("%c") then
    refuse(400, "no boundary of 1 to 70 characters")
  end
  local reader = setmetatable({ parser = core.multipart(boundary, PARTS), source = source }, Reader)
  return function()
    return not reader.over and reader:next_part() or nil
  end
end

--- A source that gives a text, and then no more.
function forms.once(text)
  return function()
    local given = text
    text = nil
    return given
  end
end

--- The fields of a form: what is repeated as a list, a file as a table. `body` is called where the type is one
--- of ours.
function forms.read(kind, body)
  local plain = type_of(kind)
  if plain == "application/x-www-form-urlencoded" then
    return forms.pairs_of(body())
  elseif plain ~= "multipart/form-data" then
    refuse_type(kind)
  end
  local fields, repeated = {}, {}
  for part in forms.parts(kind, forms.once(body())) do
    local value = part:body()
    if part.filename then
      value = { filename = part.filename, type = part.type, data = value }
    end
    add(fields, repeated, part.name, value)
  end
  return fields
end

return forms
