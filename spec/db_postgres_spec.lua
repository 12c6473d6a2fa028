-- allua.db with PostgreSQL: a real server, its values, its failures, and a pool that loses nothing.

local allua = require("allua")
local db = require("allua.db")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local postgres = require("spec.support.postgres")
local scratch = require("spec.support.scratch")
local size = require("spec.support.size")
local ticker = require("spec.support.ticker")

require("spec.support.leftovers")()

local _ = allua.fetch -- loaded here, so that it is not counted as left over

local server

local function with(fn, options)
  local database <close> = db.open(server.url, options)
  database:exec("DROP TABLE IF EXISTS post, item")
  database:exec([[CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE, price float8, data jsonb,
    tags text[], bytes bytea)]])
  fn(database)
end

local function count(database)
  return database:one("SELECT count(*) AS n FROM item").n
end

describe("db with PostgreSQL", function()
  setup(function()
    server = postgres.start()
  end)

  teardown(function()
    server:__close()
  end)

  it("gives each type its form in Lua", function()
    with(function(database)
      local row = database:one([[SELECT 7 AS i, 9223372036854775807 AS big, 1.0::float8 AS f, 'NaN'::float4 AS nan,
        '-Infinity'::float8 AS low, true AS yes, NULL AS none, 'ü' AS t, '\x00ff'::bytea AS b, 12.50 AS num,
        '{"a":[1,null],"b":{}}'::jsonb AS j, '2026-01-02 03:04:05+00'::timestamptz AT TIME ZONE 'UTC' AS at,
        'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid AS id]])
      assert.equal("integer", math.type(row.i))
      assert.equal(math.maxinteger, row.big)
      assert.equal("float", math.type(row.f))
      assert.is_true(row.nan ~= row.nan)
      assert.equal(-math.huge, row.low)
      assert.same({ true, nil, "ü", "\0\255", "12.50" }, { row.yes, row.none, row.t, row.b, row.num })
      assert.equal(1, row.j.a[1])
      assert.equal(allua.null, row.j.a[2])
      assert.equal("2026-01-02 03:04:05", row.at)
      assert.equal("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", row.id)
      assert.equal(13, #db.columns(row))
    end)
  end)

  it("gives arrays as lists, of every kind and depth", function()
    with(function(database)
      local row = database:one([==[SELECT ARRAY[1, NULL, -3] AS i, ARRAY[['a b', 'c"d'], ['e\f', 'NULL']] AS t,
        ARRAY[]::int[] AS none, ARRAY['{"x":1}']::jsonb[] AS j, ARRAY['\x00']::bytea[] AS b, ARRAY[true] AS yes,
        '[5:6]={1.5,2}'::float8[] AS f, ARRAY['{,}', ''] AS odd]==])
      assert.same({ 1, allua.null, -3 }, row.i)
      assert.same({ { "a b", 'c"d' }, { "e\\f", "NULL" } }, row.t)
      assert.same({}, row.none)
      assert.equal(1, row.j[1].x)
      assert.same({ "\0" }, row.b)
      assert.same({ true }, row.yes)
      assert.same({ 1.5, 2.0 }, row.f)
      assert.same({ "{,}", "" }, row.odd)
    end)
  end)

  it("takes back what it gave: bytes, JSON, lists, special numbers", function()
    with(function(database)
      local data = { a = { 1, allua.null, "ü" }, deep = { b = true } }
      local tags = { "p", 'q"\\,{}', "NULL", "", allua.null }
      database:exec(
        "INSERT INTO item (name, price, data, tags, bytes) VALUES (:n, :p, :d, :t, :b)",
        { n = "a'\";--", p = -math.huge, d = data, t = tags, b = db.blob("\0\1\255") }
      )
      local row = database:one("SELECT * FROM item")
      assert.same({ "a'\";--", -math.huge, "\0\1\255" }, { row.name, row.price, row.bytes })
      assert.same(tags, row.tags)
      assert.same({ 1, allua.null, "ü" }, row.data.a)
      database:exec("UPDATE item SET data = $1, tags = $2", row.data, row.tags)
      assert.same(row, database:one("SELECT * FROM item"))
      assert.equal(1, database:one("SELECT count(*) AS n FROM item WHERE id = ANY($1)", { row.id, 99 }).n)
      assert.matches(
        "neither JSON nor an array",
        tostring(errors.raised(database.exec, database, "UPDATE item SET name = $1", {}))
      )
      assert.matches("holds a NUL", tostring(errors.raised(database.exec, database, "UPDATE item SET name = $1", "\0")))
    end)
  end)

  it("takes back each kind of value, and lists of it, as it gave them", function()
    -- kind = how PostgreSQL writes the values
    local kinds = {
      smallint = { "-32768", "7" },
      integer = { "-2147483648", "0" },
      bigint = { "-9223372036854775808", "9223372036854775807" },
      real = { "0.1", "-Infinity", "1e-30" },
      ["double precision"] = { "0.1", "1e308", "Infinity", "5e-324" },
      boolean = { "true", "false" },
      numeric = { "12345678901234567890.123456789012345678", "-0.10", "NaN" },
      text = { "", "a b", "NULL", [[q"\'{},]], "ü" },
      uuid = { "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" },
      date = { "2026-02-28", "0044-03-15 BC", "infinity" },
      time = { "23:59:59.999999" },
      timestamp = { "2026-01-02 03:04:05.678901", "-infinity" },
      timestamptz = { "2026-01-02 03:04:05+05:30" },
      interval = { "1 year 2 mons -3 days 04:05:06.7" },
      bytea = { [[\x]], [[\x00ff5c27]] },
      jsonb = { [[{"a": [1, null, {}], "b": []}]], "12.5" },
      json = { "[1, 2]", "[true, false]" },
    }
    with(function(database)
      for kind, values in pairs(kinds) do
        local made = {}
        for i, value in ipairs(values) do
          made[i] = database:one(("SELECT $1::text::%s AS v"):format(kind), value).v
          -- As text both are the same, so that nothing is lost on the way to Lua and back.
          local same = ("SELECT $1::%s::text AS there, $2::text::%s::text AS here"):format(kind, kind)
          local back = kind == "bytea" and db.blob(made[i]) or made[i]
          local row = database:one(same, back, value)
          if kind == "json" then
            row.here = row.here:gsub(" ", "")
          end
          assert.equal(row.here, row.there, kind)
        end
        if not kind:find("json") then
          assert.same(made, database:one(("SELECT $1::%s[] AS v"):format(kind), made).v, kind)
        end
      end
    end)
  end)

  it("reads parameters by PostgreSQL's own rules of text", function()
    with(function(database)
      local row = database:one(
        [[SELECT :a::int AS a, 'x:no' AS b, E'it\'s :no' AS c, $q$ :no $1 $q$ AS d,
        '{"k":1}'::jsonb ? 'k' AS e, /* :no /* $1 */ ? */ "f:no" AS f FROM (SELECT 1 AS "f:no") s -- :no]],
        { a = 5 }
      )
      assert.same({ 5, "x:no", "it's :no", " :no $1 ", true, 1 }, { row.a, row.b, row.c, row.d, row.e, row.f })
      assert.matches(
        "wants 2 parameters %(got 1%)",
        tostring(errors.raised(database.query, database, "SELECT $1, $2", 1))
      )
      assert.matches("one kind only", tostring(errors.raised(database.query, database, "SELECT $1, :a", 1)))
    end)
  end)

  it("tells what is wrong, with the code, the constraint, the statement and the line", function()
    with(function(database)
      database:exec("INSERT INTO item (name) VALUES ('a')")
      local line = debug.getinfo(1, "l").currentline + 2
      local err = errors.raised(function()
        return database:exec("INSERT INTO item (name) VALUES ($1)", "a")
      end)
      assert.is_true(allua.is_error(err, "DbError"))
      assert.same({ "23505", "item_name_key" }, { err.code, err.constraint })
      assert.equal("INSERT INTO item (name) VALUES ($1)", err.sql)
      assert.equal(("spec/db_postgres_spec.lua:%d"):format(line), err.where)
      assert.equal("42703", errors.raised(database.query, database, "SELECT nme FROM item").code)
      assert.equal("42601", errors.raised(database.query, database, "SELEC").code)
      assert.equal("0A000", errors.raised(database.exec, database, "COPY item TO STDOUT").code)
      assert.equal(1, count(database))
    end)
  end)

  it("names no password, and what cannot be opened", function()
    local where = ("127.0.0.1:%d/nowhere"):format(server.port)
    local err = errors.raised(db.open, "postgres://postgres:secret@" .. where)
    assert.matches('database "nowhere" does not exist', tostring(err))
    assert.is_nil(tostring(err):find("secret", 1, true))
    err = errors.raised(db.open, "postgres://me:secret@h:port/x")
    assert.is_nil(tostring(err):find("secret", 1, true))
    assert.matches("refused", tostring(errors.raised(db.open, "postgres://127.0.0.1:1/x")))
    assert.matches(
      'unknown option "conections".-"connections"',
      tostring(errors.raised(db.open, server.url, { conections = 1 }))
    )
  end)

  it("fetches no more rows ahead than a few hundred, however slow the loop is", function()
    with(function(database)
      database:exec("CREATE SEQUENCE made")
      local seen = 0
      for row in database:each("SELECT nextval('made') AS n FROM generate_series(1, 1000000)") do
        seen = seen + 1
        assert.equal(seen, row.n)
        if seen % 100 == 0 then -- how many the server has made
          local made = database:one("SELECT last_value AS n FROM made").n
          assert.is_true(made >= seen and made < seen + 256, made)
        end
        if seen == 1000 then
          break
        end
      end
      database:exec("DROP SEQUENCE made")
    end)
  end)

  it("delays a ticker no more by a long query than by none", function()
    with(function(database)
      ticker.check(function()
        assert.equal(0, #database:query("SELECT FROM pg_sleep(0.5) WHERE false"))
        assert.equal(1000000, database:one("SELECT count(*) AS n FROM generate_series(1, 1000000)").n)
      end)
    end)
  end)

  it("leaves the loop free, and ends a query whose task is cancelled", function()
    with(function(database)
      local latest, began = 0, allua.now()
      allua.all({
        ticker = function()
          for _ = 1, 30 do
            local before = allua.now()
            allua.sleep(0.01)
            latest = math.max(latest, allua.now() - before - 0.01)
          end
        end,
        query = function()
          local err = errors.raised(allua.timeout, 0.2, database.query, database, "SELECT pg_sleep(60)")
          assert.is_true(allua.is_error(err, "TimeoutError"))
        end,
      })
      assert.is_true(latest < size.seconds(5), latest)
      assert.equal(0, count(database)) -- the one connection there is, well again
      assert.is_true(allua.now() - began < size.seconds(20))
    end, { connections = 1 })
  end)

  it("runs many tasks' queries on few connections, each with its own result", function()
    with(function(database)
      database:one("SELECT $1::int AS n", 0) -- known to be quick
      local list = {}
      for i = 1, 100 do
        list[i] = i
      end
      local got = allua.map(list, function(i)
        return database:one("SELECT $1::int AS n", i).n
      end)
      assert.same(list, got)
      -- What is cancelled among them harms nobody else.
      local some = allua.map(list, function(i)
        if i % 10 == 0 then
          pcall(allua.timeout, 0.001, database.one, database, "SELECT $1::int AS n", i)
          return i
        end
        return database:one("SELECT $1::int AS n", i).n
      end)
      assert.same(list, some)
      local sessions = database:one("SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'allua'").n
      assert.is_true(sessions <= 3)
    end, { connections = 3 })
  end)

  it("answers every read where many come while connections are shared", function()
    with(function(database)
      local function read(n)
        return database:one("SELECT $1::int AS n", n).n
      end
      local alone = allua.map({ 1, 2 }, read) -- both connections are there, and such reads are known to be quick
      local list = {}
      for n = 1, size.of(300) do
        list[n] = n
      end
      -- Each begins when another has been answered, so that connections are found in use but not by many.
      local answered = allua.map(list, function(n)
        local sum = 0
        for i = 1, n % 5 + 1 do
          sum = sum + read(n * 10 + i) - n * 10
          allua.yield()
        end
        return sum
      end, { concurrency = 7 })
      for n, sum in ipairs(answered) do
        assert.equal((n % 5 + 1) * (n % 5 + 2) // 2, sum)
      end
      assert.same({ 1, 2 }, alone)
      assert.same({ 5, 6 }, allua.map({ 5, 6 }, read))
    end, { connections = 2 })
  end)

  it("lets what waits for a lock hold up nobody behind it", function()
    with(function(database)
      local raise = "UPDATE item SET price = price + 1 WHERE name = $1"
      local add = "INSERT INTO item (name, price) VALUES ($1, 0)"
      database:exec(add, "b")
      database:exec(add, "a")
      repeat -- until both are known to be quick
        database:exec("DELETE FROM item WHERE name = 'c'")
        database:exec(add, "c")
        database:exec(raise, "c")
      until database.driver.quick[raise] and database.driver.quick[add]
      local list = {}
      for i = 1, 10 do
        list[i] = i
      end
      local blocked
      database:transaction(function(tx)
        tx:exec(raise, "a")
        blocked = allua.spawn(database.exec, database, raise, "a")
        allua.yield()
        -- The other connection is the blocked one's, so these are sent behind it. One of them fails, alone.
        local added = allua.map(list, function(i)
          return pcall(database.exec, database, add, i == 5 and "b" or "new " .. i)
        end)
        for i = 1, 10 do
          assert.equal(i ~= 5, added[i])
        end
        assert.equal("pending", blocked.status)
      end)
      assert.equal(1, (blocked:await()))
      assert.equal(2, database:one("SELECT price FROM item WHERE name = 'a'").price)
      assert.equal(12, count(database))
    end, { connections = 2 })
  end)

  it("streams rows, and ends the query when the loop is left", function()
    with(function(database)
      local sum = 0
      for row in database:each("SELECT g FROM generate_series(1, $1::int) AS g", 1000) do
        sum = sum + row.g
      end
      assert.equal(500500, sum)
      for row in database:each("SELECT generate_series(1, 1000000000) AS g") do
        if row.g == 5 then
          break
        end
      end
      database:transaction(function(tx)
        for outer in tx:each("SELECT g FROM generate_series(1, 3) AS g") do
          for inner in tx:each("SELECT g FROM generate_series(1, 1000) AS g") do
            sum = sum + outer.g * inner.g
            break
          end
        end
        tx:exec("INSERT INTO item (name) VALUES ('after')")
      end)
      assert.equal(500506, sum)
      assert.equal(1, count(database))
    end, { connections = 1 })
  end)

  it("streams rows on a connection where a query that was cancelled has not ended yet", function()
    with(function(database)
      for _ = 1, 20 do
        errors.raised(allua.timeout, 0, database.query, database, "SELECT pg_sleep(100)")
        local seen = 0
        for row in database:each("SELECT generate_series(1, 300) AS x") do
          seen = seen + row.x
        end
        assert.equal(45150, seen)
      end
      local n = database:transaction(function(tx)
        tx:exec("INSERT INTO item (name) VALUES ('kept')")
        for row in tx:each("SELECT 1 AS x") do
          assert.equal(1, row.x)
        end
        return count(tx)
      end)
      assert.equal(n, count(database))
    end, { connections = 1 })
  end)

  it("commits, rolls back what raises or is cancelled, and has savepoints", function()
    with(function(database)
      assert.equal(1, (database:transaction(function(tx)
        tx:exec("INSERT INTO item (name) VALUES ('a')")
        return count(tx)
      end)))
      local own = { "own" }
      assert.equal(
        own,
        errors.raised(database.transaction, database, function(tx)
          tx:exec("INSERT INTO item (name) VALUES ('b')")
          error(own)
        end)
      )
      errors.raised(allua.timeout, 0.1, database.transaction, database, function(tx)
        tx:exec("INSERT INTO item (name) VALUES ('c')")
        tx:query("SELECT pg_sleep(60)")
      end)
      assert.equal(1, count(database))
      local kept
      database:transaction(function(tx)
        kept = tx
        pcall(tx.transaction, tx, function(inner)
          inner:exec("INSERT INTO item (name) VALUES ('a')")
        end)
        tx:exec("INSERT INTO item (name) VALUES ('d')")
      end)
      assert.equal(2, count(database))
      assert.matches("over", tostring(errors.raised(kept.query, kept, "SELECT 1")))
      -- An error that is caught spoils the whole, which COMMIT alone would not tell.
      local err = errors.raised(database.transaction, database, function(tx)
        tx:exec("INSERT INTO item (name) VALUES ('e')")
        pcall(tx.exec, tx, "nonsense")
      end)
      assert.equal("25P02", err.code)
      assert.equal(2, count(database))
    end, { connections = 2 })
  end)

  it("loses no write to a transaction that was cancelled as it began", function()
    with(function(database)
      for i = 1, size.of(20) do
        local task = allua.spawn(pcall, database.transaction, database, function()
          allua.sleep(60)
        end)
        local cursor = allua.spawn(pcall, function()
          for _ in database:each("SELECT 1") do
            allua.sleep(60)
          end
        end)
        for _ = 1, i % 3 do
          allua.yield()
        end
        task:cancel()
        cursor:cancel()
        database:exec("INSERT INTO item (name) VALUES ($1)", "kept " .. i)
        pcall(task.await, task)
        pcall(cursor.await, cursor)
        assert.equal(i, count(database))
      end
    end, { connections = 1 })
  end)

  it("has transactions of each isolation, for reading only, too", function()
    with(function(database)
      local show = [[SELECT current_setting('transaction_isolation') AS isolation,
        current_setting('transaction_read_only') AS read_only,
        current_setting('transaction_deferrable') AS deferrable]]
      for _, isolation in ipairs({ "read uncommitted", "read committed", "repeatable read", "serializable" }) do
        local shown = database:transaction(function(tx)
          return tx:one(show)
        end, { isolation = isolation })
        assert.same({ isolation = isolation, read_only = "off", deferrable = "off" }, shown)
      end
      database:transaction(function(tx)
        local expected = { isolation = "serializable", read_only = "on", deferrable = "on" }
        assert.same(expected, tx:one(show))
        local err = errors.raised(tx.transaction, tx, function(inner)
          inner:exec("INSERT INTO item (name) VALUES ('a')")
        end)
        assert.equal("25006", err.code)
      end, { isolation = "serializable", read_only = true, deferrable = true })
      local refused = errors.raised(database.transaction, database, print, { immediate = true })
      assert.matches('unknown option "immediate"', refused)
    end)
  end)

  it("tells transactions that cannot be serialized, which may be tried again", function()
    with(function(database)
      database:exec("INSERT INTO item (name, price) VALUES ('a', 0), ('b', 0)")
      local tries, met = 0, allua.promise()
      local function withdraw(name, meet)
        return allua.retry(function()
          database:transaction(function(tx)
            tries = tries + 1
            if tx:one("SELECT sum(price) AS sum FROM item").sum >= 0 then
              meet()
              tx:exec("UPDATE item SET price = price - 1 WHERE name = $1", name)
            end
          end, { isolation = "serializable" })
        end, {
          delay = 0,
          when = function(err)
            return err.code == "40001"
          end,
        })
      end
      local waiting = 2
      local function meet()
        waiting = waiting - 1
        if waiting <= 0 then
          met:resolve()
        end
        met:await()
      end
      allua.all({
        function()
          withdraw("a", meet)
        end,
        function()
          withdraw("b", meet)
        end,
      })
      assert.equal(-1, database:one("SELECT sum(price) AS sum FROM item").sum)
      assert.equal(3, tries)
    end)
  end)

  it("serves who waits in order, and whoever is cancelled leaves the queue", function()
    with(function(database)
      local order = {}
      allua.all({
        function()
          database:transaction(function()
            allua.sleep(0.1)
          end)
        end,
        function()
          allua.sleep(0.01)
          database:exec("UPDATE item SET price = 1")
          order[#order + 1] = 1
        end,
        function()
          allua.sleep(0.02)
          pcall(allua.timeout, 0.02, database.exec, database, "UPDATE item SET price = 2")
        end,
        function()
          allua.sleep(0.03)
          database:exec("UPDATE item SET price = 3")
          order[#order + 1] = 2
        end,
      })
      assert.same({ 1, 2 }, order)
    end, { connections = 1 })
  end)

  it("prepares anew where a table has changed", function()
    with(function(database)
      database:exec("INSERT INTO item (name) VALUES ('a')")
      assert.equal(6, #db.columns(database:one("SELECT * FROM item")))
      database:exec("ALTER TABLE item ADD COLUMN more int")
      assert.equal(7, #db.columns(database:one("SELECT * FROM item")))
      database:exec("DEALLOCATE ALL")
      assert.equal(7, #db.columns(database:one("SELECT * FROM item")))
    end, { connections = 1 })
  end)

  it("prepares anew for all who share a connection", function()
    with(function(database)
      database:exec("INSERT INTO item (name) VALUES ('a')")
      local readers = {}
      for i = 1, 12 do
        readers[i] = function()
          return #db.columns(database:one("SELECT * FROM item"))
        end
      end
      for columns = 6, 9 do
        for _ = 1, 2 do -- the first time on connections of their own, until they are known to be quick
          for _, found in ipairs(allua.all(readers)) do
            assert.equal(columns, found)
          end
        end
        database:exec("ALTER TABLE item ADD COLUMN more" .. columns .. " int")
      end
    end, { connections = 1 })
  end)

  it("survives its sessions being terminated and its server being restarted", function()
    with(function(database)
      local root <close> = db.open(server.url, { connections = 1 })
      local err = errors.raised(allua.all, {
        function()
          database:query("SELECT pg_sleep(60)")
        end,
        function()
          repeat
            local rows = root:query([[SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE application_name = 'allua' AND state = 'active' AND query LIKE 'SELECT pg_sleep%']])
          until rows[1]
        end,
      })
      assert.equal("57P01", err.code)
      assert.equal(0, count(database))
      local failed
      assert.equal(
        "give up",
        errors.raised(database.transaction, database, function(tx)
          tx:exec("INSERT INTO item (name) VALUES ('lost')")
          server:stop()
          failed = errors.raised(tx.query, tx, "SELECT 1")
          server:start()
          error("give up", 0)
        end)
      )
      assert.is_true(allua.is_error(failed, "DbError"))
      assert.equal(0, count(database))
    end, { connections = 2 })
  end)

  it("connects again when the server comes back", function()
    with(function(database)
      server:stop()
      local counted = allua.all({
        n = function()
          return count(database)
        end,
        up = function()
          allua.sleep(0.3)
          server:start()
        end,
      })
      assert.equal(0, counted.n)
    end, { connections = 2, reconnect = 60 })
  end)

  it("has models and migrations as SQLite has", function()
    with(function(database)
      database:exec("CREATE TABLE post (id serial PRIMARY KEY, author_id int REFERENCES item (id), title text)")
      local a = database.item:create({ data = { name = "a", data = { x = 1 }, tags = { "t" } } })
      local b = database.item:upsert({ where = { name = "b" }, create = { price = 1.5 }, update = {} })
      assert.equal(2, database.item:count())
      assert.equal(
        3,
        database.post:create_many({
          data = {
            { author_id = a.id, title = "p" },
            { author_id = b.id, title = "q" },
            { author_id = a.id, title = "r%" },
          },
        })
      )
      local posts = database.post:find_many({ where = { title = { gt = "p" } }, order_by = { id = "desc" } })
      assert.same({ "r%", "q" }, { posts[1].title, posts[2].title })
      local names = allua.map(posts, function(post)
        return database.item:find_unique({ where = { id = post.author_id } }).name
      end)
      assert.same({ "a", "b" }, names)
      assert.equal("c", database.item:update({ where = { id = b.id }, data = { name = "c" } }).name)
      assert.equal(3, database.post:delete_many())
      assert.matches(
        'unknown column "nme".-"name"',
        tostring(errors.raised(database.item.find_first, database.item, { where = { nme = 1 } }))
      )
      assert.same({ { "id" }, { "name" } }, database:schema().item.unique)
      assert.equal(2, #database.item:find_many({ skip = 0, take = 5 }))
    end)
  end)

  it("asks for many rows by one statement, however many they are, by keys of any type", function()
    with(function(database)
      database:exec("CREATE TYPE mood AS ENUM ('sad', 'it''s', 'a,b')")
      database:exec(
        [[CREATE TABLE keyed (id int UNIQUE, big bigint UNIQUE, fixed char(4) UNIQUE, short varchar(9) UNIQUE,
        number numeric UNIQUE, float float8 UNIQUE, uuid uuid UNIQUE, at timestamptz UNIQUE, day date UNIQUE,
        mood mood UNIQUE, flag bool UNIQUE, bytes bytea UNIQUE, allua_key text UNIQUE)]]
      )
      local values = {
        id = 7,
        big = math.maxinteger,
        fixed = "ab",
        short = 'q"\\{',
        number = "1.50",
        float = 0.1,
        uuid = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        at = "2026-01-02 03:04:05+00",
        day = "2026-01-02",
        mood = "a,b",
        flag = false,
        bytes = db.blob("\0{"),
        allua_key = "NULL",
      }
      local made = database.keyed:create({ data = values })
      local found = {}
      for name, value in pairs(values) do
        found[name] = function()
          return database.keyed:find_unique({ where = { [name] = value } })
        end
        assert.equal(1, database.keyed:count({ where = { [name] = { any = { value } } } }), name)
        assert.equal(0, database.keyed:count({ where = { [name] = { none = { value } } } }), name)
      end
      for name, row in pairs(allua.all(found)) do
        assert.same(made, row, name)
        assert.same(db.columns(made), db.columns(row))
      end
      database:exec("DROP TABLE keyed")
      database:exec("DROP TYPE mood")
      local items = database.item
      for length = 1, 30 do
        local list = {}
        for i = 1, length do
          list[i] = i
        end
        allua.map(list, function(id)
          return items:find_unique({ where = { id = id } })
        end)
        items:find_many({ where = { id = { any = list } } })
      end
      local kept = [[SELECT count(*) AS n FROM pg_prepared_statements
        WHERE statement LIKE '%"item"%' AND statement NOT LIKE '%prepared%']]
      assert.equal(2, database:one(kept).n)
    end, { connections = 1 })
  end)

  it("fails of a batch only who asked for what cannot be", function()
    with(function(database)
      database:exec("INSERT INTO item (name) VALUES ('a')")
      local id = database:one("SELECT id FROM item").id
      local outcome = allua.all_settled({
        good = function()
          return database.item:find_unique({ where = { id = id } })
        end,
        none = function()
          return database.item:find_unique({ where = { id = id + 1 } })
        end,
        bad = function()
          return database.item:find_unique({ where = { id = "x" } })
        end,
        large = function()
          return database.item:find_unique({ where = { id = math.maxinteger } })
        end,
        text = function()
          return database.item:find_unique({ where = { id = tostring(id) } })
        end,
      })
      assert.same({ "a", "a" }, { outcome.good.value.name, outcome.text.value.name })
      assert.same({ "fulfilled", nil }, { outcome.none.status, outcome.none.value })
      assert.same({ "22P02", "22003" }, { outcome.bad.reason.code, outcome.large.reason.code })
      assert.matches("db_postgres_spec", outcome.bad.reason.where)
    end, { connections = 1 })
  end)

  it("migrates, with several programs at once, each file whole or not at all", function()
    with(function(database)
      local folder <close> = scratch.folder({
        ["1_a.sql"] = "CREATE TABLE moved (id int); INSERT INTO moved VALUES (1);\nINSERT INTO moved VALUES (2)",
        ["20261125120000_b.sql"] = "DO $$ BEGIN INSERT INTO moved VALUES (3); END $$;",
      })
      local programs = {}
      for i = 1, 4 do
        programs[i] = function()
          local own <close> = db.open(server.url, { connections = 1 })
          return own:migrate(folder.path)
        end
      end
      local ran = 0
      for _, n in ipairs(allua.all(programs)) do
        ran = ran + n
      end
      assert.equal(2, ran)
      folder:write("20261125120001_c.sql", "INSERT INTO moved VALUES (4); INSERT INTO nowhere VALUES (5);")
      local err = errors.raised(database.migrate, database, folder.path)
      assert.equal("42P01", err.code)
      assert.matches('"nowhere" does not exist\n  in: migration 20261125120001_c%.sql', tostring(err))
      assert.equal(3, database:one("SELECT count(*) AS n FROM moved").n)
      assert.equal(3, database.moved:count())
      for statement, said in pairs({
        ["COMMIT"] = "c%.sql has COMMIT in line 2: it runs in a transaction of its own, leave that out",
        ["START TRANSACTION"] = "has START in line 2",
        ["ABORT"] = "has ABORT in line 2",
        ["END"] = "has END in line 2",
        ["PREPARE TRANSACTION 'x'"] = "has PREPARE in line 2",
      }) do
        local body = "DO $$ BEGIN DELETE FROM moved WHERE id = 9; END; /* ; */ $$;\n"
        folder:write("20261125120001_c.sql", body .. statement .. "; INSERT INTO moved VALUES (6)")
        assert.matches(said, errors.raised(database.migrate, database, folder.path))
        assert.equal(3, database.moved:count())
        assert.equal(2, database.allua_migrations:count())
      end
    end)
  end)

  it("runs the example dashboard", function()
    with(function(database)
      database:exec("CREATE DATABASE dashboard")
    end)
    local place = server.url:gsub("postgres$", "dashboard")
    local child <close> = host.start({ "examples/dashboard/server.lua", "--latency", "0", "--db", place })
    child:wait_for("/\n")
    local url = child.out:match("http%S+")
    local cookie = allua.fetch.raw(url).headers["set-cookie"]:match("^[^;]+")
    local dashboard = allua.fetch(url .. "api/dashboard", { headers = { Cookie = cookie } })
    assert.equal("Ada Lovelace", dashboard.user.name)
    assert.equal(10, #dashboard.posts)
    assert.equal("1843-08-14", dashboard.posts[1].created_at)
    child:kill("sigterm")
    assert.equal(0, child:wait().code)
  end)

  it("lets no hostile value or name be more than that", function()
    with(function(database)
      local bits = {
        "'",
        '"',
        "\\",
        "$1",
        "$$",
        ";",
        "--",
        "/*",
        "*/",
        ":a",
        "?",
        "DROP TABLE item",
        "\n",
        "%",
        "{",
        "}",
        "NULL",
        "é",
      }
      local random, tags = 12345, {}
      for i = 1, size.of(500) do
        local parts = {}
        for k = 1, 6 do
          random = (random * 1103515245 + 12345) % 2147483648
          parts[k] = bits[random // 65536 % #bits + 1]
        end
        tags[i] = table.concat(parts)
      end
      for i, text in ipairs(tags) do
        local name = text .. i
        local made = database.item:create({ data = { name = name, tags = { text, name }, data = { [text] = text } } })
        assert.equal(name, made.name)
        assert.same({ text, name }, made.tags)
        assert.equal(text, made.data[text])
        assert.equal(made.id, database.item:find_unique({ where = { name = name }, batch = false }).id)
      end
      assert.equal(#tags, count(database))
    end)
  end)
end)
