-- What a terminal of a given size shows after the bytes that a program wrote to it: as much of one as the
-- program's own displays need. What it does not know is an error.
--
--   local screen = screens.after(bytes, 24, 100)
--   screen:lines()           -- the rows, without the blanks at their ends
--   screen:text()            -- all that has scrolled away, then the rows, without blank ones at the end
--   screen.top, screen.bottom, screen.hidden                   -- the scrolling region; the cursor

local core = require("allua.core")
local columns = core.load("allua.text").columns

local Screen = {}
Screen.__index = Screen

local function blank(n)
  local row = {}
  for i = 1, n do
    row[i] = " "
  end
  return row
end

function Screen:scroll()
  local gone = table.remove(self.cells, self.top)
  if self.top == 1 then
    self.history[#self.history + 1] = gone
  end
  table.insert(self.cells, self.bottom, blank(self.columns))
end

function Screen:down()
  if self.row == self.bottom then
    self:scroll()
  elseif self.row < self.rows then
    self.row = self.row + 1
  end
end

function Screen:put(character)
  local width = columns(character)
  if self.column + width - 1 > self.columns then
    self.column = 1
    self:down()
  end
  local row = self.cells[self.row]
  row[self.column] = character
  if width == 2 then
    row[self.column + 1] = ""
  end
  self.column = self.column + width
end

function Screen:erase(row, from)
  for column = from, self.columns do
    self.cells[row][column] = " "
  end
end

local controls = {
  A = function(screen, n)
    screen.row = math.max(screen.top, screen.row - math.max(1, n))
  end,
  H = function(screen, row, column)
    screen.row, screen.column = math.max(1, row), math.max(1, column or 1)
  end,
  J = function(screen)
    screen:erase(screen.row, screen.column)
    for row = screen.row + 1, screen.rows do
      screen:erase(row, 1)
    end
  end,
  K = function(screen, what)
    screen:erase(screen.row, what == 2 and 1 or screen.column)
  end,
  m = function() end,
  r = function(screen, top, bottom)
    screen.top, screen.bottom = math.max(1, top), bottom or screen.rows
    screen.row, screen.column = 1, 1
  end,
}

-- One escape sequence; gives where it ends, or nil where it is cut off.
function Screen:escape(bytes, at)
  local letter = bytes:sub(at + 1, at + 1)
  if letter == "7" then
    self.saved = { self.row, self.column }
  elseif letter == "8" then
    self.row, self.column = table.unpack(self.saved)
  elseif letter == "D" then
    self:down()
  elseif letter == "[" then
    local mark, numbers, final, stop = bytes:match("^(%??)([%d;]*)([%a])()", at + 2)
    if not final then
      return nil
    end
    local list = {}
    for number in numbers:gmatch("%d+") do
      list[#list + 1] = tonumber(number)
    end
    if mark == "?" then
      assert(final == "h" or final == "l", "an unknown sequence")
      self.hidden = list[1] == 25 and final == "l" or list[1] ~= 25 and self.hidden
      self.held = list[1] == 2026 and final == "h" or list[1] ~= 2026 and self.held
    else
      assert(controls[final], "an unknown sequence: " .. final)(self, list[1] or 0, list[2])
    end
    return stop
  elseif letter == "" then
    return nil
  else
    error("an unknown sequence: " .. letter)
  end
  return at + 2
end

function Screen:write(bytes)
  local at = 1
  while at and at <= #bytes do
    local byte = bytes:byte(at)
    if byte == 27 then
      at = self:escape(bytes, at)
    elseif byte == 13 then
      self.column, at = 1, at + 1
    elseif byte == 10 then
      self:down()
      at = at + 1
    elseif byte == 9 then
      self.column, at = math.min(self.columns, (self.column + 7) // 8 * 8 + 1), at + 1
    else
      assert(byte >= 32, "an unknown control character")
      local character = bytes:match("^[%z\1-\127\194-\244][\128-\191]*", at)
      if not utf8.len(character) then
        return -- cut off
      end
      self:put(character)
      at = at + #character
    end
  end
end

local function line(row)
  return (table.concat(row):gsub(" +$", ""))
end

function Screen:lines()
  local list = {}
  for i, row in ipairs(self.cells) do
    list[i] = line(row)
  end
  return list
end

function Screen:text()
  local list = self:lines()
  for i = #self.history, 1, -1 do
    table.insert(list, 1, line(self.history[i]))
  end
  return (table.concat(list, "\n"):gsub("\n+$", "")) .. "\n"
end

local screens = {}

function screens.after(bytes, rows, width)
  local screen = setmetatable({
    rows = rows,
    columns = width,
    row = 1,
    column = 1,
    top = 1,
    bottom = rows,
    cells = {},
    history = {},
  }, Screen)
  for i = 1, rows do
    screen.cells[i] = blank(width)
  end
  screen:write(bytes)
  return screen
end

return screens
