-- A server whose handlers ask a database and each other, and clients that leave at any moment, while memory fails at
-- any moment: see spec/embed/chaos.c, which gives `scarce (whether)`. Anything may raise, but no client waits in vain;
-- afterwards the server answers, the database tells what was committed, and nothing stays.
local allua = require("allua")

local seed, rounds = ...
seed, rounds = math.tointeger(seed), math.tointeger(rounds)
local set_scarce = rawget(_G, "scarce") or function() end
math.randomseed(seed)

local chance = math.random
local PATIENCE <const> = 15 -- seconds

local seen -- how many transactions were begun, and how many are known to be committed

local function routes(db)
  return {
    ["GET /slow"] = function()
      allua.sleep(chance() * 0.002)
      return { ok = true }
    end,
    ["GET /item/:id"] = function(event)
      return db:one("SELECT * FROM item WHERE id = ?", math.tointeger(event.params.id)) or {}
    end,
    ["POST /item"] = function(event)
      local _, id = db:exec("INSERT INTO item (name, n) VALUES (:name, :n)", event:json())
      return { id = id }
    end,
    ["GET /transaction"] = function()
      seen.begun = seen.begun + 1
      local n = db:transaction(function(tx)
        tx:exec("UPDATE item SET n = n + 1 WHERE id = 1")
        allua.sleep(chance() * 0.001)
        if chance() < 0.3 then
          allua.http_error(409, "on purpose")
        end
        return tx:one("SELECT n FROM item WHERE id = 1").n
      end)
      seen.committed = seen.committed + 1
      return { n = n }
    end,
    ["GET /graph"] = function()
      return allua.all({
        rows = function()
          return db:query("SELECT * FROM item LIMIT 5")
        end,
        model = function()
          return db.item:find_unique({ where = { id = chance(5) } })
        end,
        sum = function(self)
          return #self.rows + (self.model and 1 or 0)
        end,
      })
    end,
    ["GET /stream"] = function(event)
      return event:stream(function(write)
        for _ = 1, 10 do
          write(("x"):rep(chance(20000)))
        end
      end)
    end,
    ["GET /rows"] = function(event)
      return event:stream(function(write)
        for row in db:each("SELECT * FROM item") do
          write(row.name .. "\n")
        end
      end)
    end,
    ["GET /events"] = function(event)
      return event:events(function(send)
        for i = 1, 5 do
          send({ i = i })
        end
      end)
    end,
  }
end

local PATHS <const> = { "slow", "item/3", "item/999", "transaction", "graph", "stream", "rows", "events", "nothing" }

-- What a client does.
local function ways(server, api)
  local function path()
    return "/" .. PATHS[chance(#PATHS)]
  end
  return {
    function()
      return api(path(), { query = { list = { 1, 2 }, word = "ü" }, headers = { ["X-Word"] = "a" } })
    end,
    function()
      return allua.timeout(chance() * 0.004, api, path())
    end,
    function()
      local response <close> = api.raw(path())
      for _ in response:chunks() do
        if chance() < 0.2 then
          break
        end
      end
    end,
    function()
      return api("/item", { method = "POST", body = { name = "a", n = chance(100) } })
    end,
    function()
      return api("/item", { method = "POST", form = { name = "a", file = { data = ("y"):rep(chance(5000)) } } })
    end,
    function()
      return allua.all({
        one = function()
          return api(path(), { retry = { attempts = 2, delay = 0 } })
        end,
        two = function(self)
          return self.one
        end,
      })
    end,
    function()
      local task = allua.spawn(pcall, api, path())
      allua.sleep(chance() * 0.002)
      task:cancel("on purpose")
    end,
    function()
      return server.port
    end,
  }
end

local function main()
  local db <close> = allua.db.open("sqlite::memory:")
  db:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, n INTEGER)")
  for i = 1, 20 do
    db:exec("INSERT INTO item (name, n) VALUES (?, 0)", "item " .. i)
  end
  local server = allua.serve({ routes = routes(db) })
  local _ <close> = setmetatable({}, {
    __close = function()
      set_scarce(false)
      server:close(0)
    end,
  })
  local api = allua.fetch.with({ base_url = server.url, timeout = PATIENCE })
  local way = ways(server, api)
  for _ = 1, rounds do
    seen = { begun = 0, committed = 0 }
    db:exec("UPDATE item SET n = 0 WHERE id = 1")
    local late = false
    set_scarce(true)
    for _ = 1, 4 do
      pcall(allua.map, { 1, 2, 3, 4, 5 }, function()
        local _, err = pcall(way[chance(#way)])
        if allua.is_error(err, "FetchError") and err.code == "timeout" then
          late = err
        end
      end)
    end
    set_scarce(false)
    assert(not late, late)
    assert(allua.fetch(server.url .. "/slow", { timeout = 20 }).ok)
    local n = db:one("SELECT n FROM item WHERE id = 1").n
    assert(seen.committed <= n and n <= seen.begun, ("%d <= %d <= %d"):format(seen.committed, n, seen.begun))
  end
end

main()
