-- report: what a run of the benchmark found, as the Markdown text of bench/RESULTS.md.

local NOTES <const> = [[
Times are medians of %d rounds (growth: 2 at most, memory: 1), in each of which all participants take their
turn; ± is half of what the fastest and the slowest round differ by. A time is that of the processor, or the
elapsed one where that is less (sleepers, start: the elapsed one), so that other programs on the machine
count little. Ratios are medians of the rounds' ratios. The tables of tasks are made beforehand and each
result is checked. Times that differ by less than a fifth are not told apart: "(close)".

- **allua**: `all{}` with all that it has by default (names, errors, cycles, cancelling, order of start).
- **named limit**, **bare limit**: `bench/limit.c`: reused coroutines that suspend in a C `__index` on
  string keys, or in a C function that takes a number; nothing else.
- **bare Lua**: `bench/coroutines.lua`: coroutines, a queue and a table of results; it is given the order of
  start, which allua sorts for itself. **luv**, **cqueues**: schedulers on these.
- **Go**: goroutines with channels. **better-all**, **promises** by hand, **Effect**: `bench/javascript.mjs`.

In generators and settled read the one who is read has settled, and all go the way that they go for one that has
not. In generators those take part whose generators may wait: cqueues' are those of its auxlib; bare Lua's and luv's
would hand their wait to the consumer, as the limits' would.

Copas is left out: Debian's, 1.2, is not for Lua 5.4 and has no way to sleep or to wake.
allua and the limits collect in %s mode, allua's own; bare Lua, luv and cqueues in that of `lua5.4`,
generational.
]]

return function(run)
  local values, key, drawing, there = run.values, run.key, run.drawing, run.there
  local number = drawing.number
  local text = {}

  local function section(title, rows)
    if #rows > 1 then
      text[#text + 1] = ("## %s\n\n%s\n"):format(title, drawing.draw(rows))
    end
  end

  local function value(row, name, mode)
    return values[key(row, name, mode)]
  end

  local function ratio(row, a, b, mode)
    local one, two = value(row, a, mode), value(row, b, mode)
    return one and two and run.ratio(one, two)
  end

  local function size(row)
    return tonumber(row[2]) and number(tonumber(row[2])) or (row[2]:gsub("x", " × "))
  end

  local function taking_part(list)
    local names = {}
    for _, name in ipairs(run.rows.order) do
      for _, row in ipairs(list) do
        if value(row, name) then
          names[#names + 1] = name
          break
        end
      end
    end
    return names
  end

  local function costs(list)
    local names = taking_part(list)
    local times, ratios = { { "workload", "N", "unit" } }, { { "workload", "N" } }
    for _, name in ipairs(names) do
      table.insert(times[1], name)
      table.insert(ratios[1], name ~= "allua" and name or nil)
    end
    for _, row in ipairs(list) do
      if value(row, "allua") then
        local unit = row[1] == "sleepers" and "ms"
          or row[1] == "resting" and "bytes a task"
          or row[1] == "spike" and "bytes a task"
          or row[1]:find("^dash") and "ns a group"
          or row[1]:find("read") and "ns a read"
          or row[1] == "generators" and "ns a read"
          or "ns a task"
        local line, against = { row[1], size(row), unit }, { row[1], size(row) }
        for _, name in ipairs(names) do
          local one = value(row, name)
          line[#line + 1] = one
              and ("%s ±%.0f%%"):format(number(one.middle / (unit == "ms" and 1e6 or 1)), one.spread * 100)
            or ""
          if name ~= "allua" then
            against[#against + 1] = one and ("%.2f"):format(ratio(row, "allua", name)) or ""
          end
        end
        times[#times + 1], ratios[#ratios + 1] = line, against
      end
    end
    return times, ratios
  end

  local function mode_table()
    local lines = {
      {
        "workload",
        "N",
        "tasks",
        "÷ named, " .. there.collector,
        "÷ named, " .. run.other,
        "÷ bare, " .. there.collector,
        "÷ bare, " .. run.other,
        "allua, " .. run.other .. " ÷ " .. there.collector,
      },
    }
    for _, list in ipairs({ run.rows.cost, run.rows.lists }) do
      for _, row in ipairs(list) do
        if value(row, "allua", run.other) then
          local line = { row[1], size(row), row[3] }
          for _, limit in ipairs({ "named limit", "bare limit" }) do
            for i = 1, 2 do
              local one = ratio(row, "allua", limit, i == 2 and run.other or nil)
              line[#line + 1] = one and ("%.2f"):format(one) or ""
            end
          end
          line[#line + 1] = ("%.2f"):format(run.ratio(value(row, "allua", run.other), value(row, "allua")))
          lines[#lines + 1] = line
        end
      end
    end
    return lines
  end

  -- How much more a task costs in the larger number: allua's, and the limit's.
  local function growth(row)
    local function of(name)
      local small, large = value({ row[1], row[2], row[4] }, name), value({ row[1], row[3], row[4] }, name)
      return small and large and run.ratio(large, small), small, large
    end
    local grows, small, large = of("allua")
    return grows, of(row[5]), small, large
  end

  local function growth_table()
    local lines = { { "workload", "tasks", "from", "to", "allua, ns a task", "grows", "the limit grows" } }
    for _, row in ipairs(run.rows.growth) do
      local grows, limits, small, large = growth(row)
      if grows then
        lines[#lines + 1] = {
          row[1],
          row[4],
          number(tonumber(row[2])),
          number(tonumber(row[3])),
          number(small.middle) .. ", " .. number(large.middle),
          ("%.2f"):format(grows),
          ("%.2f"):format(limits),
        }
      end
    end
    return lines
  end

  local function start_table()
    local lines = { { "start", "ms", "÷ lua5.4" } }
    local lua = values["start; bare Lua"]
    for _, start in ipairs(there.starts) do
      local one = values["start; " .. start.name]
      if one then
        local name = start.name == "bare Lua" and "lua5.4" or start.name:match("^(%l+) %+") or start.name
        lines[#lines + 1] = {
          name,
          ("%.1f ±%.0f%%"):format(one.middle, one.spread * 100),
          lua and ("%.2f"):format(run.ratio(one, lua)) or "",
        }
      end
    end
    return lines
  end

  local function instructions()
    local stored = run.process.read(run.bench .. "/instructions.txt") or ""
    local found, order = {}, {}
    for row, name, counted in stored:gmatch("([^\n;#]+; [^;\n]+; [^;\n]+); ([^;:\n]+): (%d+)") do
      if not found[row] then
        found[row] = {}
        order[#order + 1] = row
      end
      found[row][name] = tonumber(counted)
    end
    local lines = { { "workload; N; tasks", "allua", "named limit", "allua ÷", "bare limit", "allua ÷" } }
    for _, row in ipairs(order) do
      local own = found[row].allua
      local line = { row, number(own) }
      for _, name in ipairs({ "named limit", "bare limit" }) do
        local one = found[row][name]
        line[#line + 1] = one and number(one) or ""
        line[#line + 1] = one and ("%.2f"):format(own / one) or ""
      end
      lines[#lines + 1] = line
    end
    return lines
  end

  local goals = { { "target", "where", "found", "wanted", "" } }
  -- A figure and its bound; timed: a difference of less than a fifth is close.
  local function goal(what, where, figure, most, bound, timed)
    if figure then
      local met = most and figure <= bound or not most and figure >= bound
      local close = timed and figure < bound * 1.2 and figure > bound / 1.2
      goals[#goals + 1] = {
        what,
        where,
        (figure >= 100 and number(figure) or ("%.2f"):format(figure)),
        (most and "≤ " or "≥ ") .. (bound >= 100 and number(bound) or tostring(bound)),
        (met and "met" or "MISSED") .. (close and " (close)" or ""),
      }
    end
  end

  local function targets()
    local product, terms = 1, 0
    for _, row in ipairs(run.rows.cost) do
      goal("allua ÷ named limit", row[1] .. " " .. size(row), ratio(row, "allua", "named limit"), true, 1.25, true)
    end
    for _, row in ipairs(run.rows.lists) do
      goal("a list ÷ bare limit", row[1] .. " " .. size(row), ratio(row, "allua", "bare limit"), true, 1.5, true)
    end
    for _, row in ipairs(run.rows.cost) do
      local fastest
      for _, runtime in ipairs({ "node", "bun", "deno" }) do
        local times = ratio(row, runtime .. " + better-all", "allua")
        fastest = times and math.min(fastest or times, times) or fastest
      end
      if fastest then
        product, terms = product * fastest, terms + 1
      end
      goal("better-all on its fastest runtime ÷ allua", row[1] .. " " .. size(row), fastest, false, 2, true)
    end
    goal("the same, geometric mean", "all", terms > 0 and product ^ (1 / terms), false, 3, true)
    for _, row in ipairs(run.rows.cost) do
      local listed = row[1] == "wide" and row[2] == "100000"
      local go, own = value(row, "Go"), value(listed and { "wide", "100000", "list" } or row, "allua")
      goal(
        "Go ÷ allua" .. (listed and "'s list" or ""),
        row[1] .. " " .. size(row),
        go and own and run.ratio(go, own),
        false,
        1,
        true
      )
    end
    for _, peer in ipairs({ "luv", "cqueues" }) do
      for _, row in ipairs(run.rows.cost) do
        goal(peer .. " ÷ allua", row[1] .. " " .. size(row), ratio(row, peer, "allua"), false, 5, true)
      end
    end
    for _, row in ipairs(run.rows.growth) do
      local grows, limits = growth(row)
      goal(
        "1,000,000 ÷ 10,000",
        ("%s, %s (the limit: %s)"):format(row[1], row[4], limits and ("%.2f"):format(limits)),
        grows,
        true,
        1.5,
        true
      )
    end
    local resting, spike = value(run.rows.memory[1], "allua"), value(run.rows.memory[2], "allua")
    goal("bytes of a waiting task", "100,000 of them", resting and resting.middle, true, 1350)
    goal("bytes a task that stay after a spike", "100,000, then idle", spike and spike.middle, true, 135)
    local own, lua = values["start; allua"], values["start; bare Lua"]
    goal("start ÷ lua5.4", "", own and lua and run.ratio(own, lua), true, 1.5, true)
  end

  local cpu = run.process.read("/proc/cpuinfo") or ""
  local _, processors = cpu:gsub("processor%s*:", "")
  local memory = tonumber((run.process.read("/proc/meminfo") or ""):match("MemTotal:%s*(%d+)")) or 0
  text[1] = ("# Results\n\n%s, on %d × %s, %.0f GiB of memory, %s.\n"):format(
    os.date("%Y-%m-%d"),
    processors,
    cpu:match("model name%s*:%s*([^\n]+)") or "?",
    memory / 2 ^ 20,
    run.process.capture("uname", "-srm")
  )
  text[2] = table.concat(there.versions, "; ") .. ".\n"
  if there.skipped[1] then
    text[3] = "Skipped: " .. table.concat(there.skipped, "; ") .. ".\n"
  end
  if there.failed[1] then
    text[#text + 1] = "Failed, or took too long: " .. table.concat(there.failed, ", ") .. ".\n"
  end
  text[#text + 1] = NOTES:format(run.rounds, there.collector)
  text[#text + 1] = "![Time a task](results.svg)\n"
  local times, ratios = costs(run.rows.cost)
  section("Cost", times)
  section("Cost: allua ÷ each (less than 1.00 is faster than that peer)", ratios)
  times, ratios = costs(run.rows.lists)
  section("Lists", times)
  section("Lists: allua ÷ each", ratios)
  section("Both modes of the collector: allua ÷ the limits in the same mode", mode_table())
  section("Memory", (costs(run.rows.memory)))
  section("Growth", growth_table())
  section("Start", start_table())
  section("Instructions", instructions())
  targets()
  section("Targets", goals)
  return table.concat(text, "\n")
end
