-- run: measures allua against its peers, prints tables and writes them to bench/RESULTS.md and results.svg.
--
--   allua bench/run.lua [--rounds N] [--only TEXT] [--peers NAME,NAME] [--build DIR]
--
-- Each measurement is a process of its own that repeats its workload for a while and checks its result. In
-- each round all participants take their turn, so that what disturbs the machine disturbs all. With --only
-- (rows whose name holds the text) or --peers (whose name holds one of the texts) nothing is written.

local bench = arg[0]:match("^(.*)/") or "."
local function part(name)
  return dofile(("%s/%s.lua"):format(bench, name))
end
local process, drawing, rounds, rows = part("process"), part("table"), part("rounds"), part("rows")

local settings = process.options({ rounds = "5", only = "", peers = "", build = bench .. "/../build" })
settings.bench = bench
local count = assert(math.tointeger(settings.rounds), "--rounds wants a number")
local there = part("participants")(settings)
local other = there.collector == "incremental" and "generational" or "incremental"

local values = {} -- "workload; N; form; participant[; mode]" -> measurement

local function key(row, name, mode)
  return table.concat({ row[1], row[2], row[3], name, mode }, "; ")
end

local function takes_part(row, name)
  for _, excluded in ipairs(row[4]) do
    if name:find(excluded, 1, true) then
      return false
    end
  end
  return there.commands[name] ~= nil
end

local function ours(name)
  return name == "allua" or name:find("limit$") ~= nil
end

local function cell(row, name, mode)
  local words = table.move(there.commands[name], 1, #there.commands[name], 1, {})
  -- allua and lua5.4 come with a collector of their choice; the limits are measured with allua's.
  local collector = mode or (ours(name) and there.collector or "default")
  table.move({ row[1], row[2], row[3], collector }, 1, 4, #words + 1, words)
  return { key = key(row, name, mode), words = words, may_fail = not ours(name) }
end

local function wanted(row)
  return row[1]:find(settings.only, 1, true)
end

local function measure(cells, times)
  for name, value in pairs(rounds.measure(cells, times, there.failed)) do
    values[name] = value
  end
end

local function measure_rows(list, times, modes)
  for _, row in ipairs(list) do
    local cells = {}
    for _, name in ipairs(wanted(row) and rows.order or {}) do
      if takes_part(row, name) then
        cells[#cells + 1] = cell(row, name)
        if modes and ours(name) then
          cells[#cells + 1] = cell(row, name, other)
        end
      end
    end
    measure(cells, times)
  end
end

local function measure_growth()
  for _, row in ipairs(rows.growth) do
    local cells = {}
    for _, name in ipairs(wanted(row) and { "allua", row[5] } or {}) do
      for _, size in ipairs({ row[2], row[3] }) do
        cells[#cells + 1] = cell({ row[1], size, row[4] }, name)
      end
    end
    measure(cells, math.min(count, 2))
  end
end

local function measure_start()
  local cells = {}
  for _, start in ipairs(("start"):find(settings.only, 1, true) and there.starts or {}) do
    cells[#cells + 1] =
      { key = "start; " .. start.name, words = { settings.build .. "/bench/start", table.unpack(start.words) } }
  end
  measure(cells, count)
end

measure_rows(rows.cost, count, true)
measure_rows(rows.lists, count, true)
measure_rows(rows.memory, 1)
measure_growth()
measure_start()

local report = part("report")({
  there = there,
  rows = rows,
  values = values,
  key = key,
  other = other,
  rounds = count,
  ratio = rounds.ratio,
  drawing = drawing,
  process = process,
  bench = bench,
})
print(report)
if settings.only == "" and settings.peers == "" then
  process.write(bench .. "/RESULTS.md", report .. "\n")
  part("plot")({ values = values, key = key, rows = rows, process = process, path = bench .. "/results.svg" })
end
