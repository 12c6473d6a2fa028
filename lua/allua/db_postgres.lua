-- PostgreSQL for allua.db: a pool of connections, on which short reads follow one another without waiting.
local allua = require("allua")
local core = require("allua.core")
local queue = core.load("allua.db_queue")
local memo = core.load("allua.memo")
local parameters = core.load("allua.db_postgres_value")
local connections = core.load("allua.db_postgres_connection")

local postgres = {}

local DEEP = 16 -- statements under way on one connection at most
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
      table.insert(driver.open, result)
      return result
    elseif allua.now() + pause >= give_up or not connections.may_pass(result) or driver.closed then
      error(result, 0)
    end
    allua.sleep(pause * (0.5 + math.random() / 2))
    pause = math.min(pause * 2, 1)
  end
end

-- ── the pool ──

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
    most = options.connections or 10,
    connect_timeout = options.connect_timeout or 10,
    reconnect = options.reconnect or 5,
    count = 0, -- of connections, and of those on their way
    open = {}, -- a list
    turn = 0, -- in it, of those that are shared
    idle = {},
    waiting = queue.new(), -- of { promise, shares }
    quick = memo.new(MOST_KNOWN), -- text → whether it was, the last time
    forms = {},
  }, Driver)
  local first = connect(driver, 0)
  driver.count = 1
  driver.idle[1] = first
  return driver
end

local function lend(connection, shares)
  connection.lent = connection.lent + 1
  connection.alone = not shares
  return connection
end

-- Hands the connection to those who wait, as long as it may be theirs.
local function hand_on(driver, connection)
  local entry = driver.waiting:first()
  while entry do
    if connection.lent > 0 and (connection.alone or not entry.shares or connection.lent >= DEEP) then
      return
    end
    driver.waiting:pop().promise:resolve(lend(connection, entry.shares))
    entry = driver.waiting:first()
  end
  if connection.lent == 0 then
    table.insert(driver.idle, connection)
  end
end

-- One of those who wait may open a connection in the place of one that is lost.
local function wake_one(driver)
  if driver.waiting:first() then
    driver.waiting:pop().promise:resolve(false)
  end
end

local function drop(driver, connection)
  for i, open in ipairs(driver.open) do
    if open == connection then
      table.remove(driver.open, i)
      break
    end
  end
  driver.count = driver.count - 1
  connection.raw:close()
  wake_one(driver)
end

-- There is no connection at all, and for this long none was to be had: who waited as long need not try again.
local function give_up(driver, began, err)
  driver.waiting:reject(err, function(entry)
    return driver.count == 0 and entry.since <= began
  end)
  wake_one(driver)
end

local function take_idle(driver)
  local busy
  for i = #driver.idle, 1, -1 do
    local connection = driver.idle[i]
    local state, under_way, transaction = connection.raw:state()
    if state ~= "ready" or not under_way and transaction ~= "none" then
      table.remove(driver.idle, i)
      drop(driver, connection)
    elseif not under_way then
      return table.remove(driver.idle, i)
    else
      busy = i -- with a query that was cancelled
    end
  end
  return busy and driver.count >= driver.most and table.remove(driver.idle, busy)
end

local function open_one(driver, shares)
  local began = allua.now()
  driver.count = driver.count + 1
  local ok, made = pcall(connect, driver, driver.reconnect)
  if not ok then
    driver.count = driver.count - 1
    if allua.is_error(made, "DbError") then
      give_up(driver, began, made)
    else
      wake_one(driver)
    end
    error(made, 0)
  elseif driver.closed then
    drop(driver, made)
    error("db: this database is closed", 0)
  end
  lend(made, shares)
  if shares then -- those who came meanwhile may share it
    hand_on(driver, made)
  end
  return made
end

local function wait_for(driver, shares, first)
  local entry = { promise = core.promise("a connection of the pool"), shares = shares, since = allua.now() }
  local ok, result, stood = driver.waiting:wait(entry, first)
  if ok then
    return result
  elseif not stood and entry.promise.status == "fulfilled" then -- it came, but so did the cancelling
    local came = entry.promise:await()
    if came then
      driver:release(came)
    else
      wake_one(driver)
    end
  end
  error(result, 0)
end

-- One that others share, of these in turn.
local function next_shared(driver)
  for _ = 1, #driver.open do
    driver.turn = driver.turn % #driver.open + 1
    local connection = driver.open[driver.turn]
    if connection.lent > 0 and not connection.alone and connection.lent < DEEP then
      return connection
    end
  end
end

local function take(driver, shares)
  local turn = not driver.waiting:first() -- or it was woken, so that it opens one
  while not driver.closed do
    local connection
    if turn then
      connection = take_idle(driver)
      if not connection and driver.count < driver.most then
        return open_one(driver, shares)
      end
      connection = connection or shares and next_shared(driver)
    end
    if connection then
      return lend(connection, shares)
    end
    connection = wait_for(driver, shares, turn)
    if connection then
      return connection
    end
    turn = true
  end
  error("db: this database is closed", 0)
end

--- A connection of one's own.
function Driver:acquire()
  return take(self, false)
end

function Driver:release(connection)
  connection.lent = connection.lent - 1
  if connection.lent > 0 then
    hand_on(self, connection)
    return
  end
  connection.alone = false
  local state, under_way, transaction = connection.raw:state()
  if self.closed then
    return
  elseif state ~= "ready" or not under_way and transaction ~= "none" then
    drop(self, connection)
  else
    hand_on(self, connection)
  end
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

local run

local function finish(driver, connection, text, values, count, began, ok, ...)
  learn(driver, text, ok and allua.now() - began < QUICK * connection.lent)
  driver:release(connection)
  if ok then
    return ...
  end
  local err = ...
  if allua.is_error(err, "DbError") and err.code == "gave way" then
    return run(driver, false, text, values, count)
  end
  error(err, 0)
end

function run(driver, shares, text, values, count)
  local connection = take(driver, shares)
  local began = allua.now()
  return finish(
    driver,
    connection,
    text,
    values,
    count,
    began,
    pcall(connection.run, connection, text, values, count, shares)
  )
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
  if self.closed then
    return
  end
  self.closed = true
  self.waiting:reject("db: this database is closed", function()
    return true
  end)
  for _, connection in ipairs(self.open) do
    connection.raw:close()
  end
  self.open, self.idle = {}, {}
end

return postgres
