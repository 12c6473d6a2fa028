-- allua.db with SQLite: many tasks on few threads.

local allua = require("allua")
local core = require("allua.core")
local db = require("allua.db")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"

local function with(fn, options)
  local folder <close> = scratch.folder()
  local database <close> = db.open("sqlite:" .. folder:at("a.db"), options)
  database:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
  fn(database)
end

local function numbers(n)
  local list = {}
  for i = 1, n do
    list[i] = i
  end
  return list
end

describe("the threads of a database", function()
  it("get a connection back without what was left open on it", function()
    local pool = core.sqlite_pool(1, false)
    local connection = pool:connection()
    connection:open(":memory:", "rw")
    connection:script("CREATE TABLE item (id INTEGER); BEGIN; INSERT INTO item VALUES (1); PRAGMA query_only = ON")
    connection:serve(false)
    assert.same({}, (pool:run("SELECT id FROM item", {}, 0)))
    pool:run("INSERT INTO item VALUES (2)", {}, 0)
    assert.same({ { id = 2 } }, (pool:run("SELECT id FROM item", {}, 0)))
    connection:shut()
    connection:close()
  end)

  it("answer each task with its own rows", function()
    with(function(database)
      database:transaction(function(tx)
        for i = 1, 100 do
          tx:exec("INSERT INTO item VALUES (?, ?)", i, "name " .. i)
        end
      end)
      allua.map(numbers(size.of(500)), function(n)
        local id = n % 100 + 1
        local row = database:one("SELECT * FROM item WHERE id = ?", id)
        assert.same({ id = id, name = "name " .. id }, row)
        assert.same({ "id", "name" }, db.columns(row))
        assert.equal(n, database:one("SELECT ? AS n", n).n)
        assert.same({}, database:query("SELECT * FROM item WHERE id = -1"))
        assert.matches("no such column", errors.raised(database.query, database, "SELECT nothing" .. n % 3).message)
      end)
    end, { readers = 2 })
  end)

  it("let a read see what was committed before it was asked for, however many read together", function()
    with(function(database)
      local committed, over = 0, false
      local function reader()
        while not over do
          local before = committed
          local found = database:one("SELECT count(*) AS n FROM item").n
          assert.is_true(found >= before)
        end
      end
      local tasks = {
        writer = function()
          for i = 1, size.of(100) do
            database:exec("INSERT INTO item VALUES (?, 'x')", i)
            committed = i
            assert.equal(i, database:one("SELECT count(*) AS n FROM item").n)
          end
          over = true
        end,
      }
      for i = 1, 10 do
        tasks[i] = reader
      end
      allua.all(tasks)
    end, { readers = 2 })
  end)

  it("leave no quick read behind a slow one", function()
    with(function(database)
      local slow
      allua.race({
        function()
          slow = errors.raised(database.query, database, ENDLESS)
          error(slow, 0)
        end,
        function()
          local sum = 0
          for _, n in
            ipairs(allua.map(numbers(50), function(n)
              return database:one("SELECT ? AS n", n).n
            end))
          do
            sum = sum + n
          end
          assert.equal(50 * 51 // 2, sum)
        end,
      })
      assert.is_true(allua.is_error(slow, "CancelledError"))
    end, { readers = 2 })
  end)

  it("leave no quick read behind one that is slow for once", function()
    with(function(database)
      local count =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ?) SELECT count(*) AS n FROM c"
      for _ = 1, 50 do -- until all threads know it as a quick one
        allua.map(numbers(50), function(n)
          assert.equal(n, database:one(count, n).n)
        end)
      end
      local slow = allua.spawn(database.one, database, count, 1000000000000)
      allua.map(numbers(50), function(n)
        assert.equal(n, database:one(count, n).n)
      end)
      assert.equal("pending", slow.status)
      slow:cancel()
      assert.is_true(allua.is_error(errors.raised(slow.await, slow), "CancelledError"))
    end, { readers = 2 })
  end)

  it("do not run what was cancelled while it waited, and go on", function()
    with(function(database)
      local slow = allua.spawn(pcall, allua.timeout, 0.05, database.query, database, ENDLESS)
      allua.yield()
      local quick = {}
      for i = 1, 20 do
        quick[i] = allua.spawn(errors.raised, allua.timeout, 0.01 + i / 10000, database.query, database, ENDLESS)
      end
      for i = 1, 20 do
        assert.is_true(allua.is_error(quick[i]:await(), "TimeoutError"))
      end
      slow:await()
      assert.equal(1, database:one("SELECT 1 AS n").n)
    end, { readers = 1 })
  end)

  it("read also what begins with WITH, unless it writes", function()
    with(function(database)
      database:transaction(function() -- has the one that writes
        assert.equal(3, database:one("WITH a(n) AS (VALUES (3)) SELECT n FROM a").n)
        for row in database:each("WITH updates(n) AS (VALUES ('x')) SELECT n FROM updates") do
          assert.equal("x", row.n)
        end
      end)
      database:exec("WITH a(n) AS (VALUES (3)) INSERT INTO item SELECT n, 'three' FROM a")
      assert.equal(
        "three",
        database:one("WITH a(n) AS (VALUES (3)) DELETE FROM item WHERE id IN a RETURNING name").name
      )
      assert.equal(0, database:one("SELECT count(*) AS n FROM item").n)
    end)
  end)

  it("see the columns that a table has got meanwhile", function()
    with(function(database)
      database:exec("INSERT INTO item VALUES (1, 'a')")
      assert.same({ "id", "name" }, db.columns(database:one("SELECT * FROM item")))
      database:exec("ALTER TABLE item ADD COLUMN price REAL DEFAULT 1.5")
      local row = database:one("SELECT * FROM item")
      assert.same({ id = 1, name = "a", price = 1.5 }, row)
      assert.same({ "id", "name", "price" }, db.columns(row))
    end, { readers = 1 })
  end)

  it("lend one for a cursor when its turn comes, and all go on", function()
    with(function(database)
      for i = 1, 10 do
        database:exec("INSERT INTO item VALUES (?, 'x')", i)
      end
      local order = {}
      allua.all({
        function()
          for row in database:each("SELECT id FROM item ORDER BY id") do
            order[#order + 1] = row.id
            allua.sleep(0.001)
          end
        end,
        function()
          assert.equal(10, database:one("SELECT count(*) AS n FROM item").n)
          order[#order + 1] = "behind"
        end,
      })
      assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, "behind" }, order)
    end, { readers = 1 })
  end)

  it("end what they run before the database is closed", function()
    local folder <close> = scratch.folder()
    local database = db.open("sqlite:" .. folder:at("a.db"), { readers = 1 })
    database:exec("CREATE TABLE item (id INTEGER PRIMARY KEY)")
    local asked = {}
    for i = 1, 20 do
      asked[i] = allua.spawn(database.exec, database, "INSERT INTO item VALUES (?)", i)
      asked[i + 20] = allua.spawn(database.one, database, "SELECT ? AS n", i)
    end
    allua.yield()
    database:close()
    for i = 1, 20 do
      assert.equal(1, (asked[i]:await()))
      assert.equal(i, asked[i + 20]:await().n)
    end
    assert.matches("is closed", errors.raised(database.query, database, "SELECT 1"))
  end)

  it("that a task cannot have, because it has one itself, are a deadlock that is told", function()
    local result = host.eval([[
      local d = allua.db.open("sqlite::memory:")
      d:exec("CREATE TABLE item (id INTEGER PRIMARY KEY)")
      d:transaction(function() d:exec("INSERT INTO item VALUES (1)") end)]])
    assert.equal(1, result.code)
    assert.matches("deadlock: .* waits for a connection of the pool", result.err)
  end)
end)
