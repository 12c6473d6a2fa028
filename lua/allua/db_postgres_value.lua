-- Parameters for PostgreSQL: lists as its arrays, other tables as JSON.
local core = require("allua.core")

local postgres = {}

local function fail(message)
  error(core.error({ name = "DbError", code = "22000", message = message }), 0)
end

local function quoted(text)
  return '"' .. text:gsub('[\\"]', "\\%0") .. '"'
end

local function encode_item(value, form)
  if value == nil or value == core.null then
    return "NULL"
  elseif form == "json array" then
    return quoted(core.json_encode(value))
  elseif type(value) == "table" then
    return postgres.array(value, form)
  elseif type(value) == "boolean" then
    return value and "t" or "f"
  elseif math.type(value) == "float" and (value ~= value or value - value ~= 0) then
    return value ~= value and "NaN" or value > 0 and "Infinity" or "-Infinity"
  elseif form == "bytes array" then
    local bytes = tostring(value):gsub(".", function(byte)
      return ("%02x"):format(byte:byte())
    end)
    return quoted("\\x" .. bytes)
  elseif type(value) == "number" then
    return math.type(value) == "integer" and tostring(value) or ("%.17g"):format(value)
  elseif type(value) == "string" then
    return quoted(value)
  end
  fail("a " .. type(value) .. " cannot be in an array")
end

--- A list as an array whose items are written in that form, see postgres_push_form.
function postgres.array(list, form)
  local parts, count = {}, 0
  for key in pairs(list) do
    if math.type(key) ~= "integer" or key < 1 then
      fail(('an array is a list: it has no "%s"'):format(tostring(key)))
    end
    count = math.max(count, key)
  end
  for i = 1, count do
    parts[i] = encode_item(list[i], form)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- Whether a value among them has to be written in the way of its parameter's type.
function postgres.has_tables(values, count)
  for i = 1, count do
    if type(values[i]) == "table" then
      return true
    end
  end
end

--- The values as they are sent, tables in the forms of their parameters.
function postgres.encode(values, count, forms)
  local made = {}
  for i = 1, count do
    local value = values[i]
    if type(value) ~= "table" then
      made[i] = value
    elseif forms[i] == "json" then
      made[i] = core.json_encode(value)
    elseif forms[i] and forms[i] ~= "" then
      made[i] = postgres.array(value, forms[i])
    else
      fail(("parameter %d is a table, and its type is neither JSON nor an array"):format(i))
    end
  end
  return made
end

return postgres
