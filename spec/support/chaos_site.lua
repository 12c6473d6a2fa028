-- What the chaos of the web is made of: the routes of a server that asks a database, and what its clients do.
local allua = require("allua")

local site = { PURPOSE = "on purpose" }

-- The server's routes. `seen` counts transactions: begun, and known to be committed; `scale`: 1, or less where all is
-- to be shorter.
function site.routes(db, chance, seen, scale)
  local function nap(most)
    allua.sleep(chance() * most * scale)
  end
  return {
    ["GET /slow"] = function()
      nap(0.02)
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
        nap(0.005)
        if chance() < 0.3 then
          allua.http_error(409, site.PURPOSE)
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
        one = function()
          return db.item:find_unique({ where = { id = chance(50) } })
        end,
        pause = function(self)
          local _ = self.rows
          nap(0.01)
          return 1
        end,
        sum = function(self)
          return self.pause + #self.rows + (self.one and 1 or 0)
        end,
      })
    end,
    ["GET /stream"] = function(event)
      return event:stream(function(write)
        for _ = 1, 40 * scale do
          write(("x"):rep(chance(20000)))
        end
      end)
    end,
    ["GET /rows"] = function(event)
      return event:stream(function(write)
        for row in db:each("SELECT * FROM item LIMIT 300") do
          write(row.name .. "\n")
        end
      end)
    end,
    ["GET /events"] = function(event)
      return event:events(function(send)
        for i = 1, math.ceil(10 * scale) do
          send({ i = i })
          allua.sleep(0.001)
        end
      end)
    end,
    ["GET /refused"] = function()
      allua.http_error(418, site.PURPOSE)
    end,
  }
end

local PATHS =
  { "slow", "item/3", "item/99999", "transaction", "graph", "stream", "rows", "events", "refused", "nothing" }

-- What a client does by `api`, a fetch with the server for its base, each in one of these ways.
function site.ways(api, chance, scale)
  local function path()
    return "/" .. PATHS[chance(#PATHS)]
  end
  return {
    function()
      return api(path(), { query = { list = { 1, 2 }, word = "ü" }, headers = { ["X-Word"] = "a" } })
    end,
    function()
      return allua.timeout(chance() * 0.02 * scale, api, path())
    end,
    function()
      return allua.race({
        fetch = function()
          return api(path())
        end,
        other = function()
          allua.sleep(chance() * 0.01 * scale)
        end,
      })
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
      return allua.all({
        one = function()
          return api(path(), { retry = 1 })
        end,
        two = function(self)
          if chance() < 0.3 then
            error(site.PURPOSE, 0)
          end
          return self.one
        end,
        three = coroutine.wrap(function()
          allua.sleep(chance() * 0.005 * scale)
        end),
      })
    end,
    function()
      local task = allua.spawn(pcall, api, path())
      allua.sleep(chance() * 0.005 * scale)
      task:cancel(site.PURPOSE)
    end,
  }
end

return site
