-- One connection of allua.db to PostgreSQL: how it is made, and its statements and cursors.
local allua = require("allua")
local core = require("allua.core")
local parameters = core.load("allua.db_postgres_value")

local connections = {}

local MOST_STATEMENTS = 250 -- prepared, on a connection

local function fail(message, code)
  error(core.error({ name = "DbError", code = code, message = message }), 0)
end

local Connection = {}
Connection.__index = Connection

local KEPT = { select = true, insert = true, update = true, delete = true, with = true, values = true }

--- Whether a statement is prepared, for the next time.
function connections.is_kept(text)
  local word = text:match("^[%s;(]*(%a+)")
  return word and KEPT[word:lower()]
end

local function new_name(self)
  if self.count == MOST_STATEMENTS then
    self.statements, self.count = {}, 0
    self.raw:post("DEALLOCATE ALL")
  end
  self.serial = self.serial + 1
  return "allua_" .. self.serial
end

-- The way of each parameter's type: asked for once, for what is given a table.
local function forms_of(self, text)
  local forms = self.driver.forms[text]
  if not forms then
    local name = new_name(self)
    forms = self.raw:describe(text, name)
    self.raw:post("DEALLOCATE " .. name)
    self.driver.forms[text] = forms
  end
  return forms
end

local function run_once(self, text, values, count, shared)
  local name = self.statements[text]
  if name then
    return self.raw:run(text, name, false, values, count, shared)
  elseif name == false or not connections.is_kept(text) then -- it is being prepared by another, or is not worth it
    return self.raw:run(text, nil, false, values, count, shared)
  end
  name = new_name(self)
  local statements = self.statements
  statements[text] = false
  local results = table.pack(pcall(self.raw.run, self.raw, text, name, true, values, count, shared))
  if results[1] then
    statements[text], self.count = name, self.count + 1
    return table.unpack(results, 2, results.n)
  end
  statements[text] = nil
  error(results[2], 0)
end

-- Unknown while a statement is under way: then it is one of those who share the connection, who are in none.
local function is_in_transaction(self)
  local _, _, transaction = self.raw:state()
  return transaction == "open" or transaction == "failed"
end

--- rows, whether there are no more (always), how many were changed; `shared`: others are sent behind it
function Connection:run(text, values, count, shared)
  if parameters.has_tables(values, count) then
    values = parameters.encode(values, count, forms_of(self, text))
  end
  local name = self.statements[text]
  local ok, rows, changes = pcall(run_once, self, text, values, count, shared)
  if not ok then
    local code = allua.is_error(rows, "DbError") and rows.code
    -- The tables are others than when it was prepared, or somebody has forgotten what was: it did not run.
    local stale = name and (code == "0A000" or code == "26000")
    if not stale or is_in_transaction(self) then
      error(rows, 0)
    end
    if self.statements[text] == name then -- else another who shares the connection has seen to it
      self.statements[text] = nil
    end
    rows, changes = run_once(self, text, values, count, shared)
  end
  return rows, true, changes
end

--- Many statements, without parameters.
function Connection:script(text)
  local tag = self.raw:script(text)
  if text == "COMMIT" and tag == "ROLLBACK" then
    fail("the transaction had failed and was rolled back: an error in it was caught", "25P02")
  end
end

-- A cursor needs a statement that only reads.
local function reads(text)
  local word = (text:match("^[%s;(]*(%a+)") or ""):lower()
  if word == "with" then
    local lower = text:lower()
    return not (
      lower:find("%f[%a]insert%f[%A]")
      or lower:find("%f[%a]update%f[%A]")
      or lower:find("%f[%a]delete%f[%A]")
    )
  end
  return word == "select" or word == "values"
end

--- Up to `limit` rows, whether there are no more, and the cursor with which to go on.
function Connection:start(text, values, count, limit)
  if not reads(text) then
    return (self:run(text, values, count)), true
  end
  if parameters.has_tables(values, count) then
    values = parameters.encode(values, count, forms_of(self, text))
  end
  self.serial = self.serial + 1
  local _, under_way = self.raw:state()
  if under_way then -- a statement that was cancelled: not known before its end is whether there is a transaction
    self.raw:script("")
  end
  local cursor = { name = "allua_" .. self.serial, own = not is_in_transaction(self) }
  local ok, rows, over = pcall(function()
    if cursor.own then
      self:script("BEGIN")
    end
    self.raw:run(("DECLARE %s NO SCROLL CURSOR FOR %s"):format(cursor.name, text), nil, false, values, count)
    return self:fetch(limit, cursor)
  end)
  if not ok then
    allua.shield(self.stop, self, cursor)
    error(rows, 0)
  end
  return rows, over, cursor
end

function Connection:fetch(limit, cursor)
  local rows = self.raw:run(("FETCH FORWARD %d FROM %s"):format(limit, cursor.name), nil, false, {}, 0)
  return rows, #rows < limit
end

--- Ends the cursor, and the transaction that was begun for it.
function Connection:stop(cursor)
  if not cursor then
    return
  elseif cursor.own then
    self.raw:script("ROLLBACK")
  else
    local _, _, transaction = self.raw:state()
    if transaction == "open" then
      self.raw:script("CLOSE " .. cursor.name)
    end
  end
end

-- ── connecting ──

-- The addresses of the hosts, found by libuv: libpq would block.
local function resolve(keywords)
  local hosts = keywords.host or os.getenv("PGHOST") or ""
  if keywords.hostaddr or os.getenv("PGHOSTADDR") or hosts == "" or hosts:find("^[/@]") or hosts:find(",[/@]") then
    return keywords
  end
  local made, names, addresses, ports = {}, {}, {}, {}
  local port_of = {}
  for port in (keywords.port or os.getenv("PGPORT") or "5432"):gmatch("[^,]+") do
    port_of[#port_of + 1] = port
  end
  local at = 0
  for host in hosts:gmatch("[^,]+") do
    at = at + 1
    local resolver = core.resolver()
    resolver:wait(host)
    local found, problem = resolver:take()
    if not found then
      fail(('the host "%s" is not found: %s'):format(host, problem), "08001")
    end
    for _, address in ipairs(found) do
      table.insert(names, host)
      table.insert(addresses, address)
      table.insert(ports, port_of[at] or port_of[1])
    end
  end
  for name, value in pairs(keywords) do
    made[name] = value
  end
  made.host, made.hostaddr, made.port = table.concat(names, ","), table.concat(addresses, ","), table.concat(ports, ",")
  return made
end

--- A connection for a driver. Raises a DbError, or where it is cancelled.
function connections.connect(driver)
  local connection = setmetatable({
    driver = driver,
    raw = core.postgres_connection(),
    statements = {}, -- text → name; false while it is prepared
    count = 0,
    serial = 0,
  }, Connection)
  local ok, err = pcall(function()
    connection.raw:connect(resolve(driver.keywords))
  end)
  if not ok then
    connection.raw:close()
    error(err, 0)
  end
  return connection
end

local PASSING = {
  "refused",
  "starting up",
  "shutting down",
  "recovery",
  "no such file",
  "reset by",
  "closed the connection",
  "too many clients",
  "within",
}

--- Whether such an error may be another in a moment; a wrong password is not.
function connections.may_pass(err)
  if not allua.is_error(err, "DbError") or err.code ~= "08001" then
    return false
  end
  local message = err.message:lower()
  for _, what in ipairs(PASSING) do
    if message:find(what, 1, true) then
      return true
    end
  end
  return false
end

return connections
