-- allua.db in a stock Lua: outside of tasks each query runs the loop until it is done.

local allua = require("allua")
local check = require("spec.support.check")

check("queries may be asked outside of tasks, the first time and later", function()
  local database = allua.db.open("sqlite::memory:")
  database:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)")
  for i = 1, 3 do
    assert(database:exec("INSERT INTO item (name) VALUES (?)", "a") == 1)
    assert(database:one("SELECT * FROM item WHERE id = ?", i).name == "a")
    local ok, err = pcall(database.query, database, "SELECT * FROM nowhere")
    assert(not ok and err.code == 1)
  end
  local ok, err = pcall(database.transaction, database, function()
    return database:one("SELECT * FROM item WHERE id = ?", 1) -- which has no connection to wait for
  end)
  assert(not ok and tostring(err):find("deadlock", 1, true), err)
  assert(database:one("SELECT count(*) AS n FROM item").n == 3)
  database:close()
end)

check.done()
