-- PostgreSQL for allua.db: a pool of connections, on which short reads follow one another without waiting.
local allua = require("allua")
local core = require("allua.core")
local memo = core.load("allua.memo")
local parameters = core.load("allua.db_postgres_value")
local connections = core.load("allua.db_postgres_connection")

local postgres = {}

local QUICK = 0.005 -- seconds: what took less shares a connection where none is free
local MOST_KNOWN = 1000 -- statements of which it is known whether they are quick

local function fail(message, code)
  error(core.error({ name = "DbError", code = code, message = message }), 0)
end

-- Tries again, waiting longer each time, for as long as `reconnect` says.
local function connect(driver, reconnect)
  local pause, give_up = 0.05, allua.now() + reconnect
  while true do
    local ok, result = pcall(allua.timeout, driver.connect_timeout, connections.connect, driver)
    if not ok and allua.is_error(result, "TimeoutError") then
      ok, result = pcall(fail, ("no connection within %g seconds"):format(driver.connect_timeout), "08001")
    end
    if ok then
      return result
    elseif allua.now() + pause >= give_up or not connections.may_pass(result) or driver.pool:is_closed() then
      error(result, 0)
    end
    allua.sleep(pause * (0.5 + math.random() / 2))
    pause = math.min(pause * 2, 1)
  end
end

-- The lease's connection; made where there may be one more.
local function take(driver, lease, reconnect)
  local connection = lease:take()
  if connection then
    return connection
  end
  local ok, made = pcall(connect, driver, reconnect)
  if ok then
    lease:bring(made.raw, made)
    return made
  elseif allua.is_error(made, "DbError") then
    lease:give_up(made)
  end
  error(made, 0)
end

-- ── the driver ──

local Driver = {}
Driver.__index = Driver

--- options: connections (how many at most), connect_timeout, reconnect (seconds).
function postgres.open(rest, options)
  local keywords, problem = core.postgres_parse("postgres:" .. rest)
  if not keywords then
    fail((problem:gsub("%s+$", "")), "08001")
  end
  keywords.client_encoding = "UTF8"
  keywords.fallback_application_name = "allua"
  local driver = setmetatable({
    dialect = "postgres",
    keywords = keywords,
    connect_timeout = options.connect_timeout or 10,
    reconnect = options.reconnect or 5,
    pool = core.postgres_pool(options.connections or 10),
    quick = memo.new(MOST_KNOWN), -- text → whether it was, the last time
    forms = {},
  }, Driver)
  local lease <close> = driver:lease()
  take(driver, lease, 0)
  return driver
end

--- For a connection of one's own, which take gives.
function Driver:lease()
  return self.pool:lease(false)
end

function Driver:take(lease)
  return take(self, lease, self.reconnect)
end

--- Whether a connection that somebody has for himself is in a transaction.
function Driver.is_in_transaction(_, connection)
  local _, _, transaction = connection.raw:state()
  return transaction ~= "none"
end

--- What begins a transaction of these options.
function Driver.begin(_, options)
  local parts = { "BEGIN" }
  if options.isolation then
    table.insert(parts, "ISOLATION LEVEL " .. options.isolation:upper())
  end
  if options.read_only ~= nil then
    table.insert(parts, options.read_only and "READ ONLY" or "READ WRITE")
  end
  if options.deferrable then
    table.insert(parts, "DEFERRABLE")
  end
  return table.concat(parts, " ")
end

local function learn(driver, text, quick)
  if driver.quick[text] ~= quick then
    driver.quick[text] = quick and connections.is_kept(text) and true or false
  end
end

local function run(driver, shares, text, values, count)
  local lease <close> = driver.pool:lease(shares)
  local connection = take(driver, lease, driver.reconnect)
  local began = allua.now()
  local ok, result, over, changes = pcall(connection.run, connection, text, values, count, shares)
  local took, users = allua.now() - began, lease:close(true)
  pcall(learn, driver, text, ok and took < QUICK * users) -- what there is no memory for is not known
  if ok then
    return result, over, changes
  elseif allua.is_error(result, "DbError") and result.code == "gave way" then
    return run(driver, false, text, values, count)
  end
  error(result, 0)
end

--- As a connection's run. What was quick shares a connection where none is free, each statement a transaction of its
--- own. What keeps others waiting all the same, for a lock say, is cancelled, and runs again on a connection of its
--- own.
function Driver:run(_, text, values, count)
  return run(self, self.quick[text] or false, text, values, count)
end

-- ── the schema ──

local SCHEMA = [[
  SELECT c.relname AS "table", a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
    quote_ident(n.nspname) || '.' || quote_ident(t.typname) AS base,
    NOT a.attnotnull AS nullable, a.atthasdef OR a.attidentity <> '' AS has_default, a.attgenerated <> '' AS generated
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)
    AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  ORDER BY c.relname, a.attnum]]
local UNIQUE = [[
  SELECT c.relname AS "table", i.indisprimary AS is_primary,
    (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(num, n)
       JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num WHERE k.n <= i.indnkeyatts) AS columns
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
  WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND pg_table_is_visible(c.oid)
    AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  ORDER BY c.relname, i.indisprimary DESC, i.indexrelid]]

--- Asks for the schema: add_column(table, column), then add_key(table, columns, is_primary), primary ones first.
function Driver.schema(_, ask, add_column, add_key)
  for _, row in ipairs(ask(SCHEMA)) do
    add_column(row.table, {
      name = row.name,
      type = row.type,
      base = row.base,
      nullable = row.nullable,
      has_default = row.has_default,
      generated = row.generated,
    })
  end
  for _, row in ipairs(ask(UNIQUE)) do
    add_key(row.table, table.move(row.columns, 1, #row.columns, 1, {}), row.is_primary)
  end
end

--- A list of values as one parameter, for an array of any type.
function Driver.array(list)
  return parameters.array(list, "array")
end

--- A list of values as a table of SQL's, k (column1: the place, column2: the value), and its parameters: the one
--- array, for lists of any length.
function Driver.keys(_, column, list)
  return ("unnest($1::%s[]) WITH ORDINALITY AS k (column2, column1)"):format(column.base), { Driver.array(list) }, 1
end

--- Closes every connection at once; what runs there is given up.
function Driver:close()
  self.pool:close()
end

return postgres
