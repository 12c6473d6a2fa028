-- rounds: measures cells of the benchmark's tables, all participants in turn, round after round.

local process = dofile((arg[0]:match("^(.*)/") or ".") .. "/process.lua")

local rounds = {}

local terminal = os.execute("test -t 2") -- standard error is one

local function median(values)
  table.sort(values)
  local middle = #values // 2
  return #values % 2 == 1 and values[middle + 1] or (values[middle] + values[middle + 1]) / 2
end

-- Measures a list of cells, { key = where the value goes, words = a command that prints a number, may_fail =
-- true for a peer's }, `count` times: key -> { middle = median, spread = half of what the rounds differ by,
-- rounds }. A peer that fails is left out, and its key added to the list `failed`.
function rounds.measure(cells, count, failed)
  local values, left_out = {}, {}
  for round = 1, count do
    for _, cell in ipairs(cells) do
      if terminal then
        io.stderr:write("\r\27[K", ("%s, round %d of %d"):format(cell.key, round, count))
      end
      if not left_out[cell.key] then
        local text, why = process.capture("timeout", cell.may_fail and "20" or "120", table.unpack(cell.words))
        local value = tonumber(text)
        if value then
          values[cell.key] = values[cell.key] or { rounds = {} }
          values[cell.key].rounds[round] = value
        elseif cell.may_fail then
          left_out[cell.key], values[cell.key] = true, nil
          failed[#failed + 1] = cell.key
          print(("skipped: %s: %s"):format(cell.key, (text or why):match("[^\n]+") or "it took too long"))
        else
          error(("%s: %s"):format(table.concat(cell.words, " "), text or why), 0)
        end
      end
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
