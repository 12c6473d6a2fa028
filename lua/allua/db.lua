-- allua.db: databases, whose queries suspend the task that asks and nothing else.
local allua = require("allua")
local core = require("allua.core")
local text = core.load("allua.db_sql")
local model_of = core.load("allua.db_model")
local transaction = core.load("allua.db_transaction")
local migrate = core.load("allua.db_migrate")
local address = core.load("allua.db_url")
local told = core.load("allua.db_error")

local DRIVERS = { sqlite = "allua.db_sqlite", postgres = "allua.db_postgres", postgresql = "allua.db_postgres" }
local OPTIONS = {
  sqlite = { readers = "count", busy = "seconds" },
  postgres = { connections = "count", connect_timeout = "seconds", reconnect = "seconds" },
}
OPTIONS.postgresql = OPTIONS.postgres
local BATCH = 256 -- rows that each() has fetched ahead at most

local db = { blob = core.db_blob }

local MISUSE = { sqlite = 21, postgres = "42601" }

local function misuse(dialect, message, statement)
  told.explain(core.error({ name = "DbError", code = MISUSE[dialect], message = message }), statement, told.place())
end

-- The text and the values that are sent, of a list of what was given.
local function prepare(dialect, statement, list, given)
  if type(statement) ~= "string" then
    error("db: expected SQL, a string (got " .. type(statement) .. ")", 3)
  end
  local prepared, problem = text.prepared(statement, dialect)
  if not prepared then
    misuse(dialect, problem, statement)
  end
  local values, count, name = text.values(prepared, list, given)
  if not values then
    misuse(dialect, count .. (name and core.near(tostring(name), prepared.names) or ""), statement)
  end
  return prepared, values, count
end

-- ── what a database and a transaction have in common ──

local Methods = {}

local function send(self, mode, sent, values, count)
  if not self.connection then
    return self.driver:run(mode, sent, values, count)
  elseif self.over then
    error("db: this transaction is over", 0)
  end
  return self.connection:run(sent, values, count)
end

-- Calls fn(...) protected, on the trace where there is one.
local function traced(self, statement, fn, ...)
  if not core.tracing then
    return pcall(fn, ...)
  end
  local seen = { sql = text.shown(statement, self.dialect) }
  return pcall(core.load("allua.trace").operation, "io", "sql", seen, fn, ...)
end

-- The models are made anew where the tables may be others.
local function forget_models(self)
  local root = self.root
  root.tables, root.models, self.models = false, {}, {}
  self.changed_schema = true
end

local function finish(self, statement, prepared, ok, ...)
  if not ok then
    told.explain((...), statement, told.place())
  elseif prepared.changes_schema then
    forget_models(self)
  end
  return ...
end

local function run(self, mode, statement, ...)
  local prepared, values, count = prepare(self.dialect, statement, { ... }, select("#", ...))
  local sent = prepared.text
  if prepared.of_transactions then
    misuse(self.dialect, "transactions begin and end by db:transaction(fn), not by SQL", statement)
  end
  mode = mode or prepared.reads and "read" or "write"
  if core.tracing or self.connection then
    return finish(self, statement, prepared, traced(self, statement, send, self, mode, sent, values, count))
  end
  local driver = self.driver
  return finish(self, statement, prepared, pcall(driver.run, driver, mode, sent, values, count))
end

--- Rows, a list of tables. NULL is nil; db.columns(row) tells which columns there are.
function Methods:query(statement, ...)
  return (run(self, nil, statement, ...))
end

--- The first row, or nil.
function Methods:one(statement, ...)
  return run(self, nil, statement, ...)[1]
end

--- How many rows were changed, and the id of the last that was inserted.
function Methods:exec(statement, ...)
  local _, _, changes, last_id = run(self, "write", statement, ...)
  return changes, last_id
end

--- Its tables: name → { name, columns, primary, unique }.
function Methods:schema()
  local tables = {}
  self.root.driver:schema(function(statement)
    return Methods.query(self, statement)
  end, function(name, column)
    tables[name] = tables[name] or { name = name, columns = {}, primary = {}, unique = {} }
    table.insert(tables[name].columns, column)
  end, function(name, columns, is_primary)
    table.insert(tables[name].unique, columns)
    if is_primary then
      tables[name].primary = columns
    end
  end)
  return tables
end

-- Many tasks may want a model before there is one: one of them reads the schema, the others wait for it.
local function load_tables(self)
  local root = self.root
  while root.loading and not root.loading:is_open() and not self.connection do
    root.loading:wait()
    if root.tables then
      return root.tables
    end
  end
  local loading <close> = core.gate("the tables of a database")
  root.loading = loading
  root.tables = Methods.schema(self)
  loading:open()
  return root.tables
end

--- The model of a table, whatever its name; database.NAME is the same, but for the names of methods.
function Methods:model(name)
  local model = self.models[name]
  if model then
    return model
  end
  local tables = self.root.tables
  if not tables or not tables[name] then
    tables = load_tables(self)
  end
  if self.models[name] then -- made by another task meanwhile
    return self.models[name]
  elseif not tables[name] then
    local names = {}
    for known in pairs(tables) do
      names[#names + 1] = known
    end
    for known in pairs(Methods) do
      names[#names + 1] = known ~= name and known or nil
    end
    local hint = type(name) == "string" and core.near(name, names) or ""
    error(('db: there is no table or method "%s"%s'):format(tostring(name), hint), 3)
  end
  model = model_of(self, tables[name])
  self.models[name] = model
  return model
end

--- for row in database:each(sql, ...) do: fetched as they are needed. Leaving the loop early ends the query.
function Methods:each(statement, ...)
  local where = told.place()
  local prepared, values, count = prepare(self.dialect, statement, { ... }, select("#", ...))
  if self.connection and self.over then
    error("db: this transaction is over", 2)
  end
  local lease, connection, cursor, rows, at, ended = nil, nil, nil, {}, 0, false
  local started = false -- else it is not known what is under way
  local function give_back()
    local stopped = connection and pcall(allua.shield, connection.stop, connection, cursor)
    connection = nil
    if lease then
      lease:close(started and stopped)
    end
  end
  local function connect()
    if self.connection then
      return self.connection
    end
    lease = self.driver:lease(prepared.reads and "read" or "write")
    return self.driver:take(lease)
  end
  local function next_row()
    at = at + 1
    if rows[at] == nil and not ended then
      local ok, more, over
      if connection then
        ok, more, over = traced(self, statement, connection.fetch, connection, BATCH, cursor)
      else
        connection = connect()
        local start, sent = connection.start, prepared.text
        ok, more, over, cursor = traced(self, statement, start, connection, sent, values, count, BATCH)
        started = ok
      end
      if not ok then
        told.explain(more, statement, where)
      end
      rows, at, ended = more, 1, over
    end
    if rows[at] == nil then
      give_back()
    end
    return rows[at]
  end
  return next_row, nil, nil, setmetatable({}, { __close = give_back })
end

-- ── the usual statements ──

local usual = core.sqlite_methods(text.texts, function(err, statement)
  told.explain(err, statement, told.place())
end, Methods)

-- Those stand in the object itself, where they are found at once. SQLite's do what is usual in C: on what they find
-- beside them, at 1 to read and at 2 to write. Being C, they keep the line of a call that is the last of its function.
local function make_usual(self, reads_on, writes_on)
  for name, method in pairs(usual) do
    rawset(self, name, method)
  end
  rawset(self, 1, reads_on)
  rawset(self, 2, writes_on)
end

local Transaction = {}

local function new_transaction(self, connection, depth)
  local tx = setmetatable({
    root = self.root,
    dialect = self.dialect,
    connection = connection,
    depth = depth,
    over = false,
    spoiled = false, -- by an error in a savepoint that could not be undone
    changed_schema = false,
    models = {},
  }, Transaction)
  make_usual(tx, connection, connection)
  return tx
end

--- Runs fn(tx) and gives its values: committed when it returns, rolled back when it raises or is cancelled.
--- Inside a transaction: a savepoint.
function Methods:transaction(fn, options)
  local tx
  transaction.check(self, fn, options)
  local results = table.pack(pcall(transaction.run, self, fn, options or {}, function(...)
    tx = new_transaction(...)
    return tx
  end))
  if tx and tx.changed_schema then -- and that may be undone
    forget_models(self)
  end
  if not results[1] then
    error(results[2], 0)
  end
  return table.unpack(results, 2, results.n)
end

Transaction.__index = function(self, name)
  return Methods[name] or Methods.model(self, name)
end
Transaction.__name = "allua.transaction"

-- ── databases ──

local Database = {}
Database.__name = "allua.database"

function Database:__index(name)
  return Methods[name] or Database[name] or Methods.model(self, name)
end

--- Runs the numbered SQL files of a folder (001_users.sql), each once and in a transaction. Gives how many ran.
function Database:migrate(folder)
  if type(folder) ~= "string" then
    error("db: migrate expects a folder (got " .. type(folder) .. ")", 2)
  end
  local ok, result = pcall(migrate, self, folder)
  forget_models(self)
  if not ok then
    error(result, 0)
  end
  return result
end

function Database:close()
  self.driver:close()
end

Database.__close = Database.close

-- ── the module ──

local function check(options, known)
  if type(options) ~= "table" then
    error("db.open: expected a table of options (got " .. type(options) .. ")", 3)
  end
  for name, value in pairs(options) do
    if not known[name] then
      local names = {}
      for other in pairs(known) do
        names[#names + 1] = other
      end
      local hint = type(name) == "string" and core.near(name, names) or ""
      error(('db.open: unknown option "%s"%s'):format(tostring(name), hint), 3)
    elseif known[name] == "count" and not (math.type(value) == "integer" and value > 0) then
      error(('db.open: "%s" must be an integer of 1 or more (got %s)'):format(name, tostring(value)), 3)
    elseif known[name] == "seconds" and not (type(value) == "number" and value >= 0) then
      error(('db.open: "%s" must be seconds, 0 or more (got %s)'):format(name, tostring(value)), 3)
    end
  end
end

--- db.open "sqlite:PATH", "sqlite::memory:", "postgres://user@host/name".
function db.open(url, options)
  options = options or {}
  if type(url) ~= "string" then
    error("db.open: expected a URL (got " .. type(url) .. ")", 2)
  end
  local scheme, rest = url:match("^(%a+):(.*)$")
  if not DRIVERS[scheme] then
    error(
      ('db.open: "%s" is not the URL of a database that is known: sqlite:PATH, postgres://user@host/name'):format(
        address.public(url)
      ),
      2
    )
  end
  check(options, OPTIONS[scheme])
  local problem = scheme ~= "sqlite" and address.problem(url)
  if problem then
    error(("db.open: %s: %s"):format(address.public(url), problem), 2)
  end
  local ok, driver = pcall(core.load(DRIVERS[scheme]).open, rest, options)
  if not ok then
    if allua.is_error(driver, "DbError") then
      driver.message = ("%s: %s"):format(address.public(url), address.hide(driver.message, url))
    end
    error(driver, 0)
  end
  local database = setmetatable({
    driver = driver,
    dialect = driver.dialect,
    root = false,
    connection = false,
    depth = 0,
    over = false,
    changed_schema = false, -- a transaction's: whether models are to be made anew behind it
    tables = false, -- what schema() gave last
    loading = false, -- a gate, which is closed while a task asks for it
    models = {},
  }, Database)
  rawset(database, "root", database)
  make_usual(database, driver.reads_on, driver.writes_on)
  return database
end

--- The names of a row's columns, also of those that are NULL.
function db.columns(row)
  local meta = getmetatable(row)
  return meta and meta.columns
end

return db
