-- Draws what the tasks of a group did, and when: `debug = true`. A pure function of its record.

local MOST_ROWS = 40 -- more tasks than this, and only the longest are shown
local MOST_STEPS = 12 -- likewise for the steps of the critical path
local MOST_TEXT = 24 -- columns that a name, or a list of names, may take

local RUNNING, WAITING, FAILED, CANCELLED = "█", "░", "×", "▓"

-- Code points that take no column of their own, and those that take two: first, last, first, last …
-- stylua: ignore start
local ZERO = {
  0x0300, 0x036F, 0x0483, 0x0489, 0x0591, 0x05BD, 0x05BF, 0x05BF, 0x05C1, 0x05C2, 0x05C4, 0x05C5,
  0x05C7, 0x05C7, 0x0610, 0x061A, 0x061C, 0x061C, 0x064B, 0x065F, 0x0670, 0x0670, 0x06D6, 0x06DC,
  0x06DF, 0x06E4, 0x06E7, 0x06E8, 0x06EA, 0x06ED, 0x070F, 0x070F, 0x0711, 0x0711, 0x0730, 0x074A,
  0x07A6, 0x07B0, 0x07EB, 0x07F3, 0x07FD, 0x07FD, 0x0816, 0x0819, 0x081B, 0x0823, 0x0825, 0x0827,
  0x0829, 0x082D, 0x0859, 0x085B, 0x0898, 0x089F, 0x08CA, 0x0902, 0x093A, 0x093A, 0x093C, 0x093C,
  0x0941, 0x0948, 0x094D, 0x094D, 0x0951, 0x0957, 0x0962, 0x0963, 0x0981, 0x0981, 0x09BC, 0x09BC,
  0x09C1, 0x09C4, 0x09CD, 0x09CD, 0x09E2, 0x09E3, 0x09FE, 0x0A02, 0x0A3C, 0x0A3C, 0x0A41, 0x0A51,
  0x0A70, 0x0A71, 0x0A75, 0x0A75, 0x0A81, 0x0A82, 0x0ABC, 0x0ABC, 0x0AC1, 0x0AC8, 0x0ACD, 0x0ACD,
  0x0AE2, 0x0AE3, 0x0AFA, 0x0B01, 0x0B3C, 0x0B3C, 0x0B3F, 0x0B3F, 0x0B41, 0x0B44, 0x0B4D, 0x0B56,
  0x0B62, 0x0B63, 0x0B82, 0x0B82, 0x0BC0, 0x0BC0, 0x0BCD, 0x0BCD, 0x0C00, 0x0C00, 0x0C04, 0x0C04,
  0x0C3C, 0x0C3C, 0x0C3E, 0x0C40, 0x0C46, 0x0C56, 0x0C62, 0x0C63, 0x0C81, 0x0C81, 0x0CBC, 0x0CBC,
  0x0CBF, 0x0CBF, 0x0CC6, 0x0CC6, 0x0CCC, 0x0CCD, 0x0CE2, 0x0CE3, 0x0D00, 0x0D01, 0x0D3B, 0x0D3C,
  0x0D41, 0x0D44, 0x0D4D, 0x0D4D, 0x0D62, 0x0D63, 0x0D81, 0x0D81, 0x0DCA, 0x0DCA, 0x0DD2, 0x0DD6,
  0x0E31, 0x0E31, 0x0E34, 0x0E3A, 0x0E47, 0x0E4E, 0x0EB1, 0x0EB1, 0x0EB4, 0x0EBC, 0x0EC8, 0x0ECD,
  0x0F18, 0x0F19, 0x0F35, 0x0F35, 0x0F37, 0x0F37, 0x0F39, 0x0F39, 0x0F71, 0x0F7E, 0x0F80, 0x0F84,
  0x0F86, 0x0F87, 0x0F8D, 0x0FBC, 0x0FC6, 0x0FC6, 0x102D, 0x1030, 0x1032, 0x1037, 0x1039, 0x103A,
  0x103D, 0x103E, 0x1058, 0x1059, 0x105E, 0x1060, 0x1071, 0x1074, 0x1082, 0x1082, 0x1085, 0x1086,
  0x108D, 0x108D, 0x109D, 0x109D, 0x1160, 0x11FF, 0x135D, 0x135F, 0x1712, 0x1714, 0x1732, 0x1733,
  0x1752, 0x1753, 0x1772, 0x1773, 0x17B4, 0x17B5, 0x17B7, 0x17BD, 0x17C6, 0x17C6, 0x17C9, 0x17D3,
  0x17DD, 0x17DD, 0x180B, 0x180F, 0x1AB0, 0x1AFF, 0x1DC0, 0x1DFF, 0x200B, 0x200F, 0x202A, 0x202E,
  0x2060, 0x206F, 0x20D0, 0x20F0, 0x302A, 0x302D, 0x3099, 0x309A, 0xFB1E, 0xFB1E, 0xFE00, 0xFE0F,
  0xFE20, 0xFE2F, 0xFEFF, 0xFEFF, 0xE0100, 0xE01EF,
}
local WIDE = {
  0x1100, 0x115F, 0x231A, 0x231B, 0x2329, 0x232A, 0x23E9, 0x23EC, 0x23F0, 0x23F0, 0x23F3, 0x23F3,
  0x25FD, 0x25FE, 0x2614, 0x2615, 0x2648, 0x2653, 0x267F, 0x267F, 0x2693, 0x2693, 0x26A1, 0x26A1,
  0x26AA, 0x26AB, 0x26BD, 0x26BE, 0x26C4, 0x26C5, 0x26CE, 0x26CE, 0x26D4, 0x26D4, 0x26EA, 0x26EA,
  0x26F2, 0x26F3, 0x26F5, 0x26F5, 0x26FA, 0x26FA, 0x26FD, 0x26FD, 0x2705, 0x2705, 0x270A, 0x270B,
  0x2728, 0x2728, 0x274C, 0x274C, 0x274E, 0x274E, 0x2753, 0x2755, 0x2757, 0x2757, 0x2795, 0x2797,
  0x27B0, 0x27B0, 0x27BF, 0x27BF, 0x2B1B, 0x2B1C, 0x2B50, 0x2B50, 0x2B55, 0x2B55, 0x2E80, 0x303E,
  0x3041, 0x33FF, 0x3400, 0x4DBF, 0x4E00, 0xA4CF, 0xA960, 0xA97F, 0xAC00, 0xD7A3, 0xF900, 0xFAFF,
  0xFE10, 0xFE19, 0xFE30, 0xFE6F, 0xFF00, 0xFF60, 0xFFE0, 0xFFE6, 0x16FE0, 0x18CFF, 0x1B000, 0x1B2FF,
  0x1F004, 0x1F004, 0x1F0CF, 0x1F0CF, 0x1F18E, 0x1F18E, 0x1F191, 0x1F19A, 0x1F200, 0x1F320,
  0x1F32D, 0x1F335, 0x1F337, 0x1F37C, 0x1F37E, 0x1F393, 0x1F3A0, 0x1F3CA, 0x1F3CF, 0x1F3D3,
  0x1F3E0, 0x1F3F0, 0x1F3F4, 0x1F3F4, 0x1F3F8, 0x1F43E, 0x1F440, 0x1F440, 0x1F442, 0x1F4FC,
  0x1F4FF, 0x1F53D, 0x1F54B, 0x1F54E, 0x1F550, 0x1F567, 0x1F57A, 0x1F57A, 0x1F595, 0x1F596,
  0x1F5A4, 0x1F5A4, 0x1F5FB, 0x1F64F, 0x1F680, 0x1F6C5, 0x1F6CC, 0x1F6CC, 0x1F6D0, 0x1F6D2,
  0x1F6D5, 0x1F6D7, 0x1F6DC, 0x1F6DF, 0x1F6EB, 0x1F6EC, 0x1F6F4, 0x1F6FC, 0x1F7E0, 0x1F7EB,
  0x1F7F0, 0x1F7F0, 0x1F90C, 0x1F93A, 0x1F93C, 0x1F945, 0x1F947, 0x1F9FF, 0x1FA70, 0x1FAFF,
  0x20000, 0x3FFFD,
}
-- stylua: ignore end

local function within(ranges, code)
  local low, high = 1, #ranges // 2
  while low <= high do
    local middle = (low + high) // 2
    if code < ranges[2 * middle - 1] then
      high = middle - 1
    elseif code > ranges[2 * middle] then
      low = middle + 1
    else
      return true
    end
  end
  return false
end

local function columns(text)
  local n = 0
  for _, code in utf8.codes(text) do
    if code < 0x0300 or not within(ZERO, code) then
      n = n + (code >= 0x1100 and within(WIDE, code) and 2 or 1)
    end
  end
  return n
end

-- What would move the cursor, or turn the direction of the text, is shown as an escape.
local function is_control(code)
  return code < 0x20
    or code >= 0x7F and code < 0xA0
    or code == 0x061C
    or code >= 0x200E and code <= 0x200F
    or code >= 0x2028 and code <= 0x202E
    or code >= 0x2066 and code <= 0x2069
end

local SHORT = { [0x07] = "\\a", [0x08] = "\\b", [0x09] = "\\t", [0x0A] = "\\n", [0x0D] = "\\r" }

-- A name as text that is valid UTF-8 and stays on its line.
local function printable(name)
  local text = name == "" and '""' or tostring(name)
  local out = {}
  local at = 1
  while at <= #text do
    local code = utf8.len(text, at, at) and utf8.codepoint(text, at)
    if not code then
      out[#out + 1] = string.format("\\x%02X", text:byte(at))
      at = at + 1
    else
      local after = utf8.offset(text, 2, at)
      if not is_control(code) then
        out[#out + 1] = text:sub(at, after - 1)
      else
        out[#out + 1] = SHORT[code] or string.format(code < 0x80 and "\\x%02X" or "\\u{%04X}", code)
      end
      at = after
    end
  end
  return table.concat(out)
end

-- Cut to `width` columns, the cut shown by an ellipsis.
local function clip(text, width)
  if columns(text) <= width then
    return text
  end
  local kept = ""
  for _, code in utf8.codes(text) do
    local longer = kept .. utf8.char(code)
    if columns(longer) > width - 1 then
      break
    end
    kept = longer
  end
  return kept .. "…"
end

local function left(text, width)
  return text .. (" "):rep(width - columns(text))
end

local function right(text, width)
  return (" "):rep(width - columns(text)) .. text
end

local function time(seconds)
  if seconds <= 0 then
    return "0 ms"
  elseif seconds < 0.0000995 then
    return string.format("%.0f µs", seconds * 1e6)
  elseif seconds < 0.00995 then
    return string.format("%.2g ms", seconds * 1000)
  elseif seconds < 0.9995 then
    return string.format("%.0f ms", seconds * 1000)
  elseif seconds < 59.995 then
    return string.format("%.2f s", seconds)
  end
  local whole = math.floor(seconds + 0.5)
  return string.format("%d min %02d s", whole // 60, whole % 60)
end

-- The waits of a task within its life, in order and without overlaps (several coroutines of one task
-- may wait at the same time).
local function merged_waits(task)
  local waits = {}
  for _, wait in ipairs(task.waits) do
    local from, to = math.max(wait.from, task.started), math.min(wait.to, task.ended)
    if from < to then
      waits[#waits + 1] = { from = from, to = to }
    end
  end
  table.sort(waits, function(a, b)
    return a.from < b.from
  end)
  local merged = {}
  for _, wait in ipairs(waits) do
    local last = merged[#merged]
    if last and wait.from <= last.to then
      last.to = math.max(last.to, wait.to)
    else
      merged[#merged + 1] = wait
    end
  end
  return merged
end

local function waited(waits)
  local sum = 0
  for _, wait in ipairs(waits) do
    sum = sum + wait.to - wait.from
  end
  return sum
end

-- Whom a task waited for: in order, each once.
local function awaited(task)
  local waits = table.move(task.waits, 1, #task.waits, 1, {})
  local position = {}
  for i, wait in ipairs(waits) do
    position[wait] = i
  end
  table.sort(waits, function(a, b)
    if a.from ~= b.from then
      return a.from < b.from
    end
    return position[a] < position[b]
  end)
  local names, seen = {}, {}
  for _, wait in ipairs(waits) do
    if not seen[wait.on] then
      seen[wait.on] = true
      names[#names + 1] = printable(wait.on)
    end
  end
  return table.concat(names, ", ")
end

-- One task's bar. A cell shows what the task did for most of the cell's time.
local function bar(task, waits, record, width)
  local step = (record.ended - record.started) / width
  local first, last = 0, width - 1
  if step > 0 then
    first = math.min(math.floor((task.started - record.started) / step + 1e-9), width - 1)
    last = math.max(math.ceil((task.ended - record.started) / step - 1e-9) - 1, first)
    last = math.min(last, width - 1)
  end
  local busy = task.status == "cancelled" and CANCELLED or RUNNING
  local cells = { (" "):rep(first) }
  local next_wait = 1
  for cell = first, last do
    local from = math.max(record.started + cell * step, task.started)
    local to = math.min(record.started + (cell + 1) * step, task.ended)
    while waits[next_wait] and waits[next_wait].to <= from do
      next_wait = next_wait + 1
    end
    local idle, i = 0, next_wait
    while waits[i] and waits[i].from < to do
      idle = idle + math.min(waits[i].to, to) - math.max(waits[i].from, from)
      i = i + 1
    end
    cells[#cells + 1] = idle > (to - from) / 2 and WAITING or busy
  end
  -- How it ended must be seen, however short it was.
  if task.status == "rejected" then
    cells[#cells] = FAILED
  elseif task.status == "cancelled" then
    cells[#cells] = CANCELLED
  end
  return table.concat(cells)
end

-- The task that the end of the group waited for: its first failure; else the last to end, in a group
-- that succeeded not one that was cancelled.
local function last_task(record)
  local failed, last
  for _, task in ipairs(record.tasks) do
    if task.status == "rejected" and (not failed or task.ended < failed.ended) then
      failed = task
    end
    local counts = record.status ~= "fulfilled" or task.status ~= "cancelled"
    if counts and (not last or task.ended >= last.ended) then
      last = task
    end
  end
  return record.status == "rejected" and failed or last or record.tasks[1]
end

-- From the last task, each time back along the wait that ended last, to a task that waited for nobody.
-- Gives the steps in the order of time: { name, seconds }.
local function critical_path(record)
  local task, by_name = last_task(record), {}
  for _, each in ipairs(record.tasks) do
    by_name[each.name] = each
  end
  local path, seen = {}, {}
  while task and not seen[task] do
    seen[task] = true
    local gate
    for _, wait in ipairs(task.waits) do
      -- A wait that its own cancelling cut short held nothing up.
      local cut = task.status == "cancelled" and wait.to >= task.ended
      if by_name[wait.on] and not cut and wait.to > wait.from and (not gate or wait.to >= gate.to) then
        gate = wait
      end
    end
    path[#path + 1] = { name = task.name, seconds = task.ended - (gate and gate.to or task.started) }
    task = gate and by_name[gate.on]
  end
  for i = 1, #path // 2 do
    path[i], path[#path + 1 - i] = path[#path + 1 - i], path[i]
  end
  return path
end

-- The path as lines of at most `width` columns, broken between its steps.
local function path_lines(steps, width)
  local texts = {}
  local head = MOST_STEPS // 2
  local tail = #steps - (MOST_STEPS - head) + 2
  for i, step in ipairs(steps) do
    if #steps <= MOST_STEPS or i <= head or i >= tail then
      texts[#texts + 1] = clip(printable(step.name), MOST_TEXT) .. " " .. time(step.seconds)
    elseif i == head + 1 then
      texts[#texts + 1] = string.format("(%d more)", tail - head - 1)
    end
  end
  local lines, line = {}, "critical path: " .. texts[1]
  for i = 2, #texts do
    if columns(line) + columns(texts[i]) + 5 > width then
      lines[#lines + 1] = line .. " →"
      line = "  " .. texts[i]
    else
      line = line .. " → " .. texts[i]
    end
  end
  lines[#lines + 1] = line
  return lines
end

-- The tasks to show, in start order, and the line about those left out.
local function fold(tasks)
  if #tasks <= MOST_ROWS then
    return tasks
  end
  local order, position = {}, {}
  for i, task in ipairs(tasks) do
    order[i], position[task] = task, i
  end
  table.sort(order, function(a, b)
    local first, second = a.ended - a.started, b.ended - b.started
    if first ~= second then
      return first > second
    end
    return position[a] < position[b]
  end)
  local longest_hidden = order[MOST_ROWS + 1].ended - order[MOST_ROWS + 1].started
  local shown = table.move(order, 1, MOST_ROWS, 1, {})
  table.sort(shown, function(a, b)
    return position[a] < position[b]
  end)
  local hidden = #tasks - MOST_ROWS
  return shown,
    string.format("and %d shorter %s, none over %s", hidden, hidden == 1 and "task" or "tasks", time(longest_hidden))
end

local function screen_width()
  local width = math.tointeger(tonumber(os.getenv("COLUMNS"))) or 80
  return math.max(60, math.min(width, 200))
end

local STATUS = { fulfilled = "", rejected = ", failed", cancelled = ", cancelled" }

return function(record)
  local total = record.ended - record.started
  local title = record.kind
  if record.label then
    title = title .. " " .. printable(record.label)
  end
  local lines = { title .. ": " .. time(total) .. STATUS[record.status] }
  if #record.tasks == 0 then
    lines[2] = "no tasks\n"
    return table.concat(lines, "\n")
  end

  local work, statuses, waits_of = 0, {}, {}
  for _, task in ipairs(record.tasks) do
    local waits = merged_waits(task)
    waits_of[task] = waits
    if task.status ~= "cancelled" then -- else its work is lost
      work = work + task.ended - task.started - waited(waits)
    end
    statuses[task.status] = true
  end

  local shown, left_out = fold(record.tasks)
  local rows = { { "task", "waited for", "time" } }
  for i, task in ipairs(shown) do
    rows[i + 1] = {
      clip(printable(task.name), MOST_TEXT),
      clip(awaited(task), MOST_TEXT),
      time(task.ended - task.started),
    }
  end
  local widths = { 0, 0, 0 }
  for _, row in ipairs(rows) do
    for column, text in ipairs(row) do
      widths[column] = math.max(widths[column], columns(text))
    end
  end
  local bar_width = screen_width() - widths[1] - widths[2] - widths[3] - 6
  if bar_width < 20 then -- the names give way
    local spare = 20 - bar_width
    widths[2] = math.max(widths[2] - spare, 10)
    widths[1] = math.max(screen_width() - 26 - widths[2] - widths[3], 8)
    bar_width = 20
  end

  local full = time(total)
  for i, row in ipairs(rows) do
    local timeline
    if i == 1 then
      timeline = "0" .. right(full, bar_width - 1)
    else
      timeline = bar(shown[i - 1], waits_of[shown[i - 1]], record, bar_width)
    end
    lines[#lines + 1] = left(clip(row[1], widths[1]), widths[1])
      .. "  "
      .. left(clip(row[2], widths[2]), widths[2])
      .. "  "
      .. right(row[3], widths[3])
      .. "  "
      .. timeline
  end
  lines[#lines + 1] = left_out
  lines[#lines + 1] = ""

  local legend = { RUNNING .. " running", WAITING .. " waiting for a sibling" }
  if statuses.rejected then
    legend[#legend + 1] = FAILED .. " failed"
  end
  if statuses.cancelled then
    legend[#legend + 1] = CANCELLED .. " cancelled"
  end
  lines[#lines + 1] = table.concat(legend, "   ")

  local sum = string.format("total %s, sum of the parts %s", full, time(work))
  if total > 0 and record.status == "fulfilled" then
    sum = sum .. string.format(": %.1f times as fast", work / total)
  end
  lines[#lines + 1] = sum
  for _, line in ipairs(path_lines(critical_path(record), screen_width())) do
    lines[#lines + 1] = line
  end
  return table.concat(lines, "\n") .. "\n"
end
