-- Draws what the tasks of a group did, and when: `debug = true`. A pure function of its record.

local core = require("allua.core")
local terminal = core.load("allua.text")
local critical = core.load("allua.waterfall_path")
local columns, printable, clip, left = terminal.columns, terminal.printable, terminal.clip, terminal.left

local MOST_ROWS = 40 -- more tasks than this, and only the longest are shown
local MOST_STEPS = 12 -- likewise for the steps of the critical path
local MOST_DEPTH = 8 -- nested groups that are indented further
local MOST_TEXT = 24 -- columns that a name, or a list of names, may take

local RUNNING, IO, SIBLING, PLACE, FAILED, CANCELLED = "█", "▒", "░", "·", "×", "▓"
local WAITS = { io = IO, sibling = SIBLING, place = PLACE }
-- stylua: ignore start
local COLOURS = {
  [RUNNING] = "32", [IO] = "36", [SIBLING] = "33", [PLACE] = "90", [FAILED] = "1;31", [CANCELLED] = "35",
}
-- stylua: ignore end

local function right(text, width)
  return (" "):rep(width - columns(text)) .. text
end

local function time(seconds)
  if seconds <= 0 then
    return "0 ms"
  elseif seconds < 0.0000009995 then
    return string.format("%.0f ns", seconds * 1e9)
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
      waits[#waits + 1] = { from = from, to = to, kind = wait.kind }
    end
  end
  table.sort(waits, function(a, b)
    return a.from < b.from
  end)
  local merged = {}
  for _, wait in ipairs(waits) do
    local last = merged[#merged]
    wait.from = last and math.max(last.to, wait.from) or wait.from
    if wait.from < wait.to then
      merged[#merged + 1] = wait
    end
  end
  return merged
end

-- How long others, a sibling or those with a place, held it up.
local function waited(waits)
  local sum = 0
  for _, wait in ipairs(waits) do
    if wait.kind ~= "io" then
      sum = sum + wait.to - wait.from
    end
  end
  return sum
end

-- The items in the order of what key(item) gives, equal ones as they came.
local function sorted_by(items, key)
  local sorted, position = table.move(items, 1, #items, 1, {}), {}
  for i, item in ipairs(items) do
    position[item] = i
  end
  table.sort(sorted, function(a, b)
    local first, second = key(a), key(b)
    if first ~= second then
      return first < second
    end
    return position[a] < position[b]
  end)
  return sorted
end

local function begins(wait)
  return wait.from
end

local function starts(task)
  return task.started
end

-- Whom a task waited for: in order, each once.
local function awaited(task)
  local names, seen = {}, {}
  for _, wait in ipairs(sorted_by(task.waits, begins)) do
    if wait.on ~= nil and not seen[wait.on] then
      seen[wait.on] = true
      names[#names + 1] = printable(wait.on)
    end
  end
  return table.concat(names, ", ")
end

-- One task's bar. A cell shows what the task did for most of the cell's time.
local function bar(task, waits, record, width)
  local step = (record.ended - record.started) / width
  local first, last = 0, 0
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
    local times, most, i = { io = 0, sibling = 0, place = 0 }, "io", next_wait
    while waits[i] and waits[i].from < to do
      local kind = waits[i].kind
      times[kind] = times[kind] + math.min(waits[i].to, to) - math.max(waits[i].from, from)
      most = times[kind] > times[most] and kind or most
      i = i + 1
    end
    local running = to - from - times.io - times.sibling - times.place
    cells[#cells + 1] = times[most] > running and WAITS[most] or busy
  end
  -- How it ended must be seen, however short it was.
  if task.status == "rejected" then
    cells[#cells] = FAILED
  elseif task.status == "cancelled" then
    cells[#cells] = CANCELLED
  end
  return cells
end

-- The cells as text, each run of the same in its colour.
local function painted(cells, coloured)
  if not coloured then
    return table.concat(cells)
  end
  local out, last = {}, nil
  for _, cell in ipairs(cells) do
    local colour = COLOURS[cell]
    if colour ~= last then
      out[#out + 1] = "\27[" .. (colour or "0") .. "m"
      last = colour
    end
    out[#out + 1] = cell
  end
  return table.concat(out) .. "\27[0m"
end

-- Items as lines of at most `width` columns, where they fit; a line that is broken ends with the separator.
local function wrap(items, line, separator, width)
  local lines = {}
  for i, item in ipairs(items) do
    if i > 1 and columns(line .. separator .. item) > width then
      lines[#lines + 1] = (line .. separator):gsub(" +$", "")
      line = "  " .. item
    else
      line = line .. (i > 1 and separator or "") .. item
    end
  end
  lines[#lines + 1] = line
  return lines
end

-- The path as lines.
local function path_lines(record, width)
  local steps = critical.steps(record)
  local texts, sum = {}, 0
  for _, step in ipairs(steps) do
    sum = sum + step.seconds
  end
  local head = MOST_STEPS // 2
  local tail = #steps - (MOST_STEPS - head) + 2
  for i, step in ipairs(steps) do
    if #steps <= MOST_STEPS or i <= head or i >= tail then
      texts[#texts + 1] = clip(printable(step.name), MOST_TEXT) .. " " .. time(step.seconds)
    elseif i == head + 1 then
      texts[#texts + 1] = string.format("(%d more)", tail - head - 1)
    end
  end
  local lines = wrap(texts, "critical path: ", " → ", width)
  local total = record.ended - record.started
  if total > 0 then
    local share = string.format(" = %.0f %% of the total", math.min(100, 100 * sum / total))
    if columns(lines[#lines]) + columns(share) <= width then
      lines[#lines] = lines[#lines] .. share
    else
      lines[#lines + 1] = " " .. share
    end
  end
  if record.status == "fulfilled" and #steps > 1 and total > 0 then
    local saved = math.max(0, record.ended - math.max(critical.end_without(record, steps[1].task), record.started))
    lines[#lines + 1] = string.format(
      "were %s instant: %s saved",
      clip(printable(steps[1].name), MOST_TEXT),
      time(math.min(saved, total))
    )
  end
  return lines
end

-- All tasks by start, each followed by those of the groups that it began, one level deeper and in the time of the
-- whole. Adds a row a task: { task, waits, depth }.
local function add_rows(rows, record, shift, depth)
  for _, task in ipairs(record.tasks) do
    task.started, task.ended = task.started + shift, task.ended + shift
    for _, wait in ipairs(task.waits) do
      wait.from, wait.to = wait.from + shift, wait.to + shift
    end
  end
  for _, task in ipairs(sorted_by(record.tasks, starts)) do
    rows[#rows + 1] = { task = task, waits = merged_waits(task), depth = depth }
    for _, group in ipairs(task.groups or {}) do
      add_rows(rows, group, shift + group.at, depth + 1)
    end
  end
end

-- The rows to show, and the line about those left out. One that stands inside another's is no longer than that, so
-- none is shown without it.
local function fold(rows)
  if #rows <= MOST_ROWS then
    return rows
  end
  local function length(row)
    return row.task.ended - row.task.started
  end
  local order = sorted_by(rows, function(row)
    return -length(row)
  end)
  local longest, shown = {}, {}
  for i = 1, MOST_ROWS do
    longest[order[i]] = true
  end
  for _, row in ipairs(rows) do
    shown[#shown + 1] = longest[row] and row or nil
  end
  local hidden = #rows - MOST_ROWS
  return shown,
    string.format(
      "and %d shorter %s, none over %s",
      hidden,
      hidden == 1 and "task" or "tasks",
      time(length(order[MOST_ROWS + 1]))
    )
end

local function screen_width(record)
  local width = math.tointeger(tonumber(os.getenv("COLUMNS"))) or record.terminal or 80
  return math.max(40, math.min(width, 200))
end

local STATUS = { fulfilled = "", rejected = ", failed", cancelled = ", cancelled" }

return function(record)
  local total = record.ended - record.started
  local width = screen_width(record)
  local no_color = os.getenv("NO_COLOR")
  local coloured = record.terminal and (not no_color or no_color == "")
  local title = record.kind
  if record.label then
    title = title .. " " .. printable(record.label)
  end
  local result = ": " .. time(total) .. STATUS[record.status]
  local lines = { clip(title, width - columns(result)) .. result }
  if #record.tasks == 0 then
    lines[2] = "no tasks\n"
    return table.concat(lines, "\n")
  end

  local all_rows = {}
  add_rows(all_rows, record, 0, 0)
  local work, statuses, kinds = 0, {}, {}
  for _, row in ipairs(all_rows) do
    local task = row.task
    if row.depth == 0 and task.status ~= "cancelled" then -- else its work is lost
      work = work + task.ended - task.started - waited(row.waits)
    end
  end
  local shown, left_out = fold(all_rows)
  local texts = { { "task", "waited for", "time" } }
  for i, row in ipairs(shown) do
    local task, indent = row.task, (" "):rep(2 * math.min(row.depth, MOST_DEPTH))
    for _, wait in ipairs(row.waits) do
      kinds[wait.kind] = true
    end
    statuses[task.status] = true
    texts[i + 1] = {
      indent .. clip(printable(task.name), MOST_TEXT),
      clip(awaited(task), MOST_TEXT),
      time(task.ended - task.started),
    }
  end
  local widths = { 0, 0, 0 }
  for _, row in ipairs(texts) do
    for column, text in ipairs(row) do
      widths[column] = math.max(widths[column], columns(text))
    end
  end
  local least = width < 60 and 10 or 20
  local bar_width = width - widths[1] - widths[2] - widths[3] - 6
  if bar_width < least then -- the names give way
    local room = width - widths[3] - 6 - least
    widths[2] = math.min(widths[2], math.max(room - widths[1], room * 2 // 5))
    widths[1] = math.min(widths[1], room - widths[2])
    bar_width = width - widths[1] - widths[2] - widths[3] - 6
  end

  local full = time(total)
  for i, row in ipairs(texts) do
    local timeline
    if i == 1 then
      timeline = "0" .. right(full, bar_width - 1)
    else
      timeline = painted(bar(shown[i - 1].task, shown[i - 1].waits, record, bar_width), coloured)
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

  local legend = { RUNNING .. " running" }
  if kinds.io then
    legend[#legend + 1] = IO .. " I/O, timer, own tasks"
  end
  if kinds.sibling then
    legend[#legend + 1] = SIBLING .. " sibling"
  end
  if kinds.place then
    legend[#legend + 1] = PLACE .. " place"
  end
  if statuses.rejected then
    legend[#legend + 1] = FAILED .. " failed"
  end
  if statuses.cancelled then
    legend[#legend + 1] = CANCELLED .. " cancelled"
  end
  table.move(wrap(legend, "", "   ", width), 1, #legend, #lines + 1, lines)

  local sums = { "total " .. full .. ",", "sum of the parts " .. time(work) }
  if total > 0 and record.status == "fulfilled" then
    sums[2] = sums[2] .. ":"
    sums[3] = string.format("%.1f times as fast", work / total)
  end
  table.move(wrap(sums, "", " ", width), 1, #sums, #lines + 1, lines)
  for _, line in ipairs(path_lines(record, width)) do
    lines[#lines + 1] = line
  end
  return table.concat(lines, "\n") .. "\n"
end
