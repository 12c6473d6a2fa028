-- process: runs programs for the benchmark's scripts.

local allua = require("allua")
local uv = require("luv")

local process = {}

local TICK = 100 -- a second, of the times in /proc

-- What a program prints, without the last newline; nil and what it said if it fails or is not there.
function process.capture(program, ...)
  local ended = allua.promise()
  local pipe, chunks = uv.new_pipe(false), {}
  local args = { "-c", 'exec "$0" "$@" 2>&1', program, ... } -- a pipe stands for one descriptor only
  local handle = assert(uv.spawn("sh", { args = args, stdio = { nil, pipe } }, function(status, signal)
    ended:resolve(status == 0 and signal == 0)
  end))
  local read = allua.promise()
  pipe:read_start(function(_, chunk)
    if chunk then
      chunks[#chunks + 1] = chunk
    else
      read:resolve()
    end
  end)
  read:await()
  local well = ended:await()
  pipe:close()
  handle:close()
  local text = table.concat(chunks):gsub("%s+$", "")
  if well then
    return text
  end
  return nil, text
end

-- The text of a file, or nil.
function process.read(path)
  local file = io.open(path)
  if file then
    local text = file:read("a")
    file:close()
    return text
  end
end

-- Write a file whole.
function process.write(path, text)
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(text))
end

-- The processor time of a process and its children, in seconds.
function process.processor(pid)
  local sum = 0
  local function add(id)
    local stat = process.read(("/proc/%d/stat"):format(id))
    local fields = {}
    for field in (stat or ""):gsub("^.*%) ", ""):gmatch("%S+") do
      fields[#fields + 1] = field
    end
    sum = sum + (tonumber(fields[12]) or 0) + (tonumber(fields[13]) or 0)
    for child in (process.read(("/proc/%d/task/%d/children"):format(id, id)) or ""):gmatch("%d+") do
      add(math.tointeger(child))
    end
  end
  add(pid)
  return sum / TICK
end

-- Options of a script's command line: name -> text. `known` is name -> its value where it is not given.
function process.options(known)
  local options = {}
  for name, value in pairs(known) do
    options[name] = value
  end
  for i = 1, #arg, 2 do
    local name = arg[i]:match("^%-%-(%a+)$")
    if not arg[i + 1] or known[name] == nil then
      local names = {}
      for each in pairs(known) do
        names[#names + 1] = "[--" .. each .. " …]"
      end
      table.sort(names)
      io.stderr:write("usage: ", arg[0], " ", table.concat(names, " "), "\n")
      os.exit(2, true)
    end
    options[name] = arg[i + 1]
  end
  return options
end

return process
