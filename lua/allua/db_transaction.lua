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

-- What begins one, commits it and rolls it back.
local function statements(self, begin)
  if not self.connection then
    return begin, "COMMIT", "ROLLBACK"
  end
  local name = "allua_" .. self.depth + 1
  return "SAVEPOINT " .. name, "RELEASE " .. name, "ROLLBACK TO " .. name .. "; RELEASE " .. name
end

--- Runs fn(tx) between the statements that begin and end it, and gives its values. `self` is the database, or the
--- transaction that this one is a savepoint in; new(self, connection, depth) makes what fn is given.
---
--- Whatever fails, if only for want of memory: the connection goes back, and what was not committed is undone. So all
--- that takes memory is there before there is a connection. What could not be undone in a savepoint spoils the
--- transaction around it; on a connection of its own, it ends with the lease.
function transaction.run(self, fn, options, new)
  local inner, driver, depth = self.connection, self.root.driver, self.depth + 1
  local begin, reset = driver:begin(options)
  local opening, committing, undoing = statements(self, begin)
  local lease <close> = not inner and driver:lease(options.read_only and "read" or "write") or nil
  local connection, tx, results
  local begun, ended, clean = false, false, false

  local function end_it()
    tx.over, tx[1], tx[2] = true, nil, nil
    if results[1] and tx.spoiled then
      results[1], results[2] = false, tx.spoiled
    elseif results[1] then
      local committed, err = pcall(script, connection, committing)
      if not committed then
        results[1], results[2] = false, err
      end
    end
    -- Also where it failed to begin: who was cancelled then does not know. The database may have rolled back
    -- itself (a full disk, say): then there is nothing to do.
    ended = results[1] or pcall(script, connection, undoing)
    clean = not reset or pcall(connection.script, connection, reset)
  end

  local _ <close> = setmetatable({}, {
    __close = function()
      if tx then
        tx.over = true
      end
      if inner then
        self.spoiled = self.spoiled or begun and not ended and (results and results[2] or "not enough memory")
      end
    end,
  })
  results = table.pack(pcall(function()
    connection = inner or driver:take(lease)
    tx = new(self, connection, depth)
    script(connection, opening)
    begun = true
    return fn(tx)
  end))
  if tx then
    allua.shield(end_it)
  end
  if lease then
    lease:close(ended and clean)
  end
  if not results[1] then
    error(results[2], 0)
  end
  return table.unpack(results, 2, results.n)
end

return transaction
