-- The prompt: reads a line, runs it as a task, shows what it gave; until the input ends.
--
-- A line's task ends with the line, unless it left tasks running that it spawned: those are its
-- children and would be cancelled with it, so it stays, idle, until the prompt ends. A line that
-- fails, or is interrupted, takes what it spawned with it.

local allua = require("allua")
local core = require("allua.core")
local line = require("allua.line")
local stall = require("allua.stall")
local uv = require("luv")

-- A line may do to the globals what it likes: the prompt has its own.
local debug, io, math, os, string, table = debug, io, math, os, string, table
local error, load, next, pcall, print, rawget, rawlen = error, load, next, pcall, print, rawget, rawlen
local setmetatable, tonumber, tostring, type, xpcall = setmetatable, tonumber, tostring, type, xpcall

local HISTORY_LINES = 1000

local function say_error(text)
  io.stderr:write(text, "\n")
end

-- ---- History ----------------------------------------------------------------------------------

local function history_path()
  local state = os.getenv("XDG_STATE_HOME")
  if not state or state:sub(1, 1) ~= "/" then
    local home = os.getenv("HOME")
    state = home and home .. "/.local/state"
  end
  return state and state .. "/allua/history"
end

-- Add the lines of earlier sessions. What cannot be read or written is no history, and no error.
local function load_history(path)
  for folder_end in path:gmatch("()/") do
    uv.fs_mkdir(path:sub(1, folder_end), tonumber("700", 8))
  end
  local file = io.open(path)
  if not file then
    return
  end
  local lines = {}
  for text in file:lines() do
    lines[#lines + 1] = text
  end
  file:close()
  local first = math.max(1, #lines - HISTORY_LINES + 1)
  for i = first, #lines do
    line.add_history(lines[i])
  end
  -- Sessions append, so that several can share the file: here it is cut.
  if first > 1 then
    file = io.open(path, "w")
    if file then
      file:write(table.concat(lines, "\n", first), "\n")
      file:close()
    end
  end
end

local function save_history(path, text)
  local fd = uv.fs_open(path, "a", tonumber("600", 8))
  if fd then
    uv.fs_write(fd, text .. "\n", -1)
    uv.fs_close(fd)
  end
end

-- ---- Showing values -----------------------------------------------------------------------------

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }
local MOST_ENTRIES, MOST_TEXT, LINE = 50, 60, 78

local function quoted(text)
  local cut = ""
  if #text > MOST_TEXT then
    local length = MOST_TEXT
    while length > 0 and text:byte(length + 1) & 0xC0 == 0x80 do -- between two characters
      length = length - 1
    end
    text, cut = text:sub(1, length), "…"
  end
  text = text:gsub('[%c\\"]', function(c)
    return ESCAPES[c] or string.format("\\x%02X", c:byte())
  end)
  return '"' .. text .. cut .. '"'
end

-- Has its own way to be shown.
local function is_named(value)
  local meta = debug.getmetatable(value)
  return type(meta) == "table" and (meta.__tostring ~= nil or meta.__name ~= nil)
end

local function entry(value)
  local kind = type(value)
  if kind == "string" then
    return quoted(value)
  elseif kind == "table" and not is_named(value) then
    return next(value) == nil and "{}" or "{…}"
  elseif kind == "function" then
    return "function"
  end
  return tostring(value)
end

local ORDER = { number = 1, string = 2, boolean = 3 }

local function sorted_keys(t, length)
  local keys = {}
  for key in next, t do
    if math.type(key) ~= "integer" or key < 1 or key > length then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, function(a, b)
    local first, second = ORDER[type(a)] or 4, ORDER[type(b)] or 4
    if first ~= second then
      return first < second
    elseif first <= 2 then
      return a < b
    end
    return tostring(a) < tostring(b)
  end)
  return keys
end

-- A table's own entries, one level deep: on one line where they fit, else one a line.
local function table_text(t)
  local length = rawlen(t)
  local parts, width = {}, 4
  local function add(text)
    parts[#parts + 1] = text
    width = width + #text + 2
  end
  for i = 1, math.min(length, MOST_ENTRIES) do
    add(entry(rawget(t, i)))
  end
  local keys = sorted_keys(t, length)
  for i = 1, math.min(#keys, MOST_ENTRIES - #parts) do
    local key = keys[i]
    local is_name = type(key) == "string" and key:find("^[%a_][%w_]*$")
    add((is_name and key or "[" .. entry(key) .. "]") .. " = " .. entry(rawget(t, key)))
  end
  local hidden = length + #keys - #parts
  if hidden > 0 then
    add(string.format("… %d more", hidden))
  end
  if #parts == 0 then
    return "{}"
  elseif width <= LINE then
    return "{ " .. table.concat(parts, ", ") .. " }"
  end
  return "{\n  " .. table.concat(parts, ",\n  ") .. "\n}"
end

local function show(...)
  local values = table.pack(...)
  for i = 1, values.n do
    local value = values[i]
    values[i] = type(value) == "table" and not is_named(value) and table_text(value) or tostring(value)
  end
  if values.n > 0 then
    print(table.concat(values, "\t"))
  end
end

-- ---- Running a line -----------------------------------------------------------------------------

-- The report of an error: of a task that failed below the line with that task's traceback, and how it
-- came to the line; else with the line's.
local function report(e)
  local text = core.describe(e)
  if not text:find("\nstack traceback:\n", 1, true) then
    text = debug.traceback(text, 2)
  end
  -- What called the line is of no interest.
  return (text:gsub("\n%s*%[C%]: in function 'xpcall'\n.*$", ""))
end

return function()
  local history = history_path()
  local last_line -- added to the history
  local current -- the promise of the task that a Ctrl-C cancels
  local interrupted = false -- it did
  local staying = 0 -- lines that are done, but not what they spawned
  local never = allua.promise()

  -- Start a task for Ctrl-C to cancel.
  local function start(fn, ...)
    interrupted = false
    current = allua.spawn(fn, ...)
    return current
  end

  -- A line of input; nil at its end, false when it was interrupted.
  local function ask(prompt)
    local task = start(line.read_line, prompt)
    local ok, text = pcall(task.await, task)
    current = nil
    if not ok then
      if not interrupted then
        error(text, 0)
      end
      print("^C")
      return false
    end
    if text and text:find("%S") and text ~= last_line then
      last_line = text
      line.add_history(text)
      if history then
        save_history(history, text)
      end
    end
    return text
  end

  -- A chunk, of as many lines as it takes: false when there is nothing to run, nil at the end of
  -- the input.
  local function read_chunk()
    local text = ask("> ")
    if not text then
      return text
    end
    text = text:gsub("^=", "return ")
    while true do
      local chunk = load("return " .. text, "=stdin", "t")
      local message
      if not chunk then
        chunk, message = load(text, "=stdin", "t")
      end
      if chunk then
        return chunk
      elseif not message:find("<eof>$") then
        say_error(message)
        return false
      end
      local more = ask(">> ")
      if not more then
        return more
      end
      text = text .. "\n" .. more
    end
  end

  local function run(chunk)
    local done = allua.promise()
    local stuck
    local task = start(function()
      local _ <close> = setmetatable({}, {
        __close = function()
          done:resolve()
        end,
      })
      local results = table.pack(xpcall(chunk, report))
      if results[1] then
        results = table.pack(xpcall(show, report, table.unpack(results, 2, results.n)))
      end
      if not results[1] then
        say_error(interrupted and "\ninterrupted" or stuck or results[2])
      -- Are there tasks but the root, this one and those that stay?
      elseif core.census().tasks > 2 + staying then
        staying = staying + 1
        done:resolve()
        never:await()
      end
    end)
    local _ <close> = stall(function(e)
      stuck = tostring(e)
      task:cancel(e)
    end)
    done:await()
    current = nil
  end

  core.on_interrupt(function()
    interrupted = true
    if current then
      current:cancel("interrupted")
    end
  end)
  if history then
    load_history(history)
  end
  print(string.format("allua %s (%s)", allua.version, line.lua))
  while true do
    local chunk = read_chunk()
    if chunk == nil then
      break
    elseif chunk then
      run(chunk)
    end
  end
  print()
  -- Not to wait for servers and timers of libuv's that are left.
  os.exit(0)
end
