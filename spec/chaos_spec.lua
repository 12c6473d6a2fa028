-- Everything at once: a server whose handlers ask a database and each other, and clients that leave at any moment.
-- What a run does depends on its seed, as far as the order in which replies come does not; ALLUA_CHAOS_SEED gives
-- another.
local allua = require("allua")
local postgres = require("spec.support.postgres")
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

-- Calls fn so many times, 40 at a time: it fails only as expected.
local function spoil(count, fn)
  local unexpected, numbers = {}, {}
  for i = 1, count do
    numbers[i] = i
  end
  allua.map(numbers, function()
    local ok, err = pcall(fn)
    if not ok and not is_expected(err) then
      unexpected[#unexpected + 1] = tostring(err)
    end
  end, { concurrency = 40 })
  assert.same({}, unexpected)
end

-- Each transaction that is known to be committed is; one that was cancelled while it committed may be.
local function check(db, seen)
  local n = db:one("SELECT n FROM item WHERE id = 1").n
  assert.is_true(seen.committed <= n and n <= seen.begun, ("%d <= %d <= %d"):format(seen.committed, n, seen.begun))
end

local function serve(seed, count)
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
  spoil(count, function()
    way[chance(#way)]()
  end)
  assert.is_true(allua.fetch(server.url .. "/slow").ok)
  check(db, seen)
end

-- What is asked of a PostgreSQL database.
local function questions(db, chance, seen)
  return {
    function()
      return db:one("SELECT * FROM item WHERE id = $1", chance(60))
    end,
    function()
      return db.item:find_unique({ where = { id = chance(50) } })
    end,
    function()
      return db:exec("INSERT INTO item (name, n) VALUES ($1, 0)", "x")
    end,
    function()
      seen.begun = seen.begun + 1
      db:transaction(function(tx)
        tx:exec("UPDATE item SET n = n + 1 WHERE id = 1")
        allua.sleep(chance() * 0.002)
        if chance() < 0.3 then
          error(PURPOSE, 0)
        end
      end)
      seen.committed = seen.committed + 1
    end,
    function()
      db:query("SELECT pg_sleep($1::float8)", chance() * 0.01)
    end,
    function()
      for _ in db:each("SELECT generate_series(1, 1000) AS x") do
        if chance() < 0.004 then
          break
        end
      end
    end,
    function()
      local ok, err = pcall(db.query, db, "SELECT 1 / (id - id) FROM item")
      error(not ok and err.code == "22012" and PURPOSE or err, 0)
    end,
    function()
      local row = db:one("SELECT length($1::text) AS n", ("z"):rep(chance(100000)))
      assert.is_true(row.n > 0)
    end,
    function()
      return allua.all({
        one = function()
          return db:one("SELECT 1 AS x")
        end,
        two = function(self)
          return db:one("SELECT $1::int + 1 AS y", self.one.x)
        end,
        nap = function()
          allua.sleep(chance() * 0.003)
        end,
      })
    end,
  }
end

local function ask(server, seed, count)
  local chance = math.random
  math.randomseed(seed)
  local db <close> = allua.db.open(server.url, { connections = 6 })
  db:exec("DROP TABLE IF EXISTS item")
  db:exec("CREATE TABLE item (id serial PRIMARY KEY, name text, n int)")
  db:exec("INSERT INTO item (name, n) SELECT 'item ' || g, 0 FROM generate_series(1, 50) AS g")
  local seen = { begun = 0, committed = 0 }
  local question = questions(db, chance, seen)
  spoil(count, function()
    local asked, way = question[chance(#question)], chance(4)
    if way == 1 then
      allua.timeout(chance() * 0.01, asked)
    elseif way == 2 then
      allua.race({
        asked,
        function()
          for _ = 1, chance(12) do
            allua.sleep(0)
          end
        end,
      })
    else
      asked()
    end
  end)
  check(db, seen)
  local left = db:one([[SELECT count(*) AS n FROM pg_stat_activity
    WHERE state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()]])
  assert.equal(0, left.n)
end

describe("chaos", function()
  local server

  setup(function()
    server = postgres.start()
    -- What is loaded when it is first used is no leak.
    serve(0, 100)
    ask(server, 0, 100)
  end)

  teardown(function()
    server:__close()
  end)

  local given = math.tointeger(os.getenv("ALLUA_CHAOS_SEED"))
  for _, seed in ipairs(given and { given } or { 1, 2, 3 }) do
    it("leaves nothing behind and spoils nothing, seed " .. seed, function()
      serve(seed, size.of(1500))
    end)

    it("of PostgreSQL's leaves nothing behind and spoils nothing, seed " .. seed, function()
      ask(server, seed, size.of(1000))
    end)
  end
end)
