-- table: draws the benchmark's tables and numbers as text.

local drawing = {}

-- 1234567.8 -> "1,234,568"
function drawing.number(value)
  return (("%.0f"):format(value):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^(%-?),", "%1"))
end

-- A Markdown table of rows of text, its columns aligned; all but the first to the right.
function drawing.draw(rows)
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

return drawing
