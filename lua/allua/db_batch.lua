-- Many find_unique of one model in one turn of the loop become one query: the first who asks lets the others
-- ask, then asks for all of them.
local allua = require("allua")
local core = require("allua.core")
local sql = core.load("allua.db_sql")
local told = core.load("allua.db_error")

local batch = {}

local MOST = 512 -- values in one query

-- A name for the place in the list, which is none of the table's columns.
local function key_name(model)
  local name = "allua_key"
  while model.columns[name] do
    name = name .. "_"
  end
  return name
end

-- value → row. With each row comes the place of its value in the list: what is equal is for the database to say
-- (7 and "7"; "Ada" and "ADA", where case does not count).
local function query(model, column, list)
  local key = key_name(model)
  local source, values, count = model.database.root.driver:keys(model.columns[column], list)
  local text = ("SELECT k.column1 AS %s, t.* FROM %s JOIN %s AS t ON t.%s = k.column2"):format(
    key,
    source,
    sql.quote(model.table),
    sql.quote(column)
  )
  local found, meta = {}, nil
  for _, row in ipairs(model.database:query(text, table.unpack(values, 1, count))) do
    if not meta then
      local columns = getmetatable(row).columns
      meta = { columns = table.move(columns, 2, #columns, 1, {}), __name = "allua.row" }
    end
    found[list[row[key]]] = setmetatable(row, meta)
    row[key] = nil
  end
  return found
end

-- Whether it may be one of the values that is wrong, which is not the fault of those who asked for others.
local function blames_a_value(model, err)
  local code = allua.is_error(err, "DbError") and tostring(err.code) or "22"
  return not model.database.connection and code:find("^22")
end

local function ask(model, column, list, asked)
  local ok, found = pcall(query, model, column, list)
  if not ok and allua.is_error(found, "CancelledError") then
    error(found, 0)
  elseif not ok and #list > 1 and blames_a_value(model, found) then
    for _, value in ipairs(list) do
      ask(model, column, { value }, asked)
    end
    return
  end
  for _, value in ipairs(list) do
    if ok then
      asked.found[value] = found[value] or false
    else
      asked.failed[value] = found
    end
  end
end

local function lead(model, column, asked)
  local _ <close> = asked.answered -- where this one fails, the others ask again
  model.asked[column] = asked
  allua.yield() -- all that are ready ask first
  model.asked[column] = nil
  local list = {}
  for value in pairs(asked.wanted) do
    list[#list + 1] = value
  end
  for from = 1, #list, MOST do
    ask(model, column, table.move(list, from, math.min(from + MOST - 1, #list), 1, {}), asked)
  end
  asked.answered:open()
end

-- A row of one's own, with the columns that were asked for.
local function copy(row, select)
  local made, columns = {}, select or getmetatable(row).columns
  for _, name in ipairs(columns) do
    made[name] = row[name]
  end
  return setmetatable(made, { columns = columns, __name = "allua.row" })
end

--- Whether a value may be asked for with others.
function batch.takes(value)
  local kind = math.type(value) or type(value)
  return kind == "integer" or kind == "string" or kind == "boolean" or kind == "float" and value - value == 0
end

--- Waits for the row of `model` whose unique `column` is `value`, or nil.
function batch.find(model, column, value, select)
  local asked, row, err
  repeat
    asked = model.asked[column]
    if asked and not asked.answered:is_open() then
      asked.wanted[value] = true
      asked.answered:wait()
    else
      asked = { answered = core.gate("a batch of queries"), wanted = { [value] = true }, found = {}, failed = {} }
      lead(model, column, asked)
    end
    row, err = asked.found[value], asked.failed[value]
    if err ~= nil then
      error(told.to(err, told.place()), 0)
    end
  until row ~= nil
  return row and copy(row, select) or nil
end

return batch
