-- URLs of databases, whose passwords nobody is to read in a message.
local url = {}

local HIDDEN = "..."

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end))
end

-- What may be a password: all between the user's ":" and the last "@", and parameters.
local function secrets(text)
  local list = { text:match("^%a+://[^:@/?]*:(.*)@") }
  for value in text:gmatch("[?&][%w_]*password=([^&]*)") do
    list[#list + 1] = value
  end
  for i = 1, #list do
    list[#list + 1] = decoded(list[i])
  end
  return list
end

local function replace(text, what, by)
  local parts, at = {}, 1
  while what ~= "" do
    local from, to = text:find(what, at, true)
    if not from then
      break
    end
    parts[#parts + 1] = text:sub(at, from - 1) .. by
    at = to + 1
  end
  return table.concat(parts) .. text:sub(at)
end

--- The URL without its password.
function url.public(text)
  if text:find("^postgres%a*:") and not text:find("^%a+://") then
    return text:match("^%a+:") .. HIDDEN -- it might be anything
  end
  text = text:gsub("^(%a+://[^:@/?]*):.*@", "%1@")
  return (text:gsub("([?&][%w_]*password=)[^&]*", "%1" .. HIDDEN))
end

--- What is told of a URL, without what may be its password.
function url.hide(message, text)
  for _, secret in ipairs(secrets(text)) do
    message = replace(message, '"' .. secret .. '"', '"' .. HIDDEN .. '"')
    message = #secret > 2 and replace(message, secret, HIDDEN) or message -- one letter is in every word
  end
  return message
end

--- What is wrong with a URL of PostgreSQL's in a way that would show its password, or nil.
function url.problem(text)
  local password = text:match("^%a+://[^:@/?]*:(.*)@")
  if not text:find("^%a+://") then
    return 'it is to begin with "postgres://"'
  elseif password and password:find("[/@]") then
    return 'a password has "@" as %40 and "/" as %2F, and so has what follows the host'
  end
end

return url
