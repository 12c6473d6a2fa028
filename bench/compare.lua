-- compare: measures participants by turns, and writes tables of how they compare with the first of them.

local allua = require("allua")
local uv = require("luv")
local process = dofile((arg[0]:match("^(.*)/") or ".") .. "/process.lua")

local Page = {}
Page.__index = Page

local compare = {}

local function median(values)
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  return sorted[#sorted // 2 + 1]
end

-- Half of what values differ by, as a part of their median.
local function spread(values)
  return (math.max(table.unpack(values)) - math.min(table.unpack(values))) / 2 / median(values)
end

compare.median, compare.spread = median, spread

-- A page of results: { rounds = how often each is measured, unit = "request" }.
function compare.page(page)
  page.lines = {}
  return setmetatable(page, Page)
end

-- A line of the page, shown at once.
function Page:say(text)
  print(text)
  self.lines[#self.lines + 1] = text
end

-- Calls measure (name), which gives microseconds of processor time a unit and units a second, for each name in
-- each round. The first name is the one that others are compared with; of the others those that fail are left
-- out. Gives name → { cost, rate }: medians, in those units; and what they are of the first's.
function Page:compare(title, names, measure)
  local first, costs, rates, left_out, results = names[1], {}, {}, {}, {}
  for round = 1, self.rounds do
    for _, name in ipairs(names) do
      if not left_out[name] then
        io.stderr:write(("%s, %s, round %d of %d\n"):format(title, name, round, self.rounds))
        local ok, cost, rate = pcall(measure, name)
        if ok then
          costs[name], rates[name] = costs[name] or {}, rates[name] or {}
          table.insert(costs[name], cost)
          table.insert(rates[name], rate)
        elseif name == first or allua.is_error(cost, "CancelledError") then -- as at Ctrl-C
          error(cost, 0)
        else
          left_out[name] = true
          self:say(("%s: skipped: %s"):format(name, tostring(cost):match("[^\n]+")))
        end
      end
    end
  end
  self:say(("\n### %s\n"):format(title))
  local unit = self.unit
  self:say(
    ("| | µs of processor a %s | ± | %s a second | ± | processor ÷ %s's | rate ÷ %s's |"):format(
      unit,
      unit:gsub("y$", "ie") .. "s",
      first,
      first
    )
  )
  self:say("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
  for _, name in ipairs(names) do
    if costs[name] and not left_out[name] then
      local ratios, faster = {}, {}
      for i, cost in ipairs(costs[name]) do
        ratios[i], faster[i] = cost / costs[first][i], rates[name][i] / rates[first][i]
      end
      results[name] = {
        cost = median(costs[name]),
        rate = median(rates[name]),
        cost_ratio = median(ratios),
        rate_ratio = median(faster),
      }
      self:say(
        ("| %s | %.2f | %.0f %% | %.0f | %.0f %% | %.2f | %.2f |"):format(
          name,
          results[name].cost,
          spread(costs[name]) * 100,
          results[name].rate,
          spread(rates[name]) * 100,
          results[name].cost_ratio,
          results[name].rate_ratio
        )
      )
    end
  end
  return results
end

-- The machine, the date, and what the numbers are; `each` says what a round is.
function compare.machine(rounds, each)
  local cpu = process.read("/proc/cpuinfo"):match("model name%s*:%s*([^\n]+)") or "unknown processor"
  return ("%s, %d cores, Linux %s, %s; %d rounds%s; medians, and half of what the rounds differ by."):format(
    cpu,
    #uv.cpu_info(),
    uv.os_uname().release,
    os.date("!%Y-%m-%d"),
    rounds,
    each
  )
end

-- Writes the page: `about` is a list of lines that stand before the tables.
function Page:write(path, about)
  process.write(path, table.concat(about, "\n") .. "\n" .. table.concat(self.lines, "\n") .. "\n")
end

return compare
