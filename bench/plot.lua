-- plot: draws the benchmark's main results with gnuplot, as SVG.

local SHOWN <const> = {
  { "wide", "1000" },
  { "chain", "1000" },
  { "layers", "100x10" },
  { "dashboard, leaves last", "1" },
  { "chain", "100000" },
}

-- allua in red; the limits grey, bare Lua green, better-all blue.
local COLOURS <const> = {
  allua = "#d62728",
  ["named limit"] = "#7f7f7f",
  ["bare limit"] = "#c7c7c7",
  ["bare Lua"] = "#2ca02c",
  Go = "#17becf",
  ["bun + better-all"] = "#08306b",
  ["deno + better-all"] = "#2171b5",
  ["node + better-all"] = "#6baed6",
  ["node + promises"] = "#9467bd",
  ["node + Effect"] = "#e377c2",
  luv = "#ff7f0e",
  cqueues = "#8c564b",
}

local HEAD <const> = [[
set terminal svg size 1100,520 background "white" font "sans-serif,12"
set output "%s"
set title "Nanoseconds a task (dashboard: a group); less is better"
set style data histogram
set style histogram clustered gap 2
set style fill solid 0.9 noborder
set logscale y
set grid ytics
set key outside right top
set yrange [50:]
]]

return function(run)
  if not run.process.capture("gnuplot", "--version") then
    print("skipped: the plot (gnuplot is not there: make bench-peers)")
    return
  end
  local names = {}
  for _, name in ipairs(run.rows.order) do
    if run.values[run.key({ "wide", "1000", "names" }, name)] then
      names[#names + 1] = name
    end
  end
  local lines = { HEAD:format(run.path), "$data << EOD" }
  for _, row in ipairs(SHOWN) do
    local line = { ('"%s %s"'):format(row[1], row[2]:gsub("x", " × ") .. "") }
    for _, name in ipairs(names) do
      local value = run.values[run.key({ row[1], row[2], "names" }, name)]
      line[#line + 1] = value and ("%.1f"):format(value.middle) or "NaN"
    end
    lines[#lines + 1] = table.concat(line, " ")
  end
  lines[#lines + 1] = "EOD"
  local plots = {}
  for i, name in ipairs(names) do
    plots[i] = ('$data using %d:xtic(1) title "%s" lc rgb "%s"'):format(i + 1, name, COLOURS[name])
  end
  lines[#lines + 1] = "plot " .. table.concat(plots, ", ")
  local script = os.tmpname()
  run.process.write(script, table.concat(lines, "\n") .. "\n")
  assert(run.process.capture("gnuplot", script))
  os.remove(script)
end
