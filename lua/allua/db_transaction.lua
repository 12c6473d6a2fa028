-- Transactions of allua.db: begun, and ended whatever becomes of the function inside.
local allua = require("allua")
local core = require("allua.core")

local transaction = {}

local OPTIONS = {
  sqlite = { "isolation", "read_only", "immediate" },
  postgres = { "isolation", "read_only", "deferrable" },
}
local ISOLATION = { "read uncommitted", "read committed", "repeatable read", "serializable" }

local function refuse(message)
  error("db: transaction: " .. message, 4)
end

local function has(list, value)
  for _, one in ipairs(list) do
    if one == value then
      return true
    end
  end
end

local function check(options, dialect)
  if type(options) ~= "table" then
    refuse("expected a table of options (got " .. type(options) .. ")")
  end
  for name, value in pairs(options) do
    if not has(OPTIONS[dialect], name) then
      local hint = type(name) == "string" and core.near(name, OPTIONS[dialect]) or ""
      refuse(('unknown option "%s"%s'):format(tostring(name), hint))
    elseif name ~= "isolation" and type(value) ~= "boolean" then
      refuse(('"%s" must be true or false (got %s)'):format(name, tostring(value)))
    elseif name == "isolation" and not has(ISOLATION, value) then
      local hint = type(value) == "string" and core.near(value, ISOLATION) or ""
      refuse(('"isolation" must be "%s" (got %s)%s'):format(table.concat(ISOLATION, '", "'), tostring(value), hint))
    end
  end
  if options.read_only and options.immediate then
    refuse('what is "read_only" takes no lock to write, so it cannot be "immediate"')
  end
end

--- Raises where one cannot begin so; from the caller's caller.
function transaction.check(self, fn, options)
  if type(fn) ~= "function" then
    error("db: transaction expects a function (got " .. type(fn) .. ")", 3)
  elseif self.over then
    error("db: this transaction is over", 3)
  elseif options ~= nil then
    check(options, self.dialect)
    if self.connection and next(options) then
      error("db: transaction: one inside another is as that one is: it takes no options", 3)
    end
  end
end

local function script(connection, statement)
  if core.tracing then
    return core
      .load("allua.trace")
      .operation("io", "sql", { sql = statement }, connection.script, connection, statement)
  end
  return connection:script(statement)
end

--- Runs fn(tx) between the statements that begin and end it, and gives its values. `self` is the database, or the
--- transaction that this one is a savepoint in; new(self, connection, depth) makes what fn is given.
function transaction.run(self, fn, options, new)
  local inner = self.connection and true
  local depth = self.depth + 1
  local driver, name = self.root.driver, "allua_" .. depth
  local begin, reset = driver:begin(options)
  local connection = self.connection or driver:acquire(options.read_only and "read" or "write")
  local tx = new(self, connection, depth)
  local results = table.pack(pcall(function()
    script(connection, inner and "SAVEPOINT " .. name or begin)
    return fn(tx)
  end))
  local ok = results[1]
  allua.shield(function()
    tx.over, tx[1], tx[2] = true, nil, nil
    if ok then
      local committed, err = pcall(script, connection, inner and "RELEASE " .. name or "COMMIT")
      if not committed then
        ok, results[2] = false, err
      end
    end
    if not ok then
      -- Also where it failed to begin: who was cancelled then does not know. The database may have rolled back
      -- itself (a full disk, say): then there is nothing to do.
      pcall(script, connection, inner and "ROLLBACK TO " .. name .. "; RELEASE " .. name or "ROLLBACK")
    end
    if reset then
      pcall(connection.script, connection, reset)
    end
    if not inner then
      driver:release(connection)
    end
  end)
  if not ok then
    error(results[2], 0)
  end
  return table.unpack(results, 2, results.n)
end

return transaction
