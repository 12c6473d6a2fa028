-- instructions: counts the processor's instructions a task takes, of allua and of both limits.
--
--   allua bench/instructions.lua [--build DIR] [--only TEXT] [--check yes]
--
-- Valgrind counts two runs of each workload that differ in how often they repeat it; what starting takes
-- is in both and falls out. The figures do not depend on what else the machine does, and hardly vary (a
-- state of Lua hashes strings with a seed of its own). They are written to bench/instructions.txt; with
-- --check they are compared with those there instead, and one of allua's that has grown by more than a
-- tenth is a failure.

local bench = arg[0]:match("^(.*)/") or "."
local process = dofile(bench .. "/process.lua")
local drawing = dofile(bench .. "/table.lua")

local GROWTH <const> = 1.1 -- that a check allows
local LEAST <const> = 5 -- instructions more are no growth

local settings = process.options({ build = bench .. "/../build", only = "", check = "" })
local check = settings.check ~= ""
local stored = bench .. "/instructions.txt"

-- Rows: workload, how many, names or a list, how often it is run more in the longer run, a row's units.
local ROWS <const> = {
  { "wide", "10", "names", 2000, 10 },
  { "wide", "1000", "names", 40, 1000 },
  { "wide", "10", "list", 2000, 10 },
  { "wide", "1000", "list", 40, 1000 },
  { "chain", "10", "names", 2000, 10 },
  { "chain", "1000", "names", 30, 1000 },
  { "chain", "1000", "list", 40, 1000 },
  { "chain forward", "1000", "names", 30, 1000 },
  { "chain random", "1000", "names", 30, 1000 },
  { "layers", "100x10", "names", 30, 1000 },
  { "layers", "100x10", "list", 40, 1000 },
  { "dashboard, leaves first", "1", "names", 2000, 1 },
  { "dashboard, leaves last", "1", "names", 2000, 1 },
  { "generators", "1000", "names", 40, 1000 },
  { "settled read", "1000", "names", 100, 1000 },
  { "cancel", "1000", "names", 20, 1000 },
}

local PARTICIPANTS <const> = { "allua", "named limit", "bare limit" }
local limit = settings.build .. "/bench/limit"
local COMMANDS <const> = {
  allua = { settings.build .. "/allua", bench .. "/allua.lua" },
  ["named limit"] = { limit, bench .. "/limit.lua", "named" },
  ["bare limit"] = { limit, bench .. "/limit.lua", "bare" },
}

-- allua's own mode, for the limits as well.
local collector = assert(process.capture(COMMANDS.allua[1], "-e", "print(collectgarbage('incremental'))"))

local function count(...)
  local said, why = process.capture("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", ...)
  local counted = said and said:match("Collected%s*:%s*(%d+)")
  return tonumber(counted) or error(table.concat({ ... }, " ") .. ": " .. (said or why), 0)
end

-- Instructions a unit.
local function measure(name, row)
  local workload, size, form, more, units = table.unpack(row)
  local least = more // 10
  local function times(n)
    local command = table.move(COMMANDS[name], 1, #COMMANDS[name], 1, {})
    table.move({ workload, size, form, collector, tostring(n) }, 1, 5, #command + 1, command)
    return count(table.unpack(command))
  end
  return (times(least + more) - times(least)) / (more * units)
end

local function takes_part(name, row)
  if name == "allua" then
    return true
  end
  return not check and row[1] ~= "cancel" and row[3] ~= "-" and (name == "bare limit" or row[3] == "names")
end

local function key(name, row)
  return table.concat({ row[1], row[2], row[3], name }, "; ")
end

local rows, measurements = { table.unpack(ROWS) }, {}
rows[#rows + 1] = { "start", "1", "-" }
for _, row in ipairs(rows) do
  if row[1]:find(settings.only, 1, true) then
    for _, name in ipairs(PARTICIPANTS) do
      if takes_part(name, row) then
        measurements[#measurements + 1] = { name, row }
      end
    end
  end
end

local before = {}
for line in (process.read(stored) or ""):gmatch("[^\n]+") do
  local name, instructions = line:match("^([^#].*): (%d+)$")
  if name then
    before[name] = tonumber(instructions)
  end
end

local function has_grown(name, row, counted)
  local old = check and before[key(name, row)]
  return old and counted > old * GROWTH and counted > old + LEAST
end

local processors = #require("luv").cpu_info()
local counted = require("allua").map(measurements, function(measurement)
  local name, row = table.unpack(measurement)
  if row[1] == "start" then
    return count(COMMANDS.allua[1], "-e", "")
  end
  local least = measure(name, row)
  for _ = 1, 2 do
    if has_grown(name, row, least) then -- with another seed
      least = math.min(least, measure(name, row))
    end
  end
  return least
end, { concurrency = processors })

local found = {}
for i, measurement in ipairs(measurements) do
  found[key(measurement[1], measurement[2])] = counted[i]
end

local head = { "workload", "N", "tasks", "allua" }
local shown = { head }
if check then
  table.move({ "stored", "" }, 1, 2, 5, head)
else
  table.move({ "named limit", "allua ÷", "bare limit", "allua ÷" }, 1, 4, 5, head)
end
local grown = {}
for _, row in ipairs(rows) do
  local own = found[key("allua", row)]
  if own then
    local line = { row[1], (row[2]:gsub("x", " × ")), row[3], drawing.number(own) }
    if check then
      local old = before[key("allua", row)]
      line[5] = old and drawing.number(old) or "none"
      line[6] = old and ("%+.1f%%"):format((own / old - 1) * 100) or ""
      if not old then
        grown[#grown + 1] = ("%s %s, %s: nothing is stored to compare with"):format(row[1], row[2], row[3])
      elseif has_grown("allua", row, own) then
        grown[#grown + 1] = ("%s %s, %s: %s instructions, stored are %s (%s)"):format(
          row[1],
          row[2],
          row[3],
          line[4],
          line[5],
          line[6]
        )
      end
    else
      for _, name in ipairs({ "named limit", "bare limit" }) do
        local other = found[key(name, row)]
        line[#line + 1] = other and drawing.number(other) or ""
        line[#line + 1] = other and ("%.2f"):format(own / other) or ""
      end
    end
    shown[#shown + 1] = line
  end
end
print(drawing.draw(shown))

if check then
  if grown[1] then
    io.stderr:write("\nallua takes more instructions than it did:\n  ", table.concat(grown, "\n  "), "\n")
    io.stderr:write("Make it cheaper, or store the new figures: make bench-instructions, and commit ", stored, ".\n")
    os.exit(1, true)
  end
elseif settings.only == "" then
  local lines = {
    "# Instructions a task (a read, a group of the dashboard, a start) takes; `make bench-instructions` writes",
    "# them, `make check-instructions` compares. WORKLOAD; N; names or list; PARTICIPANT: INSTRUCTIONS",
  }
  for _, measurement in ipairs(measurements) do
    local name = key(measurement[1], measurement[2])
    lines[#lines + 1] = ("%s: %.0f"):format(name, found[name])
  end
  process.write(stored, table.concat(lines, "\n") .. "\n")
end
