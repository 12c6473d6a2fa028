-- ticker: how late a ticker of 10 ms is while nothing else runs, and while a query of a second does.
--
--   allua bench/db/ticker.lua URL SQL
--
-- The SQL has one parameter: the more, the longer it takes. Prints the most that a tick was late by without the
-- query and with it, in milliseconds, and the query's seconds.
local database = allua.db.open(arg[1])
local sql = arg[2]

local function seconds(size)
  local began = allua.now()
  database:query(sql, size)
  return allua.now() - began
end

-- The most that a tick is late by until fn is done.
local function lateness(fn)
  local worst, over = 0, false
  all({
    work = function()
      fn()
      over = true
    end,
    ticker = function()
      local due = allua.now()
      while not over do
        due = due + 0.01
        allua.sleep(math.max(0, due - allua.now()))
        worst = math.max(worst, allua.now() - due)
      end
    end,
  })
  return worst * 1000
end

-- A size that takes a second, about.
local size, took = 1, 0
while took < 0.2 do
  size = size * 2
  took = seconds(size)
end
size = math.ceil(size / took)
local without = lateness(function()
  allua.sleep(1)
end)
local with = lateness(function()
  took = seconds(size)
end)
print(without, with, took)
database:close()
