-- allua.db with SQLite: what is asked and given, what goes wrong, and that the loop stays free.

local allua = require("allua")
local db = require("allua.db")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local size = require("spec.support.size")
local ticker = require("spec.support.ticker")

require("spec.support.leftovers")()

local SLOW = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1e9) SELECT count(*) FROM c"

local function with(fn, options)
  local folder <close> = scratch.folder()
  local database <close> = db.open("sqlite:" .. folder:at("a.db"), options)
  database:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, price REAL, data BLOB)")
  fn(database, folder)
end

local function count(database)
  return database:one("SELECT count(*) AS n FROM item").n
end

describe("db with SQLite", function()
  it("gives rows with integers, floats, texts, blobs and NULL as they are", function()
    with(function(database)
      local changes, id = database:exec("INSERT INTO item VALUES (?, ?, ?, ?)", 7, "a\0ü", 1.0, db.blob("\0\255"))
      assert.same({ 1, 7 }, { changes, id })
      database:exec("INSERT INTO item (name) VALUES (?)", nil)
      local rows = database:query("SELECT *, typeof(data) AS kind FROM item ORDER BY id")
      assert.same({ id = 7, name = "a\0ü", price = 1.0, data = "\0\255", kind = "blob" }, rows[1])
      assert.equal("float", math.type(rows[1].price))
      assert.equal("integer", math.type(rows[1].id))
      assert.same({ id = 8, kind = "null" }, rows[2])
      assert.same({ "id", "name", "price", "data", "kind" }, db.columns(rows[2]))
      assert.equal(math.mininteger, database:one("SELECT ? AS n", math.mininteger).n)
      assert.equal(1, database:one("SELECT ? AS yes", true).yes)
      assert.is_nil(database:one("SELECT ? AS none", allua.null).none)
      assert.is_nil(database:one("SELECT 1 WHERE 0"))
    end)
  end)

  it("takes parameters by order, by number and by name, and not where they are text", function()
    with(function(database)
      assert.same({ a = 1, b = 2 }, database:one("SELECT ? AS a, ? AS b", 1, 2))
      assert.same({ a = 2, b = 1, c = 2 }, database:one("SELECT $2 AS a, ?1 AS b, $2 AS c", 1, 2))
      assert.same({ a = 1, b = 2, c = 1 }, database:one("SELECT :x AS a, @y AS b, :x AS c", { x = 1, y = 2 }))
      local plain = [[SELECT ':x ''?' AS a, 1 AS ":x?", 2 AS [$1] -- :y ?
        /* $1 */]]
      assert.same({ a = ":x '?", [":x?"] = 1, ["$1"] = 2 }, database:one(plain))
    end)
  end)

  it("says what is wrong, in which statement, and where it was asked", function()
    with(function(database)
      local line = debug.getinfo(1, "l").currentline + 2
      local err = errors.raised(function()
        database:query("SELECT * FROM itm")
      end)
      assert.is_true(allua.is_error(err, "DbError"))
      assert.equal(1, err.code)
      assert.equal("SELECT * FROM itm", err.sql)
      assert.matches("db_sqlite_spec%.lua:" .. line .. "$", err.where)
      assert.matches("no such table: itm\n  in: SELECT %* FROM itm", tostring(err))
      local function message(...)
        return tostring(errors.raised(database.exec, database, ...))
      end
      assert.matches("wants 2 parameters %(got 1%)", message("SELECT ?, ?", 1))
      assert.matches('no parameter "nmae" %(did you mean "name"%?%)', message("SELECT :name", { nmae = 1 }))
      assert.matches("by name, in one table", message("SELECT :name", 1))
      assert.matches("of one kind only", message("SELECT :name, ?", 1))
      assert.matches("one statement at a time", message("SELECT 1; SELECT 2"))
      assert.matches("no statement", message("-- nothing"))
      assert.matches("holds a NUL", message("SELECT 1\0"))
      assert.matches("parameter 1 is a table", message("SELECT ?", {}))
      database:exec("INSERT INTO item (name) VALUES ('a')")
      local twice = errors.raised(database.exec, database, "INSERT INTO item (name) VALUES (?)", "a")
      assert.equal(2067, twice.code) -- SQLITE_CONSTRAINT_UNIQUE
      assert.is_nil(tostring(twice):find("'a'", 1, true)) -- no values
    end)
  end)

  it("says where it was asked, in tasks, through models, and where the call was the last of a function", function()
    with(function(database)
      local line = debug.getinfo(1, "l").currentline
      local outcome = allua.all_settled({
        plain = function()
          database:query("SELEC")
        end,
        tail = function()
          return database:query("SELEC")
        end,
        model = function()
          database.item:create({ data = { id = "x" } })
        end,
        many = function()
          database.item:create_many({ data = { { id = "x" } } })
        end,
        inside = function()
          database:transaction(function(tx)
            tx:transaction(function(inner)
              inner:one("SELEC")
            end)
          end)
        end,
        streamed = function()
          for _ in database:each("SELEC") do
            error("no row was to come")
          end
        end,
        spawned = function()
          local promise = allua.spawn(function()
            return database:one("SELEC")
          end)
          promise:await()
        end,
        mapped = function()
          allua.map({ 1 }, function()
            return database:one("SELEC")
          end)
        end,
        timed = function()
          allua.timeout(9, database.one, database, "SELEC")
        end,
      })
      local expected = {
        plain = 3,
        tail = 6,
        model = 9,
        many = 12,
        inside = 17,
        streamed = 22,
        spawned = 28,
        mapped = 34,
        timed = 38,
      }
      for name, ahead in pairs(expected) do
        local err = outcome[name].reason
        assert.equal(("spec/db_sqlite_spec.lua:%d"):format(line + ahead), err.where, name)
        assert.matches(err.where, err.message, 1, true)
      end
    end)
  end)

  it("keeps hostile values values, and hostile names names", function()
    local sql = require("allua.core").load("allua.db_sql")
    with(function(database)
      local pieces =
        { "'", '"', "`", "]", ";", "--", "/*", "\0", "?", ":x", "$1", "DROP TABLE item", "\\", "ü", "\255" }
      math.randomseed(7)
      database:transaction(function(tx)
        for i = 1, 2000 do
          local parts = {}
          for k = 1, math.random(0, 6) do
            parts[k] = pieces[math.random(#pieces)]
          end
          local text = table.concat(parts)
          assert.equal(text, tx:one("SELECT ? AS v", text).v)
          local name = text:gsub("%z", "") .. "n" .. i
          if i % 10 == 0 and not name:find("\255", 1, true) then
            tx:exec(("CREATE TABLE %s (%s)"):format(sql.quote(name), sql.quote(name)))
            tx:exec(("INSERT INTO %s VALUES (?)"):format(sql.quote(name)), text)
            assert.same({ [name] = text }, tx:one("SELECT * FROM " .. sql.quote(name)))
          end
        end
      end)
      assert.equal(0, count(database))
    end)
  end)

  it("streams rows, and ends the query where the loop is left", function()
    with(function(database)
      database:exec(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000) "
          .. "INSERT INTO item (id) SELECT x FROM c"
      )
      local sum = 0
      for row in database:each("SELECT id FROM item WHERE id > ?", 100) do
        sum = sum + row.id
      end
      assert.equal(500500 - 5050, sum)
      for _ = 1, 20 do -- more than there are connections
        for row in database:each((SLOW:gsub("count%(%*%)", "x"))) do
          if row.x == 3 then
            break
          end
        end
      end
      local seen = 0
      for row in database:each("SELECT id FROM item ORDER BY id") do
        assert.equal(row.id, database:one("SELECT id FROM item WHERE id = ?", row.id).id)
        seen = seen + 1
        if seen == 10 then
          break
        end
      end
      assert.matches(
        "no such table",
        tostring(errors.raised(function()
          for _ in database:each("SELECT * FROM nowhere") do
            error("no row was to come")
          end
        end))
      )
    end)
  end)

  it("fetches no more rows ahead than a few hundred, however slow the loop is", function()
    with(function(database)
      local driver, fetched, seen = database.driver, 0, 0
      local take = driver.take
      function driver.take(...)
        local lent = take(...)
        local function counted(name)
          return function(_, ...)
            local results = table.pack(lent[name](lent, ...))
            fetched = fetched + #results[1]
            return table.unpack(results, 1, results.n)
          end
        end
        return {
          start = counted("start"),
          fetch = counted("fetch"),
          stop = function(_, ...)
            return lent:stop(...)
          end,
        }
      end
      for row in database:each((SLOW:gsub("count%(%*%)", "x"))) do
        seen = seen + 1
        assert.equal(seen, row.x)
        if seen % 100 == 0 then
          allua.sleep(0.005)
        end
        assert.is_true(fetched >= seen and fetched < seen + 256, fetched)
        if seen == 1000 then
          break
        end
      end
      assert.equal(1024, fetched)
    end)
  end)

  it("delays a ticker no more by a long query than by none", function()
    with(function(database)
      local sql, n = (SLOW:gsub("1e9", "?")), 1000000
      ticker.check(function()
        assert.equal(n, database:one("SELECT count AS n FROM (" .. sql:gsub("count%(%*%)", "%0 AS count") .. ")", n).n)
      end)
    end)
  end)

  it("leaves the loop free, and ends a query whose task is cancelled", function()
    with(function(database)
      local latest, began = 0, allua.now()
      allua.all({
        ticker = function()
          for _ = 1, 50 do
            local before = allua.now()
            allua.sleep(0.01)
            latest = math.max(latest, allua.now() - before - 0.01)
          end
        end,
        query = function()
          local err = errors.raised(allua.timeout, 0.4, database.query, database, SLOW)
          assert.is_true(allua.is_error(err, "TimeoutError"))
        end,
      })
      assert.is_true(latest < size.seconds(5), latest) -- far more than it is, on a slow machine
      assert.is_true(allua.now() - began < size.seconds(20))
      assert.equal(1, database:one("SELECT 1 AS one").one)
      assert.equal(0, count(database))
    end, { readers = 1 })
  end)
end)

describe("a transaction", function()
  it("commits when its function returns, and gives its values", function()
    with(function(database)
      local a, b = database:transaction(function(tx)
        tx:exec("INSERT INTO item (name) VALUES ('a')")
        return count(tx), nil
      end)
      assert.same({ 1, nil }, { a, b })
      assert.equal(1, count(database))
    end)
  end)

  it("rolls back when it raises or is cancelled", function()
    with(function(database)
      local raised = { "own" }
      local function spoil(tx, wait)
        tx:exec("INSERT INTO item (name) VALUES ('a')")
        if wait then
          allua.sleep(60)
        end
        error(raised)
      end
      assert.equal(raised, errors.raised(database.transaction, database, spoil))
      assert.equal(0, count(database))
      local err = errors.raised(allua.timeout, 0.1, database.transaction, database, function(tx)
        spoil(tx, true)
      end)
      assert.is_true(allua.is_error(err, "TimeoutError"))
      assert.equal(0, count(database))
      errors.raised(allua.timeout, 0.1, database.transaction, database, function(tx)
        tx:exec("INSERT INTO item (name) VALUES ('a')")
        tx:query(SLOW)
      end)
      assert.equal(0, count(database))
      database:exec("INSERT INTO item (name) VALUES ('b')") -- the connection is well
    end)
  end)

  it("has savepoints in it", function()
    with(function(database)
      database:transaction(function(tx)
        tx:exec("INSERT INTO item (name) VALUES ('kept')")
        pcall(tx.transaction, tx, function(inner)
          inner:exec("INSERT INTO item (name) VALUES ('lost')")
          error("no")
        end)
        tx:transaction(function(inner)
          inner:exec("INSERT INTO item (name) VALUES ('also kept')")
        end)
      end)
      local names = {}
      for i, row in ipairs(database:query("SELECT name FROM item ORDER BY id")) do
        names[i] = row.name
      end
      assert.same({ "kept", "also kept" }, names)
    end)
  end)

  it("fails for what could not be undone in a savepoint, even where that was caught", function()
    with(function(database)
      database:exec("INSERT INTO item (name) VALUES ('there')")
      local failure = errors.raised(database.transaction, database, function(tx)
        tx:exec("INSERT INTO item (name) VALUES ('lost')")
        pcall(tx.transaction, tx, function(inner) -- ends the whole transaction, the savepoint with it
          inner:exec("INSERT OR ROLLBACK INTO item (name) VALUES ('there')")
        end)
      end)
      assert.is_true(errors.says(failure, "UNIQUE constraint failed: item.name"))
      assert.equal(1, count(database))
    end)
  end)

  it("does nothing of what follows an error that ended it, even where that was caught", function()
    with(function(database, folder)
      database:exec("INSERT INTO item (name) VALUES ('there')")
      local memory <close> = db.open("sqlite::memory:")
      memory:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
      memory:exec("INSERT INTO item (name) VALUES ('there')")
      local function insert(tx)
        tx:exec("INSERT INTO item (name) VALUES ('lost')")
      end
      for _, each in ipairs({ database, memory }) do
        local failure = errors.raised(each.transaction, each, function(tx)
          insert(tx)
          local err = errors.raised(tx.exec, tx, "INSERT OR ROLLBACK INTO item (name) VALUES ('there')")
          assert.matches("UNIQUE constraint failed", err.message)
          for _, try in ipairs({
            insert,
            function()
              tx:one("SELECT 1")
            end,
            function()
              for _ in tx:each("SELECT 1") do
                error("a row")
              end
            end,
            function()
              tx.item:insert({ name = "lost" })
            end,
            function()
              tx:transaction(insert)
            end,
          }) do
            err = errors.raised(try, tx)
            assert.is_true(errors.says(err, "has rolled back the whole transaction: nothing of it is left"))
            assert.equal(516, err.code) -- SQLITE_ABORT_ROLLBACK
          end
        end)
        assert.is_true(errors.says(failure, "has rolled back the whole transaction: nothing of it is left"))
        assert.equal(1, count(each))
        each:transaction(function(tx)
          tx:exec("INSERT INTO item (name) VALUES ('next')")
        end)
        assert.equal(2, count(each))
      end
      local again <close> = db.open("sqlite:" .. folder:at("a.db"))
      assert.equal(2, count(again))
    end)
  end)

  it("cannot be used when it is over", function()
    with(function(database)
      local kept
      database:transaction(function(tx)
        kept = tx
      end)
      assert.matches("this transaction is over", errors.raised(kept.exec, kept, "SELECT 1"))
      assert.matches("this transaction is over", errors.raised(kept.each, kept, "SELECT 1"))
      assert.matches("this transaction is over", errors.raised(kept.transaction, kept, print))
    end)
  end)

  it("leaves nothing behind where it is cancelled as it begins", function()
    with(function(database)
      for yields = 0, 5 do
        local task = allua.spawn(pcall, database.transaction, database, function(tx)
          tx:exec("INSERT INTO item (name) VALUES ('lost')")
          allua.sleep(60)
        end)
        for _ = 1, yields do
          allua.yield()
        end
        local until_then = allua.now() + 0.005 -- it has begun, and nobody has heard
        repeat
        until allua.now() > until_then
        task:cancel()
        pcall(task.await, task)
        database:exec("DELETE FROM item")
        database:transaction(function(tx)
          assert.equal(0, count(tx))
        end)
      end
    end)
  end)

  it("may be for reading only, wait with its lock, and have an isolation by name", function()
    for _, place in ipairs({ "file", "memory" }) do
      local folder <close> = scratch.folder()
      local database <close> = db.open(place == "file" and "sqlite:" .. folder:at("a.db") or "sqlite::memory:")
      database:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
      assert.equal(
        0,
        database:transaction(function(tx)
          local err = errors.raised(tx.exec, tx, "INSERT INTO item (name) VALUES ('a')")
          assert.equal(8, err.code) -- SQLITE_READONLY
          return count(tx)
        end, { read_only = true })
      )
      database:transaction(function(tx)
        if place == "file" then -- whose lock is not taken yet
          local other <close> = db.open("sqlite:" .. folder:at("a.db"))
          other:exec("INSERT INTO item (name) VALUES ('other')")
        end
        tx:exec("INSERT INTO item (name) VALUES ('a')")
      end, { immediate = false, isolation = "serializable" })
      assert.equal(place == "file" and 2 or 1, count(database))
    end
  end)

  it("sees one state of the data where it only reads, whatever others write", function()
    with(function(database)
      database:transaction(function(tx)
        assert.equal(0, count(tx))
        database:exec("INSERT INTO item (name) VALUES ('a')")
        assert.equal(0, count(tx))
        assert.equal(1, count(database))
      end, { read_only = true })
    end)
  end)

  it("refuses options that it does not know, and SQL that would end it", function()
    with(function(database)
      local function refused(options)
        return tostring(errors.raised(database.transaction, database, print, options))
      end
      assert.matches(
        '^%S+:%d+: db: transaction: unknown option "isolaton" %(did you mean "isolation"%?%)',
        refused({
          isolaton = "serializable",
        })
      )
      assert.matches(
        '"isolation" must be .+ %(got serialisable%) %(did you mean "serializable"%?%)',
        refused({
          isolation = "serialisable",
        })
      )
      assert.matches('"read_only" must be true or false %(got yes%)', refused({ read_only = "yes" }))
      assert.matches('unknown option "deferrable"', refused({ deferrable = true }))
      assert.matches('cannot be "immediate"', refused({ read_only = true, immediate = true }))
      assert.matches("a table of options", refused("serializable"))
      database:transaction(function(tx)
        assert.matches("takes no options", errors.raised(tx.transaction, tx, print, { read_only = true }))
        tx:transaction(function() end, {})
      end)
      for _, statement in ipairs({ "BEGIN", " ; -- x\n COMMIT", "/* x */ rollback", "savepoint a", "END" }) do
        local err = errors.raised(database.exec, database, statement)
        assert.matches("begin and end by db:transaction%(fn%), not by SQL", err.message)
        database:transaction(function(tx)
          errors.raised(tx.query, tx, statement)
        end)
      end
      assert.equal(1, (database:exec("INSERT INTO item (name) VALUES ('a')")))
    end)
  end)

  it("that is undone undoes what the models know of the tables", function()
    with(function(database)
      errors.raised(database.transaction, database, function(tx)
        tx:exec("ALTER TABLE item ADD COLUMN more TEXT")
        tx.item:create({ data = { more = "x" } })
        error("no")
      end)
      local refused = errors.raised(database.item.create, database.item, { data = { more = "x" } })
      assert.matches('unknown column "more"', refused)
      database:transaction(function(tx)
        tx:query("/* by hand */ ALTER TABLE item ADD COLUMN more TEXT")
      end)
      assert.equal("x", database.item:create({ data = { more = "x" } }).more)
    end)
  end)

  it("waits its turn to write, in order, while others read", function()
    with(function(database)
      local order = {}
      local begun = allua.promise()
      allua.all({
        first = function(self)
          database:transaction(function(tx)
            tx:exec("INSERT INTO item (name) VALUES ('first')")
            begun:resolve()
            assert(self.reader and self.impatient)
            order[#order + 1] = "first"
          end)
        end,
        reader = function()
          begun:await()
          assert.equal(0, count(database)) -- not what is not committed
          order[#order + 1] = "reader"
          return true
        end,
        second = function()
          begun:await()
          database:exec("INSERT INTO item (name) VALUES ('second')")
          order[#order + 1] = "second"
        end,
        third = function()
          begun:await()
          database:exec("INSERT INTO item (name) VALUES ('third')")
          order[#order + 1] = "third"
        end,
        impatient = function()
          begun:await()
          errors.raised(allua.timeout, 0.01, database.exec, database, "DELETE FROM item")
          return true
        end,
      })
      assert.same({ "reader", "first", "second", "third" }, order)
      assert.equal(3, count(database))
    end)
  end)
end)

describe("a database file", function()
  it("that others write to while it is opened for the first time is waited for, then given up", function()
    local folder <close> = scratch.folder()
    local url, begun, given_up = "sqlite:" .. folder:at("a.db"), allua.promise(), allua.promise()
    local holder <close> = db.open("sqlite:" .. folder:at("holder.db"))
    holder:exec(("ATTACH '%s' AS other"):format(folder:at("a.db")))
    holder:exec("CREATE TABLE other.t (x)")
    allua.all({
      holder = function()
        holder:transaction(function()
          begun:resolve()
          given_up:await()
          allua.sleep(0.1)
        end)
      end,
      opener = function()
        begun:await()
        assert.equal(5, errors.raised(db.open, url, { busy = 0.05 }).code) -- SQLITE_BUSY
        given_up:resolve()
        local database <close> = db.open(url, { busy = 60 })
        assert.equal(0, database:one("SELECT count(*) AS n FROM t").n)
      end,
    })
  end)

  it("that another process has locked is waited for, then given up", function()
    with(function(database, folder)
      local child <close> = host.start({
        "-e",
        ([[local d = allua.db.open("sqlite:%s")
        d:transaction(function(tx) print("locked") allua.sleep(60) end)]]):format(folder:at("a.db")),
      })
      child:wait_for("locked")
      local insert = "INSERT INTO item (name) VALUES ('a')"
      assert.equal(5, errors.raised(database.exec, database, insert).code) -- SQLITE_BUSY
      local waiting = allua.spawn(errors.raised, allua.timeout, 0.05, database.exec, database, insert)
      assert.is_true(allua.is_error(waiting:await(), "TimeoutError"))
      assert.equal(0, count(database))
      child:kill("sigkill") -- in the middle of its transaction
      child:wait()
      assert.equal(1, (database:exec(insert)))
    end, { busy = 0.2 })
  end)

  it("keeps what was committed and nothing else where the process is killed", function()
    with(function(database, folder)
      local child <close> = host.start({
        "-e",
        ([[local d = allua.db.open("sqlite:%s")
        d:exec("INSERT INTO item (name) VALUES ('committed')")
        d:transaction(function(tx)
          for i = 1, 1000 do tx:exec("INSERT INTO item (name) VALUES (?)", "lost " .. i) end
          print("written")
          allua.sleep(60)
        end)]]):format(folder:at("a.db")),
      })
      child:wait_for("written")
      child:kill("sigkill")
      child:wait()
      assert.same({ name = "committed" }, database:one("SELECT name FROM item"))
      assert.equal(1, count(database))
      assert.equal("ok", database:one("PRAGMA integrity_check").integrity_check)
    end)
  end)

  it("that is full, no database, or not to be opened is an error that says so", function()
    with(function(database, folder)
      database:exec("PRAGMA max_page_count = 20")
      local full = errors.raised(database.transaction, database, function(tx)
        for i = 1, 1000 do
          tx:exec("INSERT INTO item (name, data) VALUES (?, zeroblob(4000))", "n" .. i)
        end
      end)
      assert.equal(13, full.code) -- SQLITE_FULL
      assert.equal(0, count(database))
      folder:write("wrong.db", ("not a database "):rep(100))
      assert.equal(26, errors.raised(db.open, "sqlite:" .. folder:at("wrong.db")).code)
      local missing = errors.raised(db.open, "sqlite:" .. folder:at("no/such/folder.db"))
      assert.matches("no/such/folder%.db: unable to open database file", tostring(missing))
    end)
    assert.matches("is not the URL of a database", errors.raised(db.open, "mysql:x"))
    assert.matches(
      'unknown option "reader" %(did you mean "readers"%?%)',
      errors.raised(db.open, "sqlite:", { reader = 1 })
    )
    assert.matches(
      '"readers" must be an integer of 1 or more %(got 0%)',
      errors.raised(db.open, "sqlite:", { readers = 0 })
    )
    assert.matches('"busy" must be seconds, 0 or more %(got x%)', errors.raised(db.open, "sqlite:", { busy = "x" }))
    assert.matches("a table of options %(got number%)", errors.raised(db.open, "sqlite:", 1))
  end)

  it("with damaged pages says so, and serves what is whole", function()
    local folder <close> = scratch.folder()
    local path = folder:at("a.db")
    do
      local database <close> = db.open("sqlite:" .. path)
      database:exec("PRAGMA journal_mode = DELETE")
      database:exec("CREATE TABLE whole (n)")
      database:exec("INSERT INTO whole VALUES (7)")
      database:exec("CREATE TABLE broken (data)")
      database:exec(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) "
          .. "INSERT INTO broken SELECT zeroblob(400) FROM n"
      )
    end
    local file <close> = assert(io.open(path, "r+b"))
    local length = file:seek("end")
    local page = 4096
    for at = 4 * page, length - page, page do
      file:seek("set", at)
      file:write(("\255"):rep(page))
    end
    file:flush()
    local database <close> = db.open("sqlite:" .. path)
    local err = errors.raised(database.query, database, "SELECT * FROM broken")
    assert.equal("DbError", err.name)
    assert.equal(11, err.code & 0xff) -- SQLITE_CORRUPT
    assert.equal(7, database:one("SELECT n FROM whole").n)
  end)

  it("leaves no thread behind where it cannot be opened", function()
    local folder <close> = scratch.folder({ ["wrong.db"] = ("not a database "):rep(100) })
    for _ = 1, 20 do
      errors.raised(db.open, "sqlite:" .. folder:at("wrong.db"))
      errors.raised(db.open, "sqlite:" .. folder:at("no/such/folder.db"))
    end
  end)

  it("on a disk that is full keeps what was committed, and goes on where there is room again", function()
    local folder <close> = scratch.folder({
      ["full.lua"] = [[
        local database <close> = allua.db.open("sqlite:" .. arg[1])
        database:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, data BLOB)")
        database:exec("INSERT INTO item VALUES (1, zeroblob(1000))")
        local ok, err = pcall(database.transaction, database, function(tx)
          for i = 2, 1000 do
            tx:exec("INSERT INTO item VALUES (?, zeroblob(4000))", i)
          end
        end)
        print(ok, allua.is_error(err, "DbError"), err.code & 0xff)
        print(database:one("SELECT count(*) AS n FROM item").n)
        print(database:one("PRAGMA integrity_check").integrity_check)
        print(database:exec("UPDATE item SET data = NULL"))]],
    })
    -- No file may be longer than 200 blocks: as a full disk, and needs no rights.
    local result = host.run({
      "-c",
      [[trap '' 25; ulimit -f 200; exec "$0" "$1" "$2"]],
      host.program,
      folder:at("full.lua"),
      folder:at("a.db"),
    }, { program = "/bin/sh" })
    assert.equal("", result.err)
    local first, rest = result.out:match("^([^\n]+)\n(.*)$")
    assert.matches("^false\ttrue\t1[03]$", first) -- SQLITE_IOERR, as the system says it, or SQLITE_FULL
    assert.matches("^1\nok\n1\t%d+\n$", rest)
  end)

  it("may be memory, with all tasks on one connection", function()
    local database <close> = db.open("sqlite::memory:")
    database:exec("CREATE TABLE t (n)")
    allua.map({ 1, 2, 3, 4, 5 }, function(n)
      database:exec("INSERT INTO t VALUES (?)", n)
    end)
    assert.equal(15, database:one("SELECT sum(n) AS s FROM t").s)
  end)

  it("is closed with what waits for it", function()
    local database = db.open("sqlite::memory:")
    local held = allua.spawn(pcall, database.transaction, database, function()
      allua.sleep(60)
    end)
    local waiting = allua.spawn(errors.raised, database.query, database, "SELECT 1")
    allua.sleep(0.05)
    database:close()
    database:close()
    assert.matches("is closed", waiting:await())
    held:cancel()
    pcall(held.await, held)
    assert.matches("is closed", errors.raised(database.query, database, "SELECT 1"))
  end)

  it("is left in order by a program that ends in the middle of a query", function()
    local result = host.eval(([[
      local d = allua.db.open("sqlite::memory:")
      allua.spawn(function() d:query(%q) end)
      allua.sleep(0.05)
      os.exit(3)]]):format(SLOW))
    assert.same({ 3, "" }, { result.code, result.err })
  end)
end)

describe("migrate", function()
  it("runs numbered files once each, and refuses one that has changed", function()
    local folder <close> = scratch.folder({
      ["2_posts.sql"] = "CREATE TABLE post (id INTEGER PRIMARY KEY); CREATE INDEX p ON post (id);",
      ["001_users.sql"] = "CREATE TABLE user (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE);",
      ["readme.txt"] = "no migration",
    })
    local database <close> = db.open("sqlite::memory:")
    assert.equal(2, database:migrate(folder.path))
    assert.equal(0, database:migrate(folder.path))
    folder:write("003_bad.sql", "CREATE TABLE good (id); CREATE TABLE post (id);")
    local err = errors.raised(database.migrate, database, folder.path)
    assert.matches("table post already exists\n  in: migration 003_bad%.sql", tostring(err))
    assert.is_nil(database:schema().good) -- all of it or nothing
    folder:write("003_bad.sql", "CREATE TABLE good (id);")
    assert.equal(1, database:migrate(folder.path))
    folder:write("2_posts.sql", "CREATE TABLE post (id);")
    assert.matches(
      "2_posts%.sql has run already, and has been changed",
      errors.raised(database.migrate, database, folder.path)
    )
    local user = database:schema().user
    assert.same({ "id" }, user.primary)
    assert.same({ { "id" }, { "email" } }, user.unique)
    assert.same({ "id", "email" }, { user.columns[1].name, user.columns[2].name })
    assert.same({ true, false }, { user.columns[1].has_default, user.columns[2].nullable })
  end)

  it("refuses what does not follow what has run, before it runs anything", function()
    local folder <close> = scratch.folder({
      ["1_a.sql"] = "CREATE TABLE a (id);",
      ["20261125120000_late.sql"] = "CREATE TABLE late (id);",
    })
    local database <close> = db.open("sqlite::memory:")
    assert.equal(2, database:migrate(folder.path)) -- a gap between numbers is none in time
    folder:write("2_between.sql", "CREATE TABLE between_them (id);")
    folder:write("20261125120001_new.sql", "CREATE TABLE new (id);")
    assert.matches(
      "2_between%.sql comes before 20261125120000_late%.sql, which has run already: give it a higher number",
      errors.raised(database.migrate, database, folder.path)
    )
    os.remove(folder:at("2_between.sql"))
    os.rename(folder:at("1_a.sql"), folder:at("1_a.txt"))
    local refused = errors.raised(database.migrate, database, folder.path)
    assert.matches("1_a%.sql has run already, and is not in the folder any more", refused)
    assert.is_nil(database:schema().new)
    os.rename(folder:at("1_a.txt"), folder:at("1_b.sql"))
    assert.equal(1, database:migrate(folder.path))
    assert.truthy(database.new) -- the models know
    folder:write("0001_again.sql", "CREATE TABLE again (id);")
    refused = errors.raised(database.migrate, database, folder.path)
    assert.matches("two migrations have the number 1: %S+, %S+", refused)
    os.remove(folder:at("0001_again.sql"))
    folder:write("99999999999999999999_x.sql", "")
    assert.matches("number of migration 9+_x%.sql is too large", errors.raised(database.migrate, database, folder.path))
    local nowhere = folder:at("nowhere")
    assert.matches(
      "folder " .. nowhere .. " cannot be read",
      errors.raised(database.migrate, database, nowhere),
      1,
      true
    )
    assert.matches("expects a folder %(got nil%)", errors.raised(database.migrate, database))
  end)

  it("refuses a file that begins or ends transactions itself, before it runs anything", function()
    local folder <close> = scratch.folder({
      ["1_a.sql"] = [[CREATE TABLE a (id, name TEXT DEFAULT 'x; COMMIT;'); -- ; COMMIT
        CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET id = 1; DELETE FROM a WHERE name = 'y'; END;
        SAVEPOINT s; INSERT INTO a VALUES (1, 'b'); ROLLBACK TO s; ROLLBACK TRANSACTION TO SAVEPOINT s; RELEASE s;]],
    })
    local database <close> = db.open("sqlite:" .. folder:at("a.db"))
    assert.equal(1, database:migrate(folder.path))
    folder:write("2_b.sql", "CREATE TABLE b (id);")
    for statement, word in pairs({
      COMMIT = "COMMIT",
      ["/* now */ commit transaction"] = "COMMIT",
      ["BEGIN IMMEDIATE"] = "BEGIN",
      ROLLBACK = "ROLLBACK",
      END = "END",
      ["UPDATE a SET id = CASE id WHEN 1 THEN 2\nEND; END TRANSACTION"] = "END",
      ["CREATE TEMP TRIGGER u AFTER INSERT ON a BEGIN SELECT ';', 1; END; end"] = "END",
    }) do
      folder:write("3_c.sql", "CREATE TABLE c (id);\n-- done\n" .. statement .. ";")
      local said = errors.raised(database.migrate, database, folder.path)
      assert.equal(
        ("db: migration 3_c.sql has %s in line %d: it runs in a transaction of its own, leave that out"):format(
          word,
          statement:find("\n") and 4 or 3
        ),
        said
      )
      assert.is_nil(database:schema().b)
    end
    local sql = require("allua.core").load("allua.db_sql")
    local find = sql.find_transaction
    folder:write("3_c.sql", "CREATE TABLE c (id); END;")
    sql.find_transaction = function() end -- as if it had not been seen
    local said = errors.raised(database.migrate, database, folder.path)
    sql.find_transaction = find
    assert.matches("3_c%.sql has ended the transaction that it ran in: what it did is not undone", said)
    assert.equal(2, database.allua_migrations:count())
    assert.equal(0, database:one("SELECT count(*) AS n FROM a").n)
  end)

  it("knows what ends a transaction from what ends something else", function()
    local sql = require("allua.core").load("allua.db_sql")
    local cases = {
      { "SELECT CASE 1 WHEN 2 THEN 3\nEND; -- ; END\nSELECT 1", "sqlite" },
      {
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; /* ; END */ SELECT CASE 1 WHEN 2 THEN 3 END; END",
        "sqlite",
      },
      { "CREATE /* ; */ TEMPORARY TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END; END", "sqlite", "END" },
      { "CREATE TABLE trigger (id); END", "sqlite", "END" },
      { "SAVEPOINT s; ROLLBACK TRANSACTION TO SAVEPOINT s; ROLLBACK TO s; RELEASE s", "sqlite" },
      { "CREATE FUNCTION f() RETURNS int AS $$ BEGIN RETURN 1; END; $$ LANGUAGE plpgsql", "postgres" },
      { "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; SELECT 1", "postgres" },
      { "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; END", "postgres", "END" },
      { "CREATE FUNCTION f() RETURNS void BEGIN ATOMIC END; ABORT", "postgres", "ABORT" },
      { "CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f(); END WORK", "postgres", "END" },
      { "PREPARE p AS SELECT 1", "postgres" },
      { "PREPARE TRANSACTION 'x'", "postgres", "PREPARE" },
    }
    for _, case in ipairs(cases) do
      assert.equal(case[3], (sql.find_transaction(case[1], case[2])), case[1])
    end
  end)

  it("may be run by several programs at once", function()
    local folder <close> = scratch.folder({
      ["1_a.sql"] = "CREATE TABLE a (id); INSERT INTO a VALUES (1);",
      ["2_b.sql"] = "INSERT INTO a VALUES (2);",
    })
    local programs = {}
    for i = 1, 3 do
      programs[i] = function()
        return host.eval(([[print(allua.db.open("sqlite:%s"):migrate("%s"))]]):format(folder:at("a.db"), folder.path))
      end
    end
    local ran = 0
    for _, result in ipairs(allua.all(programs)) do
      assert.equal("", result.err)
      ran = ran + tonumber(result.out)
    end
    assert.equal(2, ran)
    local database <close> = db.open("sqlite:" .. folder:at("a.db"))
    assert.equal(2, database:one("SELECT count(*) AS n FROM a").n)
  end)
end)
