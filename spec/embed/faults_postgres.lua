-- allua.db with PostgreSQL, small: run once for each allocation that can fail. It asserts nothing about how a run
-- ends, only that it ends. spec/support/with_postgres.lua starts the server.
local allua = require("allua")
local db = allua.db

local function main()
  local database <close> = db.open(os.getenv("ALLUA_POSTGRES"), { connections = 1, reconnect = 0 })
  database:transaction(function(tx)
    local values = { id = 1, tags = { "a" }, data = { a = { 1 } }, bytes = db.blob("b") }
    for row in tx:each("SELECT :id::int AS id, :tags::text[] AS t, :data::jsonb AS d, :bytes::bytea AS b", values) do
      assert(row.id)
    end
    pcall(tx.transaction, tx, function(inner)
      inner:exec("nonsense")
    end)
  end)
  pcall(allua.timeout, 0.002, database.query, database, "SELECT pg_sleep(60)")
end

pcall(db.open, "postgres://127.0.0.1:9/none") -- loads the modules
collectgarbage()
-- The modules are loaded: faults.c counts from here on.
from_here() -- luacheck: ignore
main()
