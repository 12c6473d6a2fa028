-- allua.db with SQLite: a statement whose text is known already goes a short way, and does all that it did the first
-- time.

local allua = require("allua")
local db = require("allua.db")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")

require("spec.support.leftovers")()

local ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c WHERE ? = 1"

local function with(fn, options)
  local folder <close> = scratch.folder()
  local database <close> = db.open("sqlite:" .. folder:at("a.db"), options)
  database:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, data BLOB)")
  fn(database)
end

-- Several times the same, on the database and in a transaction.
local function again(database, fn)
  for _ = 1, 3 do
    fn(database)
    database:transaction(fn)
  end
end

describe("a statement that is known", function()
  it("takes all kinds of values by place and by name, and gives the same rows", function()
    with(function(database)
      local big = ("x"):rep(5000) -- more than one block of memory
      again(database, function(on)
        local row =
          on:one("SELECT ? AS a, ? AS b, ? AS c, ? AS d, ? AS e, ? AS f", 1, 2.5, "t\0", true, nil, allua.null)
        assert.same({ a = 1, b = 2.5, c = "t\0", d = 1 }, row)
        assert.same({ "a", "b", "c", "d", "e", "f" }, db.columns(row))
        assert.same(
          { kind = "blob", n = 3 },
          on:one("SELECT typeof(:b) AS kind, length(:b) AS n", { b = db.blob("a\0b") })
        )
        assert.same({ a = big, b = big .. "y" }, on:one("SELECT :a AS a, @b AS b", { a = big, b = big .. "y" }))
        assert.same({}, on:one("SELECT :a AS a, :b AS b", {}))
        assert.same({ { n = 1 }, { n = 2 } }, on:query("SELECT 1 AS n UNION SELECT 2"))
        assert.same({}, on:query("SELECT 1 WHERE ?", false))
        assert.is_nil(on:one("SELECT 1 WHERE ?", false))
        assert.same({ a = 7 }, on:one("SELECT :a AS a", setmetatable({}, { __index = { a = 7 } })))
      end)
    end, { readers = 2 })
  end)

  it("tells what was changed, and the last id", function()
    with(function(database)
      local id = 0
      again(database, function(on)
        id = id + 1
        assert.same({ 1, id }, { on:exec("INSERT INTO item (name) VALUES (?)", "a") })
        assert.same({ 0, id }, { on:exec("DELETE FROM item WHERE id = -1") })
        assert.same({ id = id }, on:one("UPDATE item SET name = 'b' WHERE id = ? RETURNING id", id))
        assert.equal(id, on:exec("UPDATE item SET name = name"))
      end)
    end)
  end)

  it("is refused with the same words, at the line that asked", function()
    with(function(database)
      again(database, function(on)
        local function message(...)
          return tostring(errors.raised(on.query, on, ...))
        end
        on:query("SELECT ?, ?", 1, 2)
        on:query("SELECT :name", { name = 1 })
        assert.matches("wants 2 parameters %(got 1%)", message("SELECT ?, ?", 1))
        assert.matches("wants 2 parameters %(got 3%)", message("SELECT ?, ?", 1, 2, 3))
        assert.matches('no parameter "nmae" %(did you mean "name"%?%)', message("SELECT :name", { nmae = 1 }))
        assert.matches('no parameter "other"', message("SELECT :name", { name = 1, other = 2 }))
        assert.matches("by name, in one table", message("SELECT :name", 1))
        assert.matches("by name, in one table", message("SELECT :name", { name = 1 }, 2))
        assert.matches("parameter 2 is a table", message("SELECT ?, ?", 1, {}))
        assert.matches("parameter 1 is a function", message("SELECT :name", { name = print }))
        local line = debug.getinfo(1, "l").currentline + 2
        local err = errors.raised(function()
          return on:one("SELECT * FROM nowhere WHERE id = ?", "secret")
        end)
        assert.equal(("spec/db_sqlite_query_spec.lua:%d"):format(line), err.where)
        assert.equal(
          ("DbError: %s: no such table: nowhere\n  in: SELECT * FROM nowhere WHERE id = ?"):format(err.where),
          tostring(err)
        )
        assert.same({ 1, "SELECT * FROM nowhere WHERE id = ?" }, { err.code, err.sql })
      end)
    end)
  end)

  it("gives one row of a table that has got other columns meanwhile", function()
    with(function(database)
      database:exec("INSERT INTO item (name) VALUES ('a')")
      for i = 1, 3 do
        database:exec(("ALTER TABLE item ADD COLUMN c%d DEFAULT %d"):format(i, i))
        assert.equal(i, database:one("SELECT * FROM item WHERE id = ?", 1)["c" .. i])
      end
    end, { readers = 1 })
  end)

  it("is ended by a cancelling while it runs, while others are before it, and while it waits for its turn", function()
    with(function(database)
      local quick = "SELECT ? AS n"
      database:one(quick, 1)
      pcall(allua.timeout, 0.001, database.one, database, ENDLESS, 1)
      for _ = 1, 3 do
        local running = allua.spawn(database.one, database, ENDLESS, 1)
        local behind = allua.spawn(database.one, database, quick, 1)
        allua.yield()
        local lent = allua.spawn(database.transaction, database, function(tx)
          return tx:one(quick, 7).n
        end, { read_only = true })
        local waiting, last =
          allua.spawn(database.one, database, quick, 2), allua.spawn(database.one, database, quick, 3)
        allua.yield()
        assert.matches("waits for a connection of the pool", allua.dump())
        assert.matches("waits for an SQL statement", allua.dump())
        waiting:cancel()
        behind:cancel()
        assert.equal("pending", lent.status)
        running:cancel()
        assert.same({ 7, 3 }, { lent:await(), last:await().n })
        for _, promise in ipairs({ running, behind, waiting }) do
          assert.is_true(allua.is_error(errors.raised(promise.await, promise), "CancelledError"))
        end
        assert.equal(4, database:one(quick, 4).n)
      end
    end, { readers = 1 })
  end)

  it("lets those behind it begin when the one that waited before them gives up", function()
    with(function(database)
      local quick = "SELECT ? AS n"
      database:one(quick, 1)
      local holder = allua.spawn(database.one, database, ENDLESS, 1)
      allua.yield()
      local lent = allua.spawn(database.transaction, database, print, { read_only = true })
      allua.yield()
      local behind = allua.spawn(database.one, database, quick, 5)
      allua.yield()
      assert.matches("a connection of the pool", allua.dump())
      lent:cancel()
      assert.is_nil(allua.dump():find("a connection of the pool", 1, true))
      holder:cancel()
      assert.equal(5, behind:await().n)
    end, { readers = 1 })
  end)

  it("may be asked by a generator of the script's, and not where Lua cannot suspend", function()
    with(function(database)
      local next_one = coroutine.wrap(function()
        for n = 1, 3 do
          coroutine.yield(database:one("SELECT ? AS n", n).n)
        end
      end)
      assert.same({ 1, 2, 3 }, { next_one(), next_one(), next_one() })
      local list = { 3, 1, 2 }
      assert.matches(
        "sort",
        errors.raised(table.sort, list, function()
          return database:one("SELECT ? AS n", 1).n == 2
        end)
      )
      assert.equal(1, database:one("SELECT ? AS n", 1).n)
    end)
  end)

  it("asks another time where its task was cancelled before", function()
    with(function(database)
      database:exec("DELETE FROM item WHERE id = ?", 1)
      local ran = allua.spawn(function()
        pcall(allua.sleep, 60)
        local err = errors.raised(database.exec, database, "INSERT INTO item (id) VALUES (?)", 1)
        assert.is_true(allua.is_error(err, "CancelledError"))
        allua.shield(database.exec, database, "INSERT INTO item (id) VALUES (?)", 2)
      end)
      allua.yield()
      ran:cancel()
      pcall(ran.await, ran)
      assert.same({ { id = 2 } }, database:query("SELECT id FROM item"))
    end)
  end)

  it("is not run where the database, or its transaction, has ended", function()
    local database = db.open("sqlite::memory:")
    local kept
    database:one("SELECT ? AS n", 1)
    database:transaction(function(tx)
      kept = tx
      tx:one("SELECT ? AS n", 1)
    end)
    assert.matches("this transaction is over", errors.raised(kept.one, kept, "SELECT ? AS n", 1))
    database:close()
    assert.matches("this database is closed", errors.raised(database.one, database, "SELECT ? AS n", 1))
    assert.is_false(pcall(database.one, nil, "SELECT ? AS n", 1))
    local other <close> = db.open("sqlite::memory:")
    rawset(other, 1, io.stdout)
    rawset(other, 2, {})
    assert.equal(1, other:one("SELECT ? AS n", 1).n)
    assert.equal(0, other:exec("SELECT ? AS n", 1))
  end)

  it("keeps the program alive, and is told of where it cannot end", function()
    local result = host.eval([[
      local d = allua.db.open("sqlite::memory:")
      local function ask() return d:one("SELECT ? AS n", 1).n end
      ask()
      d:transaction(ask)]])
    assert.equal(1, result.code)
    assert.matches("deadlock: .* waits for a connection of the pool", result.err)
    result = host.eval([[
      local d = allua.db.open("sqlite::memory:")
      local function ask() return d:one("SELECT ? AS n", 1).n end
      ask()
      allua.spawn(function() print(ask() + 1) end)]])
    assert.same({ 0, "2\n" }, { result.code, result.out })
  end)
end)
