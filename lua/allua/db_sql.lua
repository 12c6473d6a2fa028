-- The text of SQL: where its parameters stand, and how names are quoted.
local core = require("allua.core")

local sql = {}

local MOST = 500 -- texts that are kept
local LONGEST = 20000 -- of them, in bytes
local known, count = { sqlite = {}, postgres = {} }, 0

--- SQL → what C knows of it (core.sqlite_text): of SQLite's statements that are known and neither change the schema nor
--- are about transactions.
sql.texts = {}

local MARK = { sqlite = "?", postgres = "$" } -- before the number of a parameter

-- Where the comment that begins at `at` ends; PostgreSQL's stand in each other.
local function skip_comment(text, at, dialect)
  if dialect == "sqlite" then
    local _, close = text:find("*/", at + 2, true)
    return close or #text
  end
  local depth = 0
  while true do
    local found = text:find("[/*][/*]", at)
    if not found then
      return #text
    end
    local two = text:sub(found, found + 1)
    at = found + ((two == "/*" or two == "*/") and 2 or 1)
    depth = depth + (two == "/*" and 1 or two == "*/" and -1 or 0)
    if depth == 0 then
      return at - 1
    end
  end
end

-- E'it\'s': a string of PostgreSQL's in which a backslash escapes.
local function skip_escapes(text, at)
  while true do
    local found = text:find("['\\]", at)
    if not found then
      return #text
    elseif text:sub(found, found) == "\\" or text:sub(found, found + 1) == "''" then
      at = found + 2
    else
      return found
    end
  end
end

-- Where a string, a quoted name or a comment that begins at `at` ends; nil: none begins there.
local function skip(text, at, dialect)
  local two = text:sub(at, at + 1)
  local one = two:sub(1, 1)
  local postgres = dialect == "postgres"
  if postgres and one == "'" and text:find("^[eE]'", at - 1) and not text:find("^[%w_$]", at - 2) then
    return skip_escapes(text, at + 1)
  elseif one == "'" or one == '"' or one == "`" and not postgres then
    local from = at + 1
    while true do
      local close = text:find(one, from, true)
      if not close then
        return #text
      elseif text:sub(close + 1, close + 1) ~= one then
        return close
      end
      from = close + 2
    end
  elseif one == "[" and not postgres then
    return text:find("]", at, true) or #text
  elseif one == "$" and postgres then
    local tag = text:match("^$[%a_\128-\255]?[%w_\128-\255]*%$", at)
    if tag and not text:find("^%d", at + 1) and not text:find("^[%w_$]", at - 1) then
      local _, close = text:find(tag, at + #tag, true)
      return close or #text
    end
  elseif two == "--" then
    return text:find("\n", at, true) or #text
  elseif two == "/*" then
    return skip_comment(text, at, dialect)
  end
end

-- The statement's first word, in small letters, behind comments and parentheses: "" where there is none.
local function first_word(text, dialect)
  local at = 1
  while true do
    at = text:find("[^%s;(]", at)
    local close = at and text:find("^[-/]", at) and skip(text, at, dialect)
    if not close then
      return at and (text:match("^%a+", at) or ""):lower() or ""
    end
    at = close + 1
  end
end

local CHANGES_SCHEMA = { create = true, alter = true, drop = true, [""] = true }
local TRANSACTIONS = {
  begin = true,
  start = true,
  commit = true,
  ["end"] = true,
  rollback = true,
  abort = true,
  savepoint = true,
  release = true,
}
local READS = { select = true, explain = true, values = true }
local WRITES = { "insert", "update", "delete", "replace", "merge" }

-- Whether it only reads, as far as the words tell.
local function reads(word, text)
  if word ~= "with" then
    return READS[word] or false
  end
  local lower = text:lower()
  for _, write in ipairs(WRITES) do
    if lower:find("%f[%w_]" .. write .. "%f[^%w_]") then
      return false
    end
  end
  return true
end

local function scan(text, dialect)
  local parts, names, numbers, plain = {}, {}, 0, 0
  local at, from = 1, 1
  local postgres, mark = dialect == "postgres", MARK[dialect]
  while true do
    at = text:find("['\"`%[%-/?:$@]", at)
    if not at then
      break
    end
    local close = skip(text, at, dialect)
    local before = at > 1 and text:sub(at - 1, at - 1) or ""
    local name = not close and text:match(postgres and "^:([%a_][%w_]*)" or "^[:@]([%a_][%w_]*)", at)
    local number = not close and not before:find("[%w_$]") and text:match(postgres and "^$(%d+)" or "^[$?](%d+)", at)
    if close then
      at = close + 1
    elseif name and before ~= ":" then
      if not names[name] then
        names[#names + 1] = name
        names[name] = #names
      end
      parts[#parts + 1] = text:sub(from, at - 1) .. mark .. names[name]
      at = at + #name + 1
      from = at
    elseif number then
      numbers = math.max(numbers, math.tointeger(number) or math.huge)
      parts[#parts + 1] = text:sub(from, at - 1) .. mark .. number
      at = at + #number + 1
      from = at
    else
      plain = plain + ((text:sub(at, at) == "?" and not postgres) and 1 or 0)
      at = at + 1
    end
  end
  parts[#parts + 1] = text:sub(from)
  local kinds = (#names > 0 and 1 or 0) + (numbers > 0 and 1 or 0) + (plain > 0 and 1 or 0)
  if kinds > 1 then
    return nil, "parameters of one kind only: $1, " .. (postgres and "or :name" or "? or :name")
  end
  local word = first_word(text, dialect)
  return {
    text = table.concat(parts),
    changes_schema = CHANGES_SCHEMA[word] or false,
    of_transactions = TRANSACTIONS[word] or word == "prepare" and text:lower():find("prepare%s+transaction") ~= nil,
    reads = reads(word, text),
    names = #names > 0 and names,
    count = math.max(numbers, plain),
  }
end

-- Where the statement that begins at `at` ends, and its text without strings, names and comments, in small letters.
local function statement(text, at, dialect)
  local parts, from = {}, at
  while true do
    local found = text:find("['\"`%[%-/$;]", at)
    local close = found and skip(text, found, dialect)
    if not found or text:sub(found, found) == ";" then
      parts[#parts + 1] = text:sub(from, (found or 0) - 1)
      return found or #text, table.concat(parts, " "):lower()
    elseif close then
      parts[#parts + 1] = text:sub(from, found - 1)
      from = close + 1
    end
    at = (close or found) + 1
  end
end

-- Whether statements of a trigger's, or of a function's, follow, up to END.
local function opens_body(bare, dialect)
  if dialect == "sqlite" then
    return bare:find("^create%s+trigger%f[^%w_]") or bare:find("^create%s+temp%a*%s+trigger%f[^%w_]")
  end
  local atomic = bare:find("^create%s") and bare:match("%f[%w_]begin%s+atomic%f[^%w_](.*)")
  return atomic and not atomic:find("^%s*end%s*$")
end

local function ends_transaction(word, bare)
  if word == "prepare" then
    return bare:find("^prepare%s+transaction%f[^%w_]")
  elseif word == "rollback" then -- but not to a savepoint
    return not bare:find("^rollback%s+to%f[^%w_]") and not bare:find("^rollback%s+%a+%s+to%f[^%w_]")
  end
  return TRANSACTIONS[word] and word ~= "savepoint" and word ~= "release"
end

--- The first of many statements that begins or ends a transaction, by its word, and its line; or nil. Not what is about
--- savepoints.
function sql.find_transaction(text, dialect)
  local at, inside = 1, false
  while true do
    at = text:find("[^%s;]", at)
    if not at then
      return nil
    end
    local close = text:find("^[-/]", at) and skip(text, at, dialect)
    if not close then
      local bare
      close, bare = statement(text, at, dialect)
      local word = bare:match("^%a+") or ""
      if inside then
        inside = word ~= "end"
      elseif ends_transaction(word, bare) then
        return word:upper(), select(2, text:sub(1, at):gsub("\n", "")) + 1
      else
        inside = opens_body(bare, dialect)
      end
    end
    at = close + 1
  end
end

-- How much of a number that begins at `at`; nil: none does.
local function number(text, at)
  if at > 1 and text:find("^[%w_$?:@\128-\255]", at - 1) then
    return nil
  end
  local digits = text:match("^[%w_.]+", at)
  if digits:find("^[%d.]+[eE]$") then
    digits = digits .. (text:match("^[-+]%d+", at + #digits) or "")
  end
  return digits
end

--- The statement without its values and comments, to be seen by others: a `?` stands for each. Where it cannot be told
--- what is a value, what follows is left out.
function sql.shown(text, dialect)
  local out, from, at = {}, 1, 1
  while true do
    at = text:find("['\"`%[%-/$%d]", at)
    if not at then
      out[#out + 1] = text:sub(from)
      return table.concat(out)
    end
    local one, close = text:sub(at, at), skip(text, at, dialect)
    local piece = close and text:sub(at, close)
    local digits = one:find("%d") and number(text, at)
    if
      piece
      and one == "'"
      and dialect == "postgres"
      and piece:find("\\", 1, true)
      and not text:find("^[eE]", at - 1)
    then
      -- Depends on a setting of the server's.
      out[#out + 1] = text:sub(from, at - 1) .. "? …"
      return table.concat(out)
    elseif piece and (one == "-" or one == "/") then
      out[#out + 1] = text:sub(from, at - 1) .. " "
      at, from = close + 1, close + 1
    elseif
      piece and (one == "'" or one == "$" or dialect == "sqlite" and one == '"' and not piece:find('^"[%a_][%w_]*"$'))
    then
      out[#out + 1] = text:sub(from, at - 1) .. "?"
      at, from = close + 1, close + 1
    elseif digits then
      out[#out + 1] = text:sub(from, at - 1) .. "?"
      at = at + #digits
      from = at
    else
      at = close and close + 1 or text:match("^[%w_]+()", at) or at + 1
    end
  end
end

local function forget()
  known, count = { sqlite = {}, postgres = {} }, 0
  for text in pairs(sql.texts) do
    sql.texts[text] = nil
  end
end

local function keep(text, dialect, found)
  if count == MOST then
    forget()
  end
  known[dialect][text], count = found, count + 1
  if dialect == "sqlite" and not found.changes_schema and not found.of_transactions then
    sql.texts[text] = core.sqlite_text(found.text, found.reads, found.names or found.count)
  end
end

--- What is sent, with numbered parameters: { text, names (a list, or false), count, reads, changes_schema,
--- of_transactions }. Kept for the next time.
function sql.prepared(text, dialect)
  local found = known[dialect][text]
  if not found then
    local problem
    found, problem = scan(text, dialect)
    if not found then
      return nil, problem
    end
    if #text <= LONGEST then
      keep(text, dialect, found)
    end
  end
  return found
end

--- The values in the order of the parameters, and how many, of a list of what was given; or nil, and what is wrong.
function sql.values(prepared, list, given)
  local names = prepared.names
  if not names then
    if given ~= prepared.count then
      return nil,
        ("the statement wants %d parameter%s (got %d)"):format(prepared.count, prepared.count == 1 and "" or "s", given)
    end
    return list, given
  end
  local values = list[1]
  if given ~= 1 or type(values) ~= "table" then
    return nil, "the statement wants its parameters by name, in one table"
  end
  local ordered = {}
  for i, name in ipairs(names) do
    ordered[i] = values[name]
  end
  for name in pairs(values) do
    if not names[name] then
      return nil, ('the statement has no parameter "%s"'):format(tostring(name)), name
    end
  end
  return ordered, #names
end

--- A name as SQL takes any: quoted.
function sql.quote(name)
  if type(name) ~= "string" or name == "" or name:find("\0", 1, true) then
    error("db: not a name of a table or a column: " .. ("%q"):format(tostring(name)), 2)
  end
  return '"' .. name:gsub('"', '""') .. '"'
end

return sql
