-- allua.db with a PostgreSQL server that is trouble: TLS, passwords, sessions that end, restarts, crashes.

local allua = require("allua")
local db = require("allua.db")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local postgres = require("spec.support.postgres")
local scratch = require("spec.support.scratch")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local server

-- Tasks that each insert their share of `total` rows behind `before`: a row that is reported as there is there, once.
local function insert_all(database, before, total, tasks)
  local reported, lost = 0, 0
  local work = {}
  for task = 1, tasks do
    work[task] = function()
      for n = before + task, before + total, tasks do
        repeat
          local ok, err = pcall(database.exec, database, "INSERT INTO work (n) VALUES ($1)", n)
          if ok then
            reported = reported + 1
          else
            assert(allua.is_error(err, "DbError"), err)
            lost = lost + 1
          end
          local met = not ok and err.code == "23505" -- it had happened, though nobody could say so
          assert(ok or met or err.code:find("^57P") or err.code:find("^08"), tostring(err))
        until ok or met
      end
    end
  end
  allua.all(work)
  return reported, lost
end

describe("a server of PostgreSQL's", function()
  setup(function()
    server = postgres.start()
  end)

  teardown(function()
    server:__close()
  end)

  before_each(function()
    local database <close> = db.open(server.url)
    database:exec("DROP TABLE IF EXISTS work")
    database:exec("CREATE TABLE work (n int PRIMARY KEY)")
  end)

  it("whose sessions are terminated one by one loses nothing that was reported, and gets new ones", function()
    local database <close> = db.open(server.url, { connections = 4 })
    local root <close> = db.open(server.url, { connections = 1 })
    local total, rounds, working, ended = size.of(300), 0, true, 0
    local done = allua.all({
      work = function()
        repeat
          local reported, lost = insert_all(database, rounds * total, total, 8)
          rounds = rounds + 1
          assert.equal(rounds * total, root:one("SELECT count(*) AS n FROM work").n)
          assert.is_true(reported + lost >= total)
        until ended >= 8
        working = false
        return true
      end,
      killer = function()
        while working do
          ended = ended
            + root:one(
              [[SELECT count(pg_terminate_backend(pid)) AS n FROM (SELECT pid FROM pg_stat_activity
              WHERE application_name = 'allua' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) AS s]]
            ).n
          allua.sleep(0.02)
        end
      end,
    })
    assert.is_true(done.work)
    local sessions = root:one("SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'allua'").n
    assert.is_true(sessions <= 5, sessions)
  end)

  it("that is stopped, or falls, in the middle of work comes back to all that was reported", function()
    local database <close> = db.open(server.url, { connections = 4, reconnect = 60 })
    for _, mode in ipairs({ "fast", "immediate" }) do
      local working, total, rounds, lost = true, size.of(200), 0, 0
      allua.all({
        work = function()
          while lost == 0 do
            lost = select(2, insert_all(database, rounds * total, total, 8))
            rounds = rounds + 1
          end
          working = false
        end,
        stop = function()
          allua.sleep(0.02)
          while working do
            server:stop(mode)
            server:start()
            allua.sleep(0.5)
          end
        end,
      })
      local fresh <close> = db.open(server.url)
      assert.equal(rounds * total, fresh:one("SELECT count(*) AS n FROM work").n)
      fresh:exec("DELETE FROM work")
    end
  end)

  it("speaks TLS to whom it can prove itself, and to nobody else", function()
    local root <close> = db.open(server.url)
    root:exec("SET password_encryption = 'scram-sha-256'")
    root:exec("CREATE USER secure PASSWORD 'ge:h@im/%'")
    root:close()
    server:use_tls()
    local function url(name, ca, mode, password)
      local place = "postgres://secure:%s@%s:%d/postgres?sslmode=%s&sslrootcert=%s"
      return place:format(password or "ge%3Ah%40im%2F%25", name, server.port, mode or "verify-full", ca)
    end
    do
      local database <close> = db.open(url("localhost", server.ca), { connections = 2 })
      local session = database:one("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
      assert.is_true(session.ssl)
      assert.matches("^TLSv1%.[23]$", session.version)
      local long = ("x"):rep(size.of(4000000)) -- more than a record, and than the socket takes at once
      assert.equal(#long, database:one("SELECT length($1) AS n", long).n)
      assert.equal(long, database:one("SELECT $1 AS text", long).text)
      local numbers = {}
      for i = 1, 50 do
        numbers[i] = i
      end
      assert.same(
        numbers,
        allua.map(numbers, function(i)
          return database:one("SELECT $1::int AS n", i).n
        end)
      )
      local err = errors.raised(allua.timeout, 0.1, database.query, database, "SELECT pg_sleep(60)")
      assert.is_true(allua.is_error(err, "TimeoutError"))
      assert.equal(1, database:one("SELECT 1 AS one").one)
    end
    local function refused(...)
      local err = errors.raised(db.open, url(...))
      assert.equal("08001", err.code)
      local said = tostring(err) .. allua.traceback(err)
      assert.is_nil(said:find("h@im", 1, true))
      assert.is_nil(said:find("h%40im", 1, true))
      return err.message
    end
    assert.matches("certificate verify failed", refused("localhost", server.other_ca))
    assert.matches("certificate verify failed", refused("localhost", server.other_ca, "verify-ca"))
    assert.matches('does not match host name "127.0.0.1"', refused("127.0.0.1", server.ca))
    assert.matches("no pg_hba.conf entry .* no encryption", refused("localhost", server.ca, "disable"))
    assert.matches("password authentication failed", refused("localhost", server.ca, "verify-full", "no-h%40im"))
    local insecure <close> = db.open(url("127.0.0.1", server.ca, "verify-ca"))
    assert.is_true(insecure:one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").ssl)
  end)
end)

describe("a password", function()
  it("stands in no message, report or trace, however wrong the URL is", function()
    local refused_port = "127.0.0.1:9/x?connect_timeout=1"
    for _, url in ipairs({
      "postgres://u:geheim@" .. refused_port,
      "postgres://u:ge%68eim@" .. refused_port,
      "postgres://u:geheim%zz@127.0.0.1/x",
      "postgres://u:a/geheim@127.0.0.1/x",
      "postgres://u:a@geheim@127.0.0.1/x",
      "postgres://u:a?geheim@" .. refused_port,
      "postgres://u:geheim@127.0.0.1:port/x",
      "postgres://u:geheim@[::1/x",
      "postgres://u:geheim@127.0.0.1/x?nonsense=1",
      "postgres://u:geheim@127.0.0.1/x?sslmode=none",
      "postgres://u@" .. refused_port .. "&password=geheim",
      "postgres://u@127.0.0.1/x?password=geheim&sslmode=none",
      "postgres:///x?host=127.0.0.1&port=9&password=ge geheim",
      "postgres://u:geheim@localhost:9,127.0.0.1:9/x",
      "postgres:u:geheim",
      "postgrse://u:geheim@h/x",
      "postgrse://u:ge/geheim@h/x",
    }) do
      local err = errors.raised(db.open, url)
      local said = tostring(err) .. allua.traceback(err)
      assert.is_nil(said:find("geheim", 1, true), url)
    end
    local folder <close> = scratch.folder({
      ["app.lua"] = [[
        local task = allua.spawn(allua.db.open, "postgres://u:geheim@127.0.0.1:9/x")
        print(allua.dump())
        task:await()]],
    })
    local result = host.run({ "--trace", folder:at("trace.json"), "--waterfall", folder:at("app.lua") })
    assert.equal(1, result.code)
    assert.matches("127%.0%.0%.1:9/x", result.err)
    local file <close> = assert(io.open(folder:at("trace.json")))
    assert.is_nil((result.err .. result.out .. file:read("a")):find("geheim", 1, true))
  end)
end)
