-- db: measures allua.db against its peers, prints tables and writes bench/DB.md.
--
--   allua bench/db.lua [--rounds N] [--count PERCENT] [--only TEXT] [--build DIR]
--
-- Each participant is a process of its own that reads a row by its key, or inserts a small one and commits it, for
-- as many tasks as the table says; what it does first, to be warm, does not count. Time is that of the work alone,
-- processor time that of the whole process meanwhile. In each round all take their turn. PostgreSQL's server is
-- pinned to one core, its clients to another; SQLite has both. With --only (workloads whose name holds the text)
-- nothing is written.

local bench = arg[0]:match("^(.*)/") or "."
local process = dofile(bench .. "/process.lua")
local compare = dofile(bench .. "/compare.lua")
package.path = bench .. "/../?.lua;" .. package.path
local postgres = require("spec.support.postgres")
local scratch = require("spec.support.scratch")
local settings = process.options({ rounds = "5", count = "100", only = "", build = bench .. "/../build" })
local rounds = math.tointeger(settings.rounds)
local build, peers = settings.build, settings.build .. "/peers"
local program = build .. "/allua"
local page = compare.page({ rounds = rounds, unit = "query" })

local function wanted(title)
  return title:find(settings.only, 1, true)
end

-- ── what the databases hold ──

local SEED = {
  "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, score DOUBLE PRECISION NOT NULL)",
  "CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
  "CREATE TABLE post (id INTEGER PRIMARY KEY, author_id INTEGER NOT NULL, title TEXT NOT NULL)",
}
local NOTE = {
  sqlite = "CREATE TABLE note (id INTEGER PRIMARY KEY, item INTEGER NOT NULL, body TEXT NOT NULL)",
  postgres = [[CREATE TABLE note (id INTEGER PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    item INTEGER NOT NULL, body TEXT NOT NULL)]],
}

local function seed(url)
  local database <close> = allua.db.open(url)
  database:transaction(function(tx)
    for _, statement in ipairs(SEED) do
      tx:exec(statement)
    end
    tx:exec(NOTE[database.dialect])
    for id = 1, 10000 do
      tx:exec("INSERT INTO item VALUES ($1, $2, $3)", id, "item " .. id, id / 8)
    end
    for id = 1, 100 do
      tx:exec("INSERT INTO author VALUES ($1, $2)", id, "author " .. id)
    end
    for id = 1, 500 do
      tx:exec("INSERT INTO post VALUES ($1, $2, $3)", id, id * 7 % 100 + 1, "post " .. id)
    end
  end)
  if database.dialect == "postgres" then
    database:exec("VACUUM ANALYZE")
  end
end

-- ── clients ──

-- Runs a program that prints numbers: a list of them.
local function numbers(words)
  local text, why = process.capture(table.unpack(words))
  assert(text, why)
  local found = {}
  for number in text:gmatch("%S+") do
    found[#found + 1] = tonumber(number) or error(text, 0)
  end
  return found
end

local function append(list, ...)
  local made = table.move(list, 1, #list, 1, {})
  return table.move({ ... }, 1, select("#", ...), #made + 1, made)
end

local COUNT = { sqlite = { read = 100000, insert = 20000 }, postgres = { read = 20000, insert = 10000 } }

local function clients(url, work, tasks)
  local path, pin = url:match("^sqlite:(.*)"), {}
  local engine = path and "sqlite" or "postgres"
  local count = COUNT[engine][work] * settings.count // 100
  if engine == "postgres" then
    pin = { "taskset", "-c", "1" }
  end
  local allua_client = append(pin, program, bench .. "/db/client.lua", url, work, tasks, count)
  local node = append(pin, "node", bench .. "/db/client.mjs", peers, url, work, tasks, count)
  local bare = append(pin, build .. "/bench/db/" .. engine)
  if engine == "sqlite" then
    return {
      { "allua", append(allua_client, 1) },
      { "better-sqlite3", node },
      { "bare SQLite", append(bare, path, work, count) },
    },
      count
  end
  return {
    { "allua", allua_client },
    { "pg", node },
    { "bare libpq", append(bare, url, work, 0, count) },
    { "bare libpq, pipelined", append(bare, url, work, tasks, count) },
  },
    count
end

local results = {}

local function measure_queries(name, url, work, tasks)
  local title = ("%s: %s, %d task%s"):format(
    name,
    work == "read" and "point reads" or "small inserts",
    tasks,
    tasks == 1 and "" or "s"
  )
  if not wanted(title) then
    return
  end
  local list, count = clients(url, work, tasks)
  local names, words = {}, {}
  for i, client in ipairs(list) do
    names[i], words[client[1]] = client[1], client[2]
  end
  results[title] = page:compare(title, names, function(client)
    local database <close> = allua.db.open(url)
    database:exec("DELETE FROM note")
    local found = numbers(words[client])
    return found[2] / count * 1e6, count / found[1]
  end)
end

local function measure_authors(name, url)
  local title = name .. ": 500 posts, each loads its author"
  if not wanted(title) then
    return
  end
  local values = { yes = { {}, {}, {} }, no = { {}, {}, {} } }
  for round = 1, rounds do
    io.stderr:write(("%s, round %d of %d\n"):format(title, round, rounds))
    for batch, lists in pairs(values) do
      for i, number in ipairs(numbers({ program, bench .. "/db/authors.lua", url, batch })) do
        lists[i][round] = number
      end
    end
  end
  page:say(("\n### %s\n"):format(title))
  page:say("| | queries | ms | ± | ms of processor |")
  page:say("| --- | ---: | ---: | ---: | ---: |")
  for _, batch in ipairs({ "yes", "no" }) do
    local seconds, processor, queries = table.unpack(values[batch])
    page:say(
      ("| %s | %d | %.2f | %.0f %% | %.2f |"):format(
        batch == "yes" and "batching" or "`batch = false`",
        compare.median(queries),
        compare.median(seconds) * 1000,
        compare.spread(seconds) * 100,
        compare.median(processor) * 1000
      )
    )
  end
  local saved = compare.median(values.no[3]) - compare.median(values.yes[3])
  page:say(
    ("\n%d of %d queries saved, %.1f times as fast."):format(
      saved,
      compare.median(values.no[3]),
      compare.median(values.no[1]) / compare.median(values.yes[1])
    )
  )
end

local LONG = {
  sqlite = [[WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < $1 * 1000)
    SELECT count(*) FROM c]],
  postgres = "SELECT count(*) FROM generate_series(1, $1 * 1000)",
}

local function measure_ticker(databases)
  local title = "A ticker of 10 ms beside a query of a second"
  if not wanted(title) then
    return
  end
  page:say(("\n### %s\n"):format(title))
  page:say("| | late at most, without the query, ms | with it, ms | the query, s |")
  page:say("| --- | ---: | ---: | ---: |")
  results[title] = 0
  for _, database in ipairs(databases) do
    local lists = { {}, {}, {} }
    for round = 1, rounds do
      io.stderr:write(("%s, %s, round %d of %d\n"):format(title, database.name, round, rounds))
      local words = { program, bench .. "/db/ticker.lua", database.url, LONG[database.engine] }
      for i, number in ipairs(numbers(words)) do
        lists[i][round] = number
      end
    end
    local with = compare.median(lists[2])
    results[title] = math.max(results[title], with)
    page:say(
      ("| %s | %.2f | %.2f | %.2f |"):format(database.name, compare.median(lists[1]), with, compare.median(lists[3]))
    )
  end
end

-- ── targets ──

local function target(text, measured, met)
  page:say(("| %s | %s | %s |"):format(text, measured, met and "met" or "**missed**"))
end

local function tell_targets()
  page:say("\n### Targets\n")
  page:say("| | measured | |")
  page:say("| --- | --- | --- |")
  for _, work in ipairs({ "point reads", "small inserts" }) do
    local pg = results["PostgreSQL: " .. work .. ", 100 tasks"].pg
    if pg then
      target(
        ("PostgreSQL, %s by 100 tasks: at least 2 times node's pg"):format(work),
        ("%.2f times"):format(1 / pg.rate_ratio),
        pg.rate_ratio <= 0.5
      )
    end
  end
  local bare = results["SQLite: point reads, 100 tasks"]["bare SQLite"].rate_ratio
  target("SQLite, one reader: within 2 times of the C library", ("%.2f times"):format(bare), bare <= 2)
  local late = results["A ticker of 10 ms beside a query of a second"]
  target("A query of a second delays the ticker by less than 5 ms", ("%.2f ms"):format(late), late < 5)
end

-- ── all of it ──

-- The server and what it has started; what it starts later is where it is itself.
local function pin(server)
  local pid = assert(process.capture("sh", "-c", ("head -n 1 %s/data/postmaster.pid"):format(server.path)))
  local children = process.read(("/proc/%s/task/%s/children"):format(pid, pid))
  for id in (pid .. " " .. children):gmatch("%d+") do
    assert(process.capture("taskset", "-cp", "0", id))
  end
end

local folder <close> = scratch.folder()
local server <close> = postgres.start()
pin(server)
local databases = {
  { name = "PostgreSQL", engine = "postgres", url = server.url },
  { name = "SQLite", engine = "sqlite", url = "sqlite:" .. folder:at("bench.db") },
}
for _, database in ipairs(databases) do
  seed(database.url)
  for _, work in ipairs({ "read", "insert" }) do
    for _, tasks in ipairs({ 1, 10, 100 }) do
      measure_queries(database.name, database.url, work, tasks)
    end
  end
  measure_authors(database.name, database.url)
end
measure_ticker(databases)

if settings.only == "" then
  tell_targets()
  local function version(name)
    local text = process.read(("%s/node_modules/%s/package.json"):format(peers, name))
    return text and text:match('"version": "([^"]+)"') or "none"
  end
  page:write(bench .. "/DB.md", {
    "# allua.db against its peers",
    "",
    "Written by `make bench-db`, which says how it measures at the top of `bench/db.lua`.",
    "",
    compare.machine(rounds, ""),
    ("node %s, better-sqlite3 %s, pg %s, PostgreSQL %s."):format(
      process.capture("node", "--version") or "none",
      version("better-sqlite3"),
      version("pg"),
      allua.db.open(server.url):one("SHOW server_version").server_version
    ),
  })
end
