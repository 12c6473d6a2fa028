-- Conditions of models, { age = { gt = 18 }, ["or"] = {…} }, into SQL with numbered parameters.
local core = require("allua.core")
local sql = core.load("allua.db_sql")

local where = {}

local COMPARE = { gt = ">", gte = ">=", lt = "<", lte = "<=", ne = "<>", eq = "=", like = "LIKE" }
local OPERATORS = { "eq", "ne", "gt", "gte", "lt", "lte", "like", "any", "none", "null" }

--- A statement under construction: `part` adds text, `value` a parameter and gives its place.
function where.statement()
  local statement = { values = {}, count = 0 }
  function statement.value(value)
    statement.count = statement.count + 1
    statement.values[statement.count] = value
    return "$" .. statement.count
  end
  return statement
end

--- Raises unless the model has that column; says which is near.
function where.check_column(model, name, what)
  if not model.columns[name] then
    local hint = type(name) == "string" and core.near(name, model.names) or ""
    error(('db.%s: unknown column "%s" in %s%s'):format(model.table, tostring(name), what, hint), 0)
  end
end

--- Raises unless it is a list; `what` names it.
function where.check_list(model, list, what)
  local count = 0
  for _ in pairs(type(list) == "table" and list or { false }) do
    count = count + 1
  end
  if type(list) ~= "table" or count ~= #list then
    error(
      ("db.%s: %s must be a list (got %s)"):format(
        model.table,
        what,
        type(list) == "table" and "a table with other keys than 1, 2, …" or type(list)
      ),
      0
    )
  end
  return list
end

local SIMPLE = { string = true, number = true, boolean = true }

-- PostgreSQL takes a list as one array. SQLite has places for so many values that there are few statements.
local function listed(model, statement, name, operator, list)
  local any, column, array = operator == "any", sql.quote(name), model.database.root.driver.array
  for _, one in ipairs(where.check_list(model, list, ('"%s" of %s'):format(operator, name))) do
    if type(one) == "table" then
      error(('db.%s: "%s" of %s has a table in its list'):format(model.table, operator, name), 0)
    end
    array = (SIMPLE[type(one)] or one == core.null) and array
  end
  if #list == 0 then
    return any and "1 = 0" or "1 = 1"
  elseif array then
    local way = any and "%s = ANY (%s::%s[])" or "%s <> ALL (%s::%s[])"
    return way:format(column, statement.value(array(list)), model.columns[name].base)
  end
  local places, count = {}, 1
  while count < #list do
    count = count * 2
  end
  for i = 1, count do
    places[i] = statement.value(list[math.min(i, #list)])
  end
  return ("%s %s (%s)"):format(column, any and "IN" or "NOT IN", table.concat(places, ", "))
end

local function compare(model, statement, name, operator, value)
  local column = sql.quote(name)
  if operator == "any" or operator == "none" then
    return listed(model, statement, name, operator, value)
  elseif operator == "null" then
    return ("%s IS %sNULL"):format(column, value and "" or "NOT ")
  elseif not COMPARE[operator] then
    local hint = type(operator) == "string" and core.near(operator, OPERATORS) or ""
    error(('db.%s: unknown operator "%s" of %s%s'):format(model.table, tostring(operator), name, hint), 0)
  elseif value == core.null and (operator == "eq" or operator == "ne") then
    return ("%s IS %sNULL"):format(column, operator == "eq" and "" or "NOT ")
  elseif type(value) == "table" then
    error(('db.%s: "%s" of %s is compared with a table'):format(model.table, operator, name), 0)
  end
  return ("%s %s %s"):format(column, COMPARE[operator], statement.value(value))
end

local function sorted(conditions)
  local names = {}
  for name in pairs(conditions) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b)
    return tostring(a) < tostring(b)
  end)
  return names
end

local build

local function each_of(model, statement, list, word, name)
  local parts = {}
  for i, conditions in ipairs(where.check_list(model, list, ('"%s"'):format(name))) do
    parts[i] = "(" .. build(model, statement, conditions) .. ")"
  end
  return #parts > 0 and table.concat(parts, word) or (word == " OR " and "1 = 0" or "1 = 1")
end

function build(model, statement, conditions)
  if type(conditions) ~= "table" then
    error(("db.%s: conditions must be a table (got %s)"):format(model.table, type(conditions)), 0)
  end
  local parts = {}
  for _, name in ipairs(sorted(conditions)) do
    local value = conditions[name]
    if name == "or" then
      parts[#parts + 1] = "(" .. each_of(model, statement, value, " OR ", name) .. ")"
    elseif name == "and" then
      parts[#parts + 1] = "(" .. each_of(model, statement, value, " AND ", name) .. ")"
    elseif name == "not" then
      parts[#parts + 1] = "NOT (" .. build(model, statement, value) .. ")"
    else
      where.check_column(model, name, "where")
      if type(value) == "table" then
        local operators = sorted(value)
        if #operators == 0 then
          error(("db.%s: no operator for %s: { gt = 18 }, say"):format(model.table, name), 0)
        end
        for _, operator in ipairs(operators) do
          parts[#parts + 1] = compare(model, statement, name, operator, value[operator])
        end
      else
        parts[#parts + 1] = compare(model, statement, name, "eq", value)
      end
    end
  end
  return #parts > 0 and table.concat(parts, " AND ") or "1 = 1"
end

--- " WHERE …", or "" where there are no conditions.
function where.clause(model, statement, conditions)
  if conditions == nil or type(conditions) == "table" and next(conditions) == nil then
    return ""
  end
  return " WHERE " .. build(model, statement, conditions)
end

return where
