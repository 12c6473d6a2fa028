-- allua.db with SQLite, small: run once for each allocation that can fail. It asserts nothing about how a run
-- ends, only that it ends.
local allua = require("allua")
local db = allua.db

local function main()
  local database <close> = db.open("sqlite::memory:")
  database:exec("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, data BLOB)")
  allua.all({
    function()
      database:transaction(function(tx)
        tx:exec("INSERT INTO t (name, data) VALUES (:name, :data)", { name = "a", data = db.blob("b") })
        pcall(tx.transaction, tx, function(inner)
          inner:exec("DELETE FROM t")
          error("no")
        end)
      end)
    end,
    function()
      for row in database:each("SELECT * FROM t") do
        assert(row.id)
      end
    end,
    function()
      pcall(database.query, database, "SELECT * FROM nowhere")
    end,
    function() -- known by now; waits for its turn
      assert(database:one("SELECT :a AS a, :b AS b", { a = 1, b = db.blob("b") }).a == 1)
      database:exec("INSERT INTO t (name, data) VALUES (:name, :data)", { name = "c", data = db.blob("d") })
      assert(#database:query("SELECT * FROM t") >= 1)
    end,
    function()
      pcall(allua.timeout, 0, database.one, database, "SELECT :a AS a, :b AS b", { a = 1 })
    end,
  })
  database:schema()
  local slow = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1e9) SELECT count(*) FROM c"
  pcall(allua.timeout, 0.01, database.query, database, slow)
end

main() -- loads the modules
collectgarbage()
-- The modules are loaded: faults.c counts from here on.
from_here() -- luacheck: ignore
main()
