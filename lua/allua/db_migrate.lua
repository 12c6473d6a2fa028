-- Migrations: numbered SQL files, each run once and in a transaction.
local uv = require("luv")
local core = require("allua.core")
local sql = core.load("allua.db_sql")
local told = core.load("allua.db_error")

local LOCK = 0x616c6c7561 -- of PostgreSQL's advisory ones: "allua"
local TABLE = "CREATE TABLE IF NOT EXISTS allua_migrations (number BIGINT PRIMARY KEY, name TEXT, content TEXT)"

local function refuse(...)
  error("db: " .. string.format(...), 0)
end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

local function files_of(folder)
  local found, entries = {}, uv.fs_scandir(folder)
  if not entries then
    refuse("the migrations' folder %s cannot be read", folder)
  end
  local names = {} -- read to their end, or luv loses them
  for name in uv.fs_scandir_next, entries do
    names[#names + 1] = name
  end
  for _, name in ipairs(names) do
    local digits = name:match("^(%d+).*%.sql$")
    if digits then
      local number = math.tointeger(tonumber(digits)) or refuse("the number of migration %s is too large", name)
      table.insert(found, { number = number, name = name, content = read(folder .. "/" .. name) })
    end
  end
  table.sort(found, function(a, b)
    return a.number < b.number
  end)
  for i = 2, #found do
    if found[i].number == found[i - 1].number then
      refuse("two migrations have the number %d: %s, %s", found[i].number, found[i - 1].name, found[i].name)
    end
  end
  return found
end

-- Others may be migrating too. SQLite's transactions lock as they begin.
local function alone(database, fn)
  database:transaction(function(tx)
    if database.dialect == "postgres" then
      tx:query("SELECT pg_advisory_xact_lock($1)", LOCK)
    end
    fn(tx)
  end)
end

-- Raises where the files are not what has run, and what may follow that.
local function check(files, ran, dialect)
  local here, done, newest = {}, {}, ran[#ran]
  for _, file in ipairs(files) do
    here[file.number] = file
  end
  for _, old in ipairs(ran) do
    local file = here[old.number]
    done[old.number] = true
    if file and file.content ~= old.content then
      refuse("migration %s has run already, and has been changed since: write a new one", file.name)
    elseif not file and #files > 0 and old.number < files[#files].number then
      refuse("migration %s has run already, and is not in the folder any more", old.name)
    end
  end
  for _, file in ipairs(files) do
    if newest and file.number < newest.number and not done[file.number] then
      refuse("migration %s comes before %s, which has run already: give it a higher number", file.name, newest.name)
    end
    local word, line = sql.find_transaction(file.content, dialect)
    if word and not done[file.number] then
      refuse(
        "migration %s has %s in line %d: it runs in a transaction of its own, leave that out",
        file.name,
        word,
        line
      )
    end
  end
end

--- Runs those files of the folder that have not run yet; gives how many.
return function(database, folder)
  local files, count = files_of(folder), 0
  alone(database, function(tx)
    tx:exec(TABLE)
    check(files, tx:query("SELECT number, name, content FROM allua_migrations ORDER BY number"), database.dialect)
  end)
  for _, file in ipairs(files) do
    alone(database, function(tx)
      if tx:one("SELECT 1 AS one FROM allua_migrations WHERE number = $1", file.number) then
        return
      end
      local ok, err = pcall(tx.connection.script, tx.connection, file.content)
      if not ok then
        told.explain(err, "migration " .. file.name)
      end
      if not database.driver:is_in_transaction(tx.connection) then -- by what check() did not see
        refuse("migration %s has ended the transaction that it ran in: what it did is not undone", file.name)
      end
      tx:exec("INSERT INTO allua_migrations VALUES ($1, $2, $3)", file.number, file.name, file.content)
      count = count + 1
    end)
  end
  return count
end
