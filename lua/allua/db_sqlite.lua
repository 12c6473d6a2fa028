-- SQLite for allua.db: one connection that writes and several that read, each with a thread of its own.
local allua = require("allua")
local core = require("allua.core")
local uv = require("luv")

local sqlite = {}

local SQLITE_BUSY = 5

local Driver = {}
Driver.__index = Driver

local SCHEMA = [[
  SELECT m.name AS "table", c.name, c.type, c."notnull", c.dflt_value IS NOT NULL AS has_default, c.pk, c.hidden
  FROM sqlite_schema m, pragma_table_xinfo(m.name) c
  WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\'
  ORDER BY m.name, c.cid]]
local UNIQUE = [[
  SELECT m.name AS "table", l.name AS "index", i.name AS "column"
  FROM sqlite_schema m, pragma_index_list(m.name) l, pragma_index_info(l.name) i
  WHERE m.type = 'table' AND l."unique" AND NOT l.partial
  ORDER BY m.name, l.seq, i.seqno]]

-- ── lanes ──

-- What connections of one kind have in common: those that only read, or the one that writes. The pool knows whose turn
-- it is.
local function new_lane(busy, reads)
  return {
    pool = core.sqlite_pool(busy, reads),
  }
end

-- Whoever else writes to a database that is not in this mode yet is not waited for by SQLite itself.
local function write_ahead(connection, busy)
  local last = uv.hrtime() + busy * 1e9
  while true do
    local ok, err = pcall(connection.run, connection, "PRAGMA journal_mode = WAL", {}, 0)
    if ok then
      return
    elseif not allua.is_error(err, "DbError") or err.code & 0xff ~= SQLITE_BUSY or uv.hrtime() >= last then
      error(err, 0)
    end
    allua.sleep(0.01)
  end
end

-- Closes the database, and waits until it is: its thread has ended then.
local function shut(connection)
  allua.shield(function()
    pcall(connection.shut, connection)
    connection:close()
  end)
end

-- A connection with its database open, not serving yet; closed again where that fails.
local function connect(driver, lane, writes)
  local connection = lane.pool:connection()
  local ok, err = pcall(function()
    connection:open(driver.path, writes and "rw" or "r")
    connection:script("PRAGMA foreign_keys = ON")
    if writes and not driver.memory then
      write_ahead(connection, driver.busy)
      connection:script("PRAGMA synchronous = NORMAL")
    end
    if driver.closed then
      error("db: this database is closed", 0)
    end
  end)
  if not ok then
    shut(connection)
    error(err, 0)
  end
  driver.open[connection] = true
  driver.connections[connection:key()] = connection
  connection:serve(true)
end

-- ── the driver ──

--- options: readers (how many at most), busy (seconds to wait for the locks of others).
function sqlite.open(path, options)
  local memory = path == ":memory:" or path == ""
  local busy = options.busy or 5
  local driver = setmetatable({
    dialect = "sqlite",
    path = path,
    memory = memory,
    busy = busy,
    most = memory and 0 or options.readers or 4,
    readers = 0,
    open = {}, -- connection → true
    connections = {}, -- by their keys
    write = new_lane(busy, false),
    read = false,
  }, Driver)
  driver.read = driver.most > 0 and new_lane(busy, true) or driver.write
  driver.reads_on, driver.writes_on = driver.read.pool, driver.write.pool
  local ok, err = pcall(function()
    connect(driver, driver.write, true)
    if driver.most > 0 then
      driver:set_readers(1)
      connect(driver, driver.read, false)
    end
  end)
  if not ok then
    driver:close()
    error(err, 0)
  end
  return driver
end

--- What begins a transaction of these options, and what is to be undone behind it. SQLite's are serializable,
--- whatever less is asked for. One that may write locks at once, for where it did later it could not wait.
function Driver:begin(options)
  if options.read_only then
    return self.memory and "PRAGMA query_only = ON; BEGIN" or "BEGIN", self.memory and "PRAGMA query_only = OFF"
  end
  return options.immediate == false and "BEGIN" or "BEGIN IMMEDIATE"
end

-- Where all connections that read are in use, and there may be more, one more is opened.
local function lane_of(driver, mode)
  local lane = driver[mode]
  if driver.closed then
    error("db: this database is closed", 0)
  elseif lane.pool:is_short() then
    driver:set_readers(driver.readers + 1)
    local ok, err = pcall(connect, driver, lane, false)
    if not ok then
      driver:set_readers(driver.readers - 1)
      error(err, 0)
    end
  end
  return lane
end

function Driver:set_readers(count)
  self.readers = count
  self.read.pool:spare(self.most - count)
end

--- For a connection of one's own, which take gives. Closing it says whether nothing is open there; else that is ended.
function Driver:lease(mode)
  return lane_of(self, mode).pool:lease()
end

function Driver:take(lease)
  return lease:take(self.connections)
end

--- As a connection's run: a statement that stands alone.
function Driver:run(mode, text, values, count)
  return lane_of(self, mode).pool:run(text, values, count)
end

--- Whether a connection that somebody has for himself is in a transaction.
function Driver.is_in_transaction(_, connection)
  local _, _, _, _, outside = connection:run("SELECT 1", {}, 0)
  return not outside
end

--- Asks for the schema: add_column(table, column), then add_key(table, columns, is_primary), primary ones first.
function Driver.schema(_, ask, add_column, add_key)
  local primary, unique, index = {}, nil, nil
  for _, row in ipairs(ask(SCHEMA)) do
    add_column(row.table, {
      name = row.name,
      type = row.type:lower(),
      nullable = row.notnull == 0 and row.pk == 0,
      has_default = row.has_default == 1 or row.pk == 1 and row.type:lower() == "integer",
      generated = row.hidden > 1,
    })
    if row.pk > 0 then
      primary[row.table] = primary[row.table] or {}
      primary[row.table][row.pk] = row.name
    end
  end
  for name, columns in pairs(primary) do
    add_key(name, columns, true)
  end
  for _, row in ipairs(ask(UNIQUE)) do
    if row.index ~= index then
      index, unique = row.index, {}
      add_key(row.table, unique, false)
    end
    table.insert(unique, row.column)
  end
end

local lists = {} -- by how many values there are

--- A list of values as a table of SQL's, k (column1: the place, column2: the value), and its parameters. Their number
--- is rounded up, with NULL, which is equal to nothing: so there are few statements.
function Driver.keys(_, _, list)
  local count = 1
  while count < #list do
    count = count * 2
  end
  if not lists[count] then
    local places = {}
    for i = 1, count do
      places[i] = ("(%d, $%d)"):format(i, i)
    end
    lists[count] = "(VALUES " .. table.concat(places, ", ") .. ") AS k"
  end
  return lists[count], list, count
end

--- Closes every connection; what runs there ends first.
function Driver:close()
  if self.closed then
    return
  end
  self.closed = true
  allua.shield(function()
    self.write.pool:drain()
    if self.read and self.read ~= self.write then
      self.read.pool:drain()
    end
    for connection in pairs(self.open) do
      shut(connection)
    end
  end)
  self.open = {}
end

return sqlite
