-- run: measures allua against its peers, prints a table and writes it to bench/RESULTS.md.
--
--   allua bench/run.lua [--rounds N] [--only TEXT] [--collector incremental|generational] [--build DIR]
--
-- Each measurement is a process of its own that repeats its workload for at least 0.12 s and checks its
-- result. In each round all participants take their turn, so that what disturbs the machine disturbs all.
-- With --only (rows whose name holds the text) nothing is written.

local bench = arg[0]:match("^(.*)/") or "."
local settings = { rounds = 5, build = bench .. "/../build" }

local function usage()
  io.stderr:write("usage: run.lua [--rounds N] [--only TEXT] [--collector incremental|generational] [--build DIR]\n")
  os.exit(2)
end

for i = 1, #arg, 2 do
  local name = arg[i]:match("^%-%-(%a+)$")
  if not arg[i + 1] or not (name == "rounds" or name == "only" or name == "collector" or name == "build") then
    usage()
  end
  settings[name] = arg[i + 1]
end
settings.rounds = math.tointeger(settings.rounds) or usage()

-- Running programs ------------------------------------------------------------------------------------------

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- What a command prints, without the last newline; nil and what it said if it fails.
local function capture(...)
  local words = {}
  for i, word in ipairs({ ... }) do
    words[i] = quote(word)
  end
  local pipe = assert(io.popen(table.concat(words, " ") .. " 2>&1"))
  local text = pipe:read("a"):gsub("%s+$", "")
  if pipe:close() then
    return text
  end
  return nil, text
end

local terminal = os.execute("test -t 2") -- standard error is one

local function progress(text)
  if terminal then
    io.stderr:write("\r\27[K", text)
  end
end

local function skip(what, why)
  print(("skipped: %s (%s)"):format(what, why:match("[^\n]*")))
end

-- The participants ------------------------------------------------------------------------------------------

local participants = {} -- name -> { words of its command before WORKLOAD SIZE FORM COLLECTOR }
local versions = {}

local function prepare_allua()
  local allua = settings.build .. "/allua"
  local version = assert(capture(allua, "--version"))
  versions[#versions + 1] = version:match("[^\n]*")
  participants.allua = { allua, bench .. "/allua.lua" }
  return settings.collector or assert(capture(allua, "-e", "print(collectgarbage('incremental'))"))
end

local function prepare_coroutines()
  local version, why = capture("lua5.4", "-v")
  if not version then
    return skip("bare Lua", why)
  end
  local there
  there, why = capture("lua5.4", "-e", "require('luv')")
  if not there then
    return skip("bare Lua", why)
  end
  versions[#versions + 1] = "lua5.4: " .. version:match("Lua [%d.]+")
  participants["bare Lua"] = { "lua5.4", bench .. "/coroutines.lua" }
end

local function prepare_limits()
  local program = settings.build .. "/bench/limit"
  if not capture("test", "-x", program) then
    return skip("the limits", "bench/limit.c is not built; make bench does it")
  end
  local compiler = capture("cc", "--version")
  versions[#versions + 1] = compiler and compiler:match("[^\n]*")
  participants["bare limit"] = { program, bench .. "/limit.lua", "bare" }
  participants["named limit"] = { program, bench .. "/limit.lua", "named" }
end

local function prepare_better_all()
  local node, why = capture("node", "--version")
  if not node then
    return skip("better-all", why)
  end
  local folder = settings.build .. "/bench"
  local package = folder .. "/node_modules/better-all/package.json"
  if not io.open(package) then
    assert(capture("mkdir", "-p", folder))
    local installed
    installed, why = capture("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, "better-all")
    if not installed then
      return skip("better-all", "npm: " .. why)
    end
  end
  local file = assert(io.open(package))
  versions[#versions + 1] = "node " .. node
  versions[#versions + 1] = "better-all " .. file:read("a"):match('"version"%s*:%s*"([^"]+)"')
  file:close()
  participants["better-all"] = { "node", "--expose-gc", bench .. "/better-all.mjs", folder }
end

-- Measuring -------------------------------------------------------------------------------------------------

local ORDER <const> = { "allua", "bare Lua", "bare limit", "named limit", "better-all" }
local LIST <const> = { "allua", "bare Lua", "bare limit" } -- better-all has no lists
local GROWTH <const> = { "allua", "bare Lua", "bare limit", "named limit" }
local NAMES <const> = { "allua", "bare Lua", "named limit" }

-- Rows: what, how many, names or a list, who takes part.
local COSTS <const> = {
  { "wide", "10", "names", ORDER },
  { "wide", "1000", "names", ORDER },
  { "wide", "100000", "names", ORDER },
  { "wide, a list", "10", "list", LIST },
  { "wide, a list", "1000", "list", LIST },
  { "wide, a list", "100000", "list", LIST },
  { "chain", "10", "names", ORDER },
  { "chain", "1000", "names", ORDER },
  { "chain", "100000", "names", ORDER },
  { "layers", "100x10", "names", ORDER },
  { "layers", "1000x100", "names", ORDER },
  { "dashboard, leaves first", "1", "names", ORDER },
  { "dashboard, leaves last", "1", "names", ORDER },
  { "sleepers", "100000", "list", ORDER },
  { "resting", "100000", "list", ORDER },
}

-- Rows: what, names or a list, the smaller and the larger number, who takes part.
local LINES <const> = {
  { "wide", "names", "10000", "1000000", NAMES },
  { "wide, a list", "list", "10000", "1000000", LIST },
  { "chain", "names", "10000", "100000", NAMES },
  { "chain forward", "names", "10000", "100000", NAMES },
  { "chain random", "names", "10000", "100000", NAMES },
}

local collector

local function measure(name, workload, size, form)
  local command = { "timeout", "300", table.unpack(participants[name]) }
  command[#command + 1] = workload:match("^(.-), a list$") or workload
  command[#command + 1] = size
  command[#command + 1] = form
  -- allua and lua5.4 come with a collector of their choice; the limits are measured with allua's.
  command[#command + 1] = name:find("limit") and collector or settings.collector
  local text, why = capture(table.unpack(command))
  return tonumber(text) or error(("%s, %s %s: %s"):format(name, workload, size, text or why), 0)
end

local function median(values)
  table.sort(values)
  local middle = #values // 2
  return #values % 2 == 1 and values[middle + 1] or (values[middle] + values[middle + 1]) / 2
end

-- Measures cells, { workload, size, form }, for those of the names that take part: name -> a list beside
-- the cells, of { middle = median, spread = half of what the rounds differ by, rounds = values }.
local function rounds(cells, names)
  local values = {}
  for round = 1, settings.rounds do
    for i, cell in ipairs(cells) do
      for _, name in ipairs(names) do
        if participants[name] then
          progress(("%s %s: round %d of %d, %s"):format(cell[1], cell[2], round, settings.rounds, name))
          values[name] = values[name] or {}
          values[name][i] = values[name][i] or { rounds = {} }
          values[name][i].rounds[round] = measure(name, table.unpack(cell))
        end
      end
    end
  end
  progress("")
  for _, list in pairs(values) do
    for _, value in ipairs(list) do
      local sorted = table.move(value.rounds, 1, #value.rounds, 1, {})
      value.middle = median(sorted)
      value.spread = (sorted[#sorted] - sorted[1]) / 2 / value.middle
    end
  end
  return values
end

-- The ratio of two measurements: the median of the rounds' ratios.
local function ratio(a, b)
  local ratios = {}
  for round, value in ipairs(a.rounds) do
    ratios[round] = value / b.rounds[round]
  end
  return median(ratios)
end

-- The report ------------------------------------------------------------------------------------------------

local function number(value)
  return (("%.0f"):format(value):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^(%-?),", "%1"))
end

-- A Markdown table, its columns aligned; all but the first to the right.
local function draw(rows)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 3, utf8.len(cell))
    end
  end
  for n, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      local space = (" "):rep(widths[i] - utf8.len(cell))
      cells[i] = i == 1 and cell .. space or space .. cell
    end
    lines[#lines + 1] = "| " .. table.concat(cells, " | ") .. " |"
    if n == 1 then
      local rule = {}
      for i in ipairs(row) do
        rule[i] = ("-"):rep(widths[i] - (i == 1 and 0 or 1)) .. (i == 1 and "" or ":")
      end
      lines[#lines + 1] = "| " .. table.concat(rule, " | ") .. " |"
    end
  end
  return table.concat(lines, "\n")
end

local function shown(value, scale)
  return ("%s ±%.0f%%"):format(number(value.middle / scale), value.spread * 100)
end

local function wanted(workload)
  return not settings.only or workload:find(settings.only, 1, true)
end

local UNITS <const> = { sleepers = { "ms", 1e6 }, resting = { "bytes a task", 1 } }

local function unit_of(workload)
  local unit = UNITS[workload]
  if unit then
    return table.unpack(unit)
  end
  return workload:find("^dashboard") and "ns a group" or "ns a task", 1
end

local function cost_table(worst)
  local rows = { { "workload", "N", "unit" } }
  for _, name in ipairs(ORDER) do
    if participants[name] then
      table.insert(rows[1], name)
      if name ~= "allua" then
        table.insert(rows[1], "allua ÷")
      end
    end
  end
  for _, row in ipairs(COSTS) do
    local workload, size, form, names = table.unpack(row)
    if wanted(workload) then
      local values = rounds({ { workload, size, form } }, names)
      local unit, scale = unit_of(workload)
      local line = { workload, tonumber(size) and number(size) or size:gsub("x", " × "), unit }
      for _, name in ipairs(ORDER) do
        local value = values[name] and values[name][1]
        if participants[name] then
          line[#line + 1] = value and shown(value, scale) or ""
          if name ~= "allua" then
            line[#line + 1] = value and ("%.2f"):format(ratio(values.allua[1], value)) or ""
          end
        end
      end
      rows[#rows + 1] = line
      if workload == "resting" then
        worst.bytes = values.allua[1].middle
      elseif workload ~= "sleepers" and values["bare Lua"] then
        local against = ratio(values.allua[1], values["bare Lua"][1])
        if against > (worst.ratio or 0) then
          worst.ratio, worst.at = against, workload .. " " .. line[2]
        end
      end
    end
  end
  return rows
end

local function growth_table(worst)
  local rows = { { "workload", "from", "to" } }
  for _, name in ipairs(GROWTH) do
    if participants[name] then
      table.insert(rows[1], name .. ", ns a task")
      table.insert(rows[1], "grows")
    end
  end
  for _, row in ipairs(LINES) do
    local workload, form, small, large, names = table.unpack(row)
    if wanted(workload) then
      local values = rounds({ { workload, small, form }, { workload, large, form } }, names)
      local line = { workload, number(small), number(large) }
      local grows = {}
      for _, name in ipairs(GROWTH) do
        local value = values[name]
        if participants[name] then
          grows[name] = value and ratio(value[2], value[1])
          line[#line + 1] = value and ("%s, %s"):format(shown(value[1], 1), shown(value[2], 1)) or ""
          line[#line + 1] = value and ("%.2f"):format(grows[name]) or ""
        end
      end
      rows[#rows + 1] = line
      if grows.allua > (worst.growth or 0) then
        worst.growth, worst.growing = grows.allua, workload
        worst.bare_growth = grows["bare Lua"]
      end
    end
  end
  return rows
end

local function machine()
  local function first(path, pattern)
    local file = io.open(path)
    local text = file and file:read("a") or ""
    if file then
      file:close()
    end
    return text:match(pattern) or "?", text
  end
  local model, text = first("/proc/cpuinfo", "model name%s*:%s*([^\n]+)")
  local _, processors = text:gsub("processor%s*:", "")
  local memory = tonumber((first("/proc/meminfo", "MemTotal:%s*(%d+)"))) or 0
  return ("%d × %s, %.0f GiB of memory, %s"):format(processors, model, memory / 2 ^ 20, capture("uname", "-srm"))
end

local NOTES <const> = [[
Times are medians of %d rounds, in each of which all participants take their turn; ± is half of what the
fastest and the slowest round differ by. A time is that of the processor, or the elapsed one where that is
less (sleepers: the elapsed one), so that other programs on the machine count little. "allua ÷" is the median
of the rounds' ratios: less than 1.00 is faster than that peer. The tables of tasks are made beforehand and
each result is checked.

- **allua**: `all{}` with all that it has by default (names, errors, cycles, cancelling, order of start).
- **bare Lua**: `bench/coroutines.lua` under `lua5.4`: `coroutine.create`, `resume` and `yield`, a queue and a
  table of results, nothing else; it is given the order of start, which allua sorts for itself.
- **bare limit**: `bench/limit.c`: reused `lua_newthread`, `lua_resume`, `lua_yieldk`; tasks are numbers.
- **named limit**: the same, suspended in a C `__index` on string keys, which it maps to numbers in each run.
- **better-all**: the npm package, on node.

allua and the limits collect in %s mode%s.
]]

local function target(name, met, text)
  return ("- %s: %s: %s"):format(met and "met" or "MISSED", name, text)
end

local function targets(worst)
  local lines = {}
  if worst.ratio then
    local text = ("%.2f, at %s"):format(worst.ratio, worst.at)
    lines[#lines + 1] = target("a group's task costs at most 1.5 times a bare Lua coroutine", worst.ratio <= 1.5, text)
  end
  if worst.growth then
    local bound = 1.5 * math.max(1, worst.bare_growth or 1)
    local text = ("%.2f times from smallest to largest, at %s"):format(worst.growth, worst.growing)
    if worst.bare_growth then
      text = text .. (" (bare Lua: %.2f)"):format(worst.bare_growth)
    end
    lines[#lines + 1] = target(
      "linear: the cost of a task grows by at most 1.5, or 1.5 times as much as for bare Lua",
      worst.growth <= bound,
      text
    )
  end
  if worst.bytes then
    local text = number(worst.bytes)
    lines[#lines + 1] = target("a sleeping task takes at most 1,600 bytes", worst.bytes <= 1600, text)
  end
  return lines
end

collector = prepare_allua()
prepare_coroutines()
prepare_limits()
prepare_better_all()

local report = { "# Results", "", os.date("%Y-%m-%d") .. ", on " .. machine() .. ".", "" }
report[#report + 1] = table.concat(versions, "; ") .. "."
local mode = settings.collector and ", and so does bare Lua" or "; bare Lua in that of `lua5.4`, generational"
report[#report + 1] = "\n" .. NOTES:format(settings.rounds, collector, mode)

local worst = {}
print(table.concat(report, "\n"))
for _, part in ipairs({ { "Cost", cost_table }, { "Growth", growth_table } }) do
  local rows = part[2](worst)
  if #rows > 1 then
    local text = "## " .. part[1] .. "\n\n" .. draw(rows) .. "\n"
    print(text)
    report[#report + 1] = text
  end
end
local reached = table.concat(targets(worst), "\n")
print("## Targets\n\n" .. reached)
report[#report + 1] = "## Targets\n\n" .. reached

if not settings.only then
  local file = assert(io.open(bench .. "/RESULTS.md", "w"))
  assert(file:write(table.concat(report, "\n"), "\n"))
  file:close()
end
