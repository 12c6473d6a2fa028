-- A server whose handlers ask a database and each other, and clients that leave at any moment, while memory fails at
-- any moment: see spec/embed/chaos.c, which gives `scarce (whether)`. Anything may raise, but no client waits in vain;
-- afterwards the server answers, the database tells what was committed, and nothing stays.
local allua = require("allua")
local site = require("spec.support.chaos_site")

local seed, rounds = ...
seed, rounds = math.tointeger(seed), math.tointeger(rounds)
local set_scarce = rawget(_G, "scarce") or function() end
math.randomseed(seed)

local chance = math.random
local PATIENCE <const> = 15 -- seconds
local SCALE <const> = 0.25

local function main()
  local db <close> = allua.db.open("sqlite::memory:")
  db:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, n INTEGER)")
  for i = 1, 20 do
    db:exec("INSERT INTO item (name, n) VALUES (?, 0)", "item " .. i)
  end
  local seen = {} -- transactions that were begun, and those that are known to be committed
  local server = allua.serve({ routes = site.routes(db, chance, seen, SCALE) })
  local _ <close> = setmetatable({}, {
    __close = function()
      set_scarce(false)
      server:close(0)
    end,
  })
  local api = allua.fetch.with({ base_url = server.url, timeout = PATIENCE })
  local way = site.ways(api, chance, SCALE)
  way[#way + 1] = function()
    return api("/item", { method = "POST", form = { name = "a", file = { data = ("y"):rep(chance(5000)) } } })
  end
  for _ = 1, rounds do
    seen.begun, seen.committed = 0, 0
    db:exec("UPDATE item SET n = 0 WHERE id = 1")
    local late = false
    set_scarce(true)
    for _ = 1, 4 do
      pcall(allua.map, { 1, 2, 3, 4, 5 }, function()
        local _, err = pcall(way[chance(#way)])
        if allua.is_error(err, "FetchError") and err.code == "timeout" then
          late = err
        end
      end)
    end
    set_scarce(false)
    assert(not late, late)
    assert(allua.fetch(server.url .. "/slow", { timeout = 20 }).ok)
    local n = db:one("SELECT n FROM item WHERE id = 1").n
    assert(seen.committed <= n and n <= seen.begun, ("%d <= %d <= %d"):format(seen.committed, n, seen.begun))
  end
end

main()
