-- Everything at once: a server whose handlers ask a database and each other, and clients that leave at any moment.
-- What a run does depends on its seed, as far as the order in which replies come does not; ALLUA_CHAOS_SEED gives
-- another.
local allua = require("allua")
local scratch = require("spec.support.scratch")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local PURPOSE = "on purpose"

-- The server's routes. `seen` counts transactions: begun, and known to be committed.
local function routes(db, chance, seen)
  local function nap(most)
    allua.sleep(chance() * most)
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
          allua.http_error(409, PURPOSE)
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
        pause = function(self)
          local _ = self.rows
          nap(0.01)
          return 1
        end,
        sum = function(self)
          return self.pause + #self.rows
        end,
      })
    end,
    ["GET /stream"] = function(event)
      return event:stream(function(write)
        for _ = 1, 40 do
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
        for i = 1, 10 do
          send({ i = i })
          allua.sleep(0.001)
        end
      end)
    end,
    ["GET /refused"] = function()
      allua.http_error(418, PURPOSE)
    end,
  }
end

local PATHS =
  { "slow", "item/3", "item/99999", "transaction", "graph", "stream", "rows", "events", "refused", "nothing" }

-- What a client does, each in one of these ways.
local function ways(base, chance)
  local function url()
    return base .. "/" .. PATHS[chance(#PATHS)]
  end
  return {
    function()
      return allua.fetch(url(), { query = { list = { 1, 2 }, word = "ü" }, headers = { ["X-Word"] = "a" } })
    end,
    function()
      return allua.timeout(chance() * 0.02, allua.fetch, url())
    end,
    function()
      return allua.race({
        fetch = function()
          return allua.fetch(url())
        end,
        other = function()
          allua.sleep(chance() * 0.01)
        end,
      })
    end,
    function()
      local response <close> = allua.fetch.raw(url())
      for _ in response:chunks() do
        if chance() < 0.2 then
          break
        end
      end
    end,
    function()
      return allua.fetch(base .. "/item", { method = "POST", body = { name = "a", n = chance(100) }, timeout = 60 })
    end,
    function()
      return allua.all({
        one = function()
          return allua.fetch(url(), { retry = 1 })
        end,
        two = function(self)
          if chance() < 0.3 then
            error(PURPOSE, 0)
          end
          return self.one
        end,
        three = coroutine.wrap(function()
          allua.sleep(chance() * 0.005)
        end),
      })
    end,
    function()
      local task = allua.spawn(pcall, allua.fetch, url())
      allua.sleep(chance() * 0.005)
      task:cancel(PURPOSE)
    end,
  }
end

-- Whether an error may come of what was done.
local function is_expected(err)
  return err == PURPOSE
    or allua.is_error(err, "TimeoutError")
    or allua.is_error(err, "FetchError") and (err.status == 404 or err.status == 409 or err.status == 418)
end

-- `count` times one of the ways, 40 at a time.
local function run(seed, count)
  local folder <close> = scratch.folder()
  local chance = math.random
  math.randomseed(seed)
  local db <close> = allua.db.open("sqlite:" .. folder.path .. "/chaos.db", { readers = 2 })
  db:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, n INTEGER)")
  for i = 1, 50 do
    db:exec("INSERT INTO item (name, n) VALUES (?, 0)", "item " .. i)
  end
  local seen = { begun = 0, committed = 0 }
  local server = allua.serve({ routes = routes(db, chance, seen) })
  local _ <close> = setmetatable({}, {
    __close = function()
      server:close(0)
    end,
  })
  local way = ways(server.url, chance)
  local unexpected, numbers = {}, {}
  for i = 1, count do
    numbers[i] = i
  end
  allua.map(numbers, function()
    local ok, err = pcall(way[chance(#way)])
    if not ok and not is_expected(err) then
      unexpected[#unexpected + 1] = tostring(err)
    end
  end, { concurrency = 40 })
  assert.same({}, unexpected)
  assert.is_true(allua.fetch(server.url .. "/slow").ok)
  -- One that was cancelled while it committed may have, without a word.
  local n = db:one("SELECT n FROM item WHERE id = 1").n
  assert.is_true(seen.committed <= n and n <= seen.begun, ("%d <= %d <= %d"):format(seen.committed, n, seen.begun))
end

describe("chaos", function()
  setup(function()
    run(0, 100) -- what is loaded when it is first used is no leak
  end)

  local given = math.tointeger(os.getenv("ALLUA_CHAOS_SEED"))
  for _, seed in ipairs(given and { given } or { 1, 2, 3 }) do
    it("leaves nothing behind and spoils nothing, seed " .. seed, function()
      run(seed, size.of(1500))
    end)
  end
end)
