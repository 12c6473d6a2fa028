-- What --progress shows: at the bottom of a terminal a line for each task under way, in place of one line for
-- each task's start and end where there is no terminal.

local core = require("allua.core")
local text = core.load("allua.text")

local MOST_ERRORS = 3 -- lines
local MOST_WIDTH = 100 -- columns
local BAR = 16
local SPINNER = { "⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏" }
-- stylua: ignore start
local COLOURS = { spinner = "36", wait = "2", bar = "32", time = "2", failed = "1;31", status = "2" }
-- stylua: ignore end

local function time(seconds)
  if seconds < 60 then
    return string.format("%.1f s", seconds)
  end
  local whole = seconds // 1 | 0
  if whole < 3600 then
    return string.format("%d:%02d min", whole // 60, whole % 60)
  end
  return string.format("%d:%02d h", whole // 3600, whole % 3600 // 60)
end

local function count(n, what)
  return n > 0 and string.format("%d %s", n, what) or nil
end

local function joined(separator, ...)
  local list = {}
  for i = 1, select("#", ...) do
    list[#list + 1] = (select(i, ...))
  end
  return table.concat(list, separator)
end

-- ── lines ──

-- A line is a list of pieces, { text, colour }, cut to the width as a whole.
local function render(pieces, width, coloured)
  local out, room = {}, width
  for _, piece in ipairs(pieces) do
    local shown = text.clip(piece[1], room)
    if room <= 0 then
      break
    end
    room = room - text.columns(shown)
    local colour = coloured and COLOURS[piece[2]]
    out[#out + 1] = colour and "\27[" .. colour .. "m" .. shown .. "\27[m" or shown
  end
  return table.concat(out)
end

local WAITS = { running = "running", sleep = "asleep", place = "waits for a place" }

local function doing(row)
  if row.wait == "sibling" then
    return "waits for " .. text.printable(row.on)
  elseif row.wait == "io" then
    return "waits for " .. (row.on or "a promise")
  elseif row.wait == "tasks" then
    return row.tasks and string.format("its tasks: %d of %d ended", row.ended, row.tasks) or "its tasks"
  end
  return WAITS[row.wait]
end

local function bar(done, total)
  local part = total > 0 and math.min(1, done / total) or 1
  local full = math.floor(part * BAR)
  return ("█"):rep(full) .. ("░"):rep(BAR - full),
    string.format(" %3d %%  %s of %s", math.floor(part * 100), done, total)
end

local function task_line(row, spinner, names)
  local name = ("  "):rep(row.depth) .. text.printable(row.name)
  local pieces = { { spinner .. " ", "spinner" }, { text.left(text.clip(name, names), names) .. "  " } }
  if row.done and row.total then
    local full, words = bar(row.done, row.total)
    pieces[#pieces + 1] = { full, "bar" }
    pieces[#pieces + 1] = { words }
  elseif row.done then
    pieces[#pieces + 1] = { tostring(row.done) }
  else
    pieces[#pieces + 1] = { doing(row), "wait" }
  end
  pieces[#pieces + 1] = { "  " .. time(row.seconds), "time" }
  return pieces
end

local function status(totals)
  return joined(
    " · ",
    string.format("%d under way", totals.under_way),
    count(totals.finished, "finished"),
    count(totals.failed, "failed"),
    count(totals.cancelled, "cancelled"),
    time(totals.seconds)
  )
end

local function error_line(failure)
  local first = failure.message:match("[^\n]*")
  return { { "✗ ", "failed" }, { text.printable(failure.path) .. "  " }, { text.printable(first), "failed" } }
end

--- The lines of a frame, each without its end: of the tasks as many as there is room for, the last errors, and how
--- things stand. A pure function of what core.progress_rows gives.
local function frame_lines(rows, totals, failures, spinner, height, width)
  local room = math.max(1, height - 1 - math.min(#failures, MOST_ERRORS))
  local shown = #rows
  if totals.under_way > shown or shown > room then
    shown = math.min(shown, room - 1)
  end
  local names = 0
  for i = 1, shown do
    names = math.max(names, 2 * rows[i].depth + text.columns(text.printable(rows[i].name)))
  end
  names = math.min(names, math.max(8, width * 2 // 5))
  local lines = {}
  for i = 1, shown do
    lines[i] = task_line(rows[i], spinner, names)
  end
  if totals.under_way > shown and shown < #rows then
    lines[#lines + 1] = { { string.format("  … and %d more", totals.under_way - shown), "wait" } }
  end
  for i = math.max(1, #failures - MOST_ERRORS + 1), #failures do
    lines[#lines + 1] = error_line(failures[i])
  end
  lines[#lines + 1] = { { status(totals), "status" } }
  while #lines > height do
    table.remove(lines, 1)
  end
  return lines
end

-- ── the terminal ──

-- Where the lines stand: below the scrolling region.
local Screen = {}
Screen.__index = Screen

-- What takes the lines away: the whole terminal scrolls again, the cursor where it was.
local function undo(rows, height)
  return height == 0 and "" or string.format("\0277\27[r\27[%d;1H\27[J\0278\27[?25h", rows - height + 1)
end

--- Shows these lines in place of those that are there: only what has changed is written, in one piece.
function Screen:show(lines, rows, columns)
  local lost = core.display_lost()
  local out = { "\27[?2026h\27[?25l" }
  local changed = #lines ~= #self.shown
  if lost or rows ~= self.rows or columns ~= self.columns then
    -- What stood there has moved; it is below the cursor still.
    out[#out + 1] = not lost and #self.shown > 0 and "\0277\27[r\0278\27[J" or nil
    self.rows, self.columns, self.shown = rows, columns, {}
    changed = true
  end
  local before, height = #self.shown, #lines
  if height > before then
    -- Room for them: all that is in it goes up, the cursor with it.
    out[#out + 1] = ("\27D"):rep(height - before) .. string.format("\27[%dA", height - before)
  end
  out[#out + 1] = "\0277"
  if height < before then
    for row = rows - before + 1, rows - height do
      out[#out + 1] = string.format("\27[%d;1H\27[2K", row)
    end
  end
  out[#out + 1] = height > 0 and string.format("\27[1;%dr", rows - height) or "\27[r"
  for i, line in ipairs(lines) do
    -- Counted from below: so they stand.
    if height ~= before or line ~= self.shown[i] then
      out[#out + 1] = string.format("\27[%d;1H%s\27[K", rows - height + i, line)
      changed = true
    end
  end
  out[#out + 1] = "\0278\27[?25h\27[?2026l"
  self.shown = lines
  if changed then
    core.display_put(table.concat(out), undo(rows, height))
  end
end

-- ── beginning ──

local function say(...)
  core.display_put("allua: " .. table.concat({ ... }) .. "\n")
end

local function ending(totals)
  return joined(
    ", ",
    string.format("%d %s finished", totals.finished, totals.finished == 1 and "task" or "tasks"),
    count(totals.failed, "failed"),
    count(totals.cancelled, "cancelled")
  ) .. " in " .. time(totals.seconds)
end

--- Begins, and gives the function that is called for each frame; with true, for the last time.
return function()
  local on_terminal = core.display_size() ~= nil
  local no_color = os.getenv("NO_COLOR")
  local coloured = not no_color or no_color == ""
  local screen, failures, turn = setmetatable({ shown = {} }, Screen), {}, 0

  core.progress_start(function(event, path, seconds, message)
    if on_terminal then
      local last = failures[#failures]
      if event == "failed" and last and last.message == message then
        last.path = last.path .. ", " .. path -- it met the same
      elseif event == "failed" then
        failures[#failures + 1] = { path = path, message = message }
        if #failures > MOST_ERRORS then
          table.remove(failures, 1)
        end
      end
    else
      local name = text.printable(path)
      if event == "started" then
        say("started ", name)
      else
        say(event, " ", name, ", ", time(seconds), event == "failed" and ": " .. text.printable(message) or "")
      end
    end
  end)

  return function(last)
    local rows, columns = core.display_size()
    if last then
      local _, totals = core.progress_rows(0)
      if rows then
        screen:show({}, rows, columns)
      end
      for _, failure in ipairs(on_terminal and failures or {}) do
        core.display_put(render(error_line(failure), columns or MOST_WIDTH, coloured) .. "\n")
      end
      say(ending(totals))
    elseif rows and rows >= 4 and columns >= 10 then
      local height, width = rows // 2, math.min(columns - 1, MOST_WIDTH)
      turn = turn % #SPINNER + 1
      local list, totals = core.progress_rows(height)
      local lines = frame_lines(list, totals, failures, SPINNER[turn], height, width)
      for i, pieces in ipairs(lines) do
        lines[i] = render(pieces, width, coloured)
      end
      screen:show(lines, rows, columns)
    elseif rows then
      screen:show({}, rows, columns)
    end
  end
end
