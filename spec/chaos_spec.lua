-- Everything at once: a server whose handlers ask a database and each other, and clients that leave at any moment.
-- What a run does depends on its seed, as far as the order in which replies come does not; ALLUA_CHAOS_SEED gives
-- another.
local allua = require("allua")
local postgres = require("spec.support.postgres")
local scratch = require("spec.support.scratch")
local site = require("spec.support.chaos_site")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local PURPOSE <const> = site.PURPOSE

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
  local server = allua.serve({ routes = site.routes(db, chance, seen, 1) })
  local _ <close> = setmetatable({}, {
    __close = function()
      server:close(0)
    end,
  })
  local way = site.ways(allua.fetch.with({ base_url = server.url, timeout = 60 }), chance, 1)
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
