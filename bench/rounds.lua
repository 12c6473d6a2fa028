-- rounds: measures cells of the benchmark's tables, all participants in turn, round after round.

local process = dofile((arg[0]:match("^(.*)/") or ".") .. "/process.lua")

local rounds = {}

local terminal = os.execute("test -t 2") -- standard error is one

local function median(values)
  table.sort(values)
  local middle = #values // 2
  return #values % 2 == 1 and values[middle + 1] or (values[middle] + values[middle + 1]) / 2
end

-- Measures a list of cells, { name = who, key = where the value goes, words = a command that prints a
-- number }, `count` times: key -> { middle = median, spread = half of what the rounds differ by, rounds }.
function rounds.measure(cells, count)
  local values = {}
  for round = 1, count do
    for _, cell in ipairs(cells) do
      if terminal then
        io.stderr:write("\r\27[K", ("%s, round %d of %d"):format(cell.key, round, count))
      end
      local text, why = process.capture("timeout", "120", table.unpack(cell.words))
      values[cell.key] = values[cell.key] or { rounds = {} }
      values[cell.key].rounds[round] = tonumber(text)
        or error(("%s: %s"):format(table.concat(cell.words, " "), text or why), 0)
    end
  end
  if terminal then
    io.stderr:write("\r\27[K")
  end
  for _, value in pairs(values) do
    local sorted = table.move(value.rounds, 1, #value.rounds, 1, {})
    value.middle = median(sorted)
    value.spread = (sorted[#sorted] - sorted[1]) / 2 / value.middle
  end
  return values
end

-- The ratio of two measurements: the median of the rounds' ratios.
function rounds.ratio(a, b)
  local ratios = {}
  for round, value in ipairs(a.rounds) do
    ratios[round] = value / b.rounds[round]
  end
  return median(ratios)
end

return rounds
