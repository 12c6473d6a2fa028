-- client: point reads or small inserts by a number of tasks, with allua.
--
--   allua bench/db/client.lua URL read|insert TASKS COUNT [READERS]
--
-- Prints the seconds that it took and the seconds of processor time.
local uv = require("luv")

local url, work, tasks, count = arg[1], arg[2], math.tointeger(arg[3]), math.tointeger(arg[4])
local database = allua.db.open(url, { readers = math.tointeger(arg[5] or "") })

local works = {}

function works.read(n)
  local id = n * 7919 % 10000 + 1
  local row = database:one("SELECT id, name, score FROM item WHERE id = $1", id)
  assert(row.id == id)
end

function works.insert(n)
  assert(database:exec("INSERT INTO note (item, body) VALUES ($1, $2)", n % 10000 + 1, "a note of some words") == 1)
end

local function run(left)
  local function task()
    while left > 0 do
      left = left - 1
      works[work](left)
    end
  end
  local list = {}
  for i = 1, tasks do
    list[i] = task
  end
  all(list)
end

local function processor()
  local usage = uv.getrusage()
  return usage.utime.sec + usage.stime.sec + (usage.utime.usec + usage.stime.usec) / 1e6
end

run(math.max(tasks, count // 10))
local began, used = uv.hrtime(), processor()
run(count)
print((uv.hrtime() - began) / 1e9, processor() - used)
database:close()
