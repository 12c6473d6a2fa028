-- The models of a database: tables with methods, by its schema. They make SQL, and the database runs it.
local core = require("allua.core")
local sql = core.load("allua.db_sql")
local where = core.load("allua.db_where")
local batch = core.load("allua.db_batch")

local Model = {}
Model.__index = Model
Model.__name = "allua.model"

local OPTIONS = {
  find_unique = { "where", "select", "batch" },
  find_first = { "where", "order_by", "skip", "select" },
  find_many = { "where", "order_by", "take", "skip", "select" },
  create = { "data" },
  create_many = { "data" },
  update = { "where", "data" },
  update_many = { "where", "data" },
  upsert = { "where", "create", "update" },
  delete = { "where" },
  delete_many = { "where" },
  count = { "where" },
}

local function refuse(model, method, message)
  error(("db.%s:%s: %s"):format(model.table, method, message), 0)
end

-- Errors of these rooms are raised with no place; the caller's is put before them here.
local function with_place(fn)
  return function(...)
    local results = table.pack(pcall(fn, ...))
    if not results[1] then
      local err = results[2]
      error(err, type(err) == "string" and err:find("^db%.") and 2 or 0)
    end
    return table.unpack(results, 2, results.n)
  end
end

local function check(model, method, options)
  if options ~= nil and type(options) ~= "table" then
    refuse(model, method, "expected a table of options (got " .. type(options) .. ")")
  end
  local known = {}
  for _, name in ipairs(OPTIONS[method]) do
    known[name] = true
  end
  for name in pairs(options or {}) do
    if not known[name] then
      local hint = type(name) == "string" and core.near(name, OPTIONS[method]) or ""
      refuse(model, method, ('unknown option "%s"%s'):format(tostring(name), hint))
    end
  end
  return options or {}
end

local function selected(model, method, select)
  local names = {}
  if select == nil then
    return "*"
  elseif type(select) ~= "table" or #select == 0 then
    refuse(model, method, '"select" must be a list of columns')
  end
  for i, name in ipairs(select) do
    where.check_column(model, name, "select")
    names[i] = sql.quote(name)
  end
  return table.concat(names, ", ")
end

-- { created_at = "desc" }, or a list of those, which says the order of the columns too.
local function ordered(model, method, order_by)
  if order_by == nil then
    return ""
  elseif type(order_by) ~= "table" then
    refuse(model, method, '"order_by" must be a table, { created_at = "desc" }')
  end
  local parts = {}
  for _, one in ipairs(#order_by > 0 and order_by or { order_by }) do
    local name, way = next(one)
    where.check_column(model, name, "order_by")
    if next(one, name) then
      refuse(model, method, '"order_by" with several columns must be a list: { { a = "asc" }, { b = "desc" } }')
    elseif way ~= "asc" and way ~= "desc" then
      refuse(model, method, ('"order_by" of %s must be "asc" or "desc" (got %s)'):format(name, tostring(way)))
    end
    parts[#parts + 1] = sql.quote(name) .. " " .. way:upper()
  end
  return " ORDER BY " .. table.concat(parts, ", ")
end

local function limited(model, method, statement, take, skip)
  for name, value in pairs({ take = take, skip = skip }) do
    if math.type(value) ~= "integer" or value < 0 then
      refuse(model, method, ('"%s" must be an integer of 0 or more (got %s)'):format(name, tostring(value)))
    end
  end
  local text = ""
  if take or skip and model.database.dialect == "sqlite" then
    text = " LIMIT " .. statement.value(take or -1)
  end
  return skip and text .. " OFFSET " .. statement.value(skip) or text
end

local function sorted(data)
  local names = {}
  for name in pairs(data) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local function check_data(model, method, data, what)
  if type(data) ~= "table" then
    refuse(model, method, ('"%s" must be a table of columns (got %s)'):format(what, type(data)))
  end
  for name in pairs(data) do
    where.check_column(model, name, what)
  end
end

-- The columns of a unique key that conditions name, and nothing else.
local function check_unique(model, method, conditions)
  if type(conditions) ~= "table" then
    refuse(model, method, '"where" must name a unique key (got ' .. type(conditions) .. ")")
  end
  for name, value in pairs(conditions) do
    where.check_column(model, name, "where")
    if type(value) == "table" or value == core.null then
      refuse(model, method, ('"where" takes a value for %s, no condition: use find_first'):format(name))
    end
  end
  for _, key in ipairs(model.unique) do
    local all, count = true, 0
    for _, name in ipairs(key) do
      all = all and conditions[name] ~= nil
      count = count + 1
    end
    local given = 0
    for _ in pairs(conditions) do
      given = given + 1
    end
    if all and count == given then
      return key
    end
  end
  local keys = {}
  for i, key in ipairs(model.unique) do
    keys[i] = "{ " .. table.concat(key, ", ") .. " }"
  end
  refuse(
    model,
    method,
    '"where" must name a unique key: ' .. (#keys > 0 and table.concat(keys, ", ") or "there is none")
  )
end

-- ── finding ──

local function find(model, method, options, take)
  local statement = where.statement()
  local columns = selected(model, method, options.select)
  local text = ("SELECT %s FROM %s"):format(columns, sql.quote(model.table))
  text = text .. where.clause(model, statement, options.where) .. ordered(model, method, options.order_by)
  text = text .. limited(model, method, statement, take, options.skip)
  return model.database:query(text, table.unpack(statement.values, 1, statement.count))
end

--- The row with that unique key, or nil. Several asked for in one turn of the loop are one query, unless
--- `batch` is false.
function Model:find_unique(options)
  options = check(self, "find_unique", options)
  local key = check_unique(self, "find_unique", options.where)
  selected(self, "find_unique", options.select)
  local value = options.where[key[1]]
  if options.batch ~= false and #key == 1 and batch.takes(value) then
    return batch.find(self, key[1], value, options.select)
  end
  return find(self, "find_unique", options, 1)[1]
end

--- The first row that fits, or nil.
function Model:find_first(options)
  return find(self, "find_first", check(self, "find_first", options), 1)[1]
end

--- The rows that fit.
function Model:find_many(options)
  options = check(self, "find_many", options)
  return find(self, "find_many", options, options.take)
end

--- How many rows fit.
function Model:count(options)
  options = check(self, "count", options)
  local statement = where.statement()
  local text = "SELECT count(*) AS n FROM " .. sql.quote(self.table) .. where.clause(self, statement, options.where)
  return self.database:one(text, table.unpack(statement.values, 1, statement.count)).n
end

-- ── changing ──

local function insert(model, statement, data)
  local names, places = sorted(data), {}
  if #names == 0 then
    return ("INSERT INTO %s DEFAULT VALUES"):format(sql.quote(model.table))
  end
  for i, name in ipairs(names) do
    places[i] = statement.value(data[name])
    names[i] = sql.quote(name)
  end
  return ("INSERT INTO %s (%s) VALUES (%s)"):format(
    sql.quote(model.table),
    table.concat(names, ", "),
    table.concat(places, ", ")
  )
end

local function assignments(model, method, statement, data)
  local parts = {}
  for i, name in ipairs(sorted(data)) do
    parts[i] = sql.quote(name) .. " = " .. statement.value(data[name])
  end
  if #parts == 0 then
    refuse(model, method, "there is nothing to change")
  end
  return table.concat(parts, ", ")
end

local function run(model, statement, text)
  return model.database:query(text, table.unpack(statement.values, 1, statement.count))
end

--- The row that was made, with what the database put in.
function Model:create(options)
  options = check(self, "create", options)
  check_data(self, "create", options.data, "data")
  local statement = where.statement()
  return run(self, statement, insert(self, statement, options.data) .. " RETURNING *")[1]
end

--- How many rows were made, all or none.
function Model:create_many(options)
  options = check(self, "create_many", options)
  for _, data in ipairs(where.check_list(self, options.data, '"data" of create_many')) do
    check_data(self, "create_many", data, "data")
  end
  self.database:transaction(function(tx)
    for _, data in ipairs(options.data) do
      local statement = where.statement()
      tx:exec(insert(self, statement, data), table.unpack(statement.values, 1, statement.count))
    end
  end)
  return #options.data
end

local function update(model, method, options, returning)
  check_data(model, method, options.data, "data")
  local statement = where.statement()
  local text = ("UPDATE %s SET %s"):format(sql.quote(model.table), assignments(model, method, statement, options.data))
    .. where.clause(model, statement, options.where)
  if returning then
    return run(model, statement, text .. " RETURNING *")[1]
  end
  return (model.database:exec(text, table.unpack(statement.values, 1, statement.count)))
end

--- The changed row, or nil where there is none with that unique key.
function Model:update(options)
  options = check(self, "update", options)
  check_unique(self, "update", options.where)
  return update(self, "update", options, true)
end

--- How many rows were changed.
function Model:update_many(options)
  return update(self, "update_many", check(self, "update_many", options), false)
end

--- The row with that unique key: made of `where` and `create`, or changed by `update`.
function Model:upsert(options)
  options = check(self, "upsert", options)
  local key = check_unique(self, "upsert", options.where)
  check_data(self, "upsert", options.create or {}, "create")
  check_data(self, "upsert", options.update or {}, "update")
  local data = {}
  for _, from in ipairs({ options.create or {}, options.where }) do
    for name, value in pairs(from) do
      data[name] = value
    end
  end
  local statement, names = where.statement(), {}
  local text = insert(self, statement, data)
  for i, name in ipairs(key) do
    names[i] = sql.quote(name)
  end
  -- Where nothing is to be changed, the key is set to itself, so that the row comes back.
  local change = next(options.update or {}) and assignments(self, "upsert", statement, options.update)
    or names[1] .. " = excluded." .. names[1]
  text = ("%s ON CONFLICT (%s) DO UPDATE SET %s RETURNING *"):format(text, table.concat(names, ", "), change)
  return run(self, statement, text)[1]
end

--- The row that was deleted, or nil.
function Model:delete(options)
  options = check(self, "delete", options)
  check_unique(self, "delete", options.where)
  local statement = where.statement()
  local text = "DELETE FROM " .. sql.quote(self.table) .. where.clause(self, statement, options.where)
  return run(self, statement, text .. " RETURNING *")[1]
end

--- How many rows were deleted.
function Model:delete_many(options)
  options = check(self, "delete_many", options)
  local statement = where.statement()
  local text = "DELETE FROM " .. sql.quote(self.table) .. where.clause(self, statement, options.where)
  return (self.database:exec(text, table.unpack(statement.values, 1, statement.count)))
end

for name in pairs(OPTIONS) do
  Model[name] = with_place(Model[name])
end

--- The model of a table of that schema, on a database or a transaction.
return function(database, found)
  local columns, names = {}, {}
  for i, column in ipairs(found.columns) do
    columns[column.name] = column
    names[i] = column.name
  end
  return setmetatable({
    database = database,
    table = found.name,
    columns = columns,
    names = names,
    unique = found.unique,
    asked = {}, -- by column: what is about to be asked for (db_batch)
  }, Model)
end
