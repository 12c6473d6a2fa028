-- Tasks that ask PostgreSQL, in more of them than there are connections, and are given up at any moment, while memory
-- fails at any moment: see spec/embed/chaos.c, which gives `scarce (whether)`. Anything may raise, but afterwards every
-- connection is there for whoever comes, and the database tells what was committed.
-- spec/support/with_postgres.lua starts the server.
local allua = require("allua")

local seed, rounds = ...
seed, rounds = math.tointeger(seed), math.tointeger(rounds)
local set_scarce = rawget(_G, "scarce") or function() end
math.randomseed(seed)

local chance = math.random
local CONNECTIONS <const> = 3
local PATIENCE <const> = 15 -- seconds

-- `seen` counts transactions: begun, and known to be committed.
local function ways(db, seen)
  local function transact(tx)
    tx:exec("UPDATE item SET n = n + 1 WHERE id = 1")
    if chance() < 0.3 then
      pcall(tx.transaction, tx, function(inner)
        inner:exec(chance() < 0.5 and "nonsense" or "UPDATE item SET n = n + 100 WHERE id = 1")
        error("on purpose", 0)
      end)
    elseif chance() < 0.3 then
      error("on purpose", 0)
    end
    return tx:one("SELECT n FROM item WHERE id = 1").n
  end
  return {
    function()
      return db:query("SELECT * FROM item LIMIT 5")
    end,
    function()
      return db:one("SELECT * FROM item WHERE id = $1", chance(20))
    end,
    function()
      return db:one("SELECT $1::int[] AS list", { 1, 2, chance(9) })
    end,
    function()
      return db.item:find_unique({ where = { id = chance(20) } })
    end,
    function()
      return db:exec("nonsense")
    end,
    function()
      seen.begun = seen.begun + 1
      db:transaction(transact)
      seen.committed = seen.committed + 1
    end,
    function()
      for row in db:each("SELECT * FROM item") do
        if row.id > chance(20) then
          break
        end
      end
    end,
    function()
      return db:query("SELECT pg_sleep($1)", chance() * 0.01)
    end,
  }
end

-- Each connection in a transaction of its own, all at the same time.
local function use_all(db)
  local left, all = CONNECTIONS, allua.promise()
  local task = {}
  for i = 1, CONNECTIONS do
    task[i] = function()
      db:transaction(function(tx)
        tx:query("SELECT 1")
        left = left - 1
        if left == 0 then
          all:resolve()
        end
        all:await()
      end)
    end
  end
  allua.all(task)
end

local function main()
  local db <close> = allua.db.open(os.getenv("ALLUA_POSTGRES"), { connections = CONNECTIONS })
  local _ <close> = setmetatable({}, {
    __close = function()
      set_scarce(false)
    end,
  })
  db:exec("DROP TABLE IF EXISTS item")
  db:exec("CREATE TABLE item (id int PRIMARY KEY, name text, n int)")
  for i = 1, 20 do
    db:exec("INSERT INTO item VALUES ($1, $2, 0)", i, "item " .. i)
  end
  local seen = { begun = 0, committed = 0 }
  local way = ways(db, seen)
  for _ = 1, rounds do
    seen.begun, seen.committed = 0, 0
    db:exec("UPDATE item SET n = 0 WHERE id = 1")
    set_scarce(true)
    for _ = 1, 3 do
      pcall(allua.map, { 1, 2, 3, 4, 5, 6, 7, 8 }, function()
        if chance() < 0.5 then
          pcall(way[chance(#way)])
        else
          pcall(allua.timeout, chance() * 0.01, way[chance(#way)])
        end
      end)
    end
    set_scarce(false)
    allua.timeout(PATIENCE, use_all, db)
    local n = db:one("SELECT n FROM item WHERE id = 1").n
    assert(seen.committed <= n and n <= seen.begun, ("%d <= %d <= %d"):format(seen.committed, n, seen.begun))
  end
end

main()
