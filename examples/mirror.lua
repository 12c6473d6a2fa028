-- Load a list of URLs into a folder: four at a time, again where that may help, and on from where an
-- earlier run stopped. One line a file as each is done, and how far all of it is on a terminal.
--
--   allua examples/mirror.lua FOLDER URL...
--   allua examples/mirror.lua FOLDER <list-of-urls.txt
local uv = require("luv")

local folder = arg[1]
-- Nobody types a list: who gives none, and no file, wants to know what to give.
if not folder or folder:find("^%-") or not arg[2] and uv.guess_handle(0) == "tty" then
  io.stderr:write("usage: mirror.lua FOLDER [URL...]   (without URLs: one a line from standard input)\n")
  os.exit(2)
end

local urls = table.pack(table.unpack(arg, 2))
if #urls == 0 then
  for line in io.lines() do
    urls[#urls + 1] = line:match("^%s*(%S+)%s*$")
  end
end

-- http://host/a/b.txt goes into FOLDER/host/a/b.txt; what could lead out of the folder is replaced.
local function path_for(url)
  local name = url:gsub("^%a+://", ""):gsub("[?#].*$", ""):gsub("^[^/]*@", "")
  local path = folder
  local parts = {}
  for part in name:gmatch("[^/]+") do
    parts[#parts + 1] = part:gsub("^%.+$", "_"):gsub("[^%w%-._~%%]", "_")
  end
  if #parts == 1 or name:find("/$") then
    parts[#parts + 1] = "index.html"
  end
  uv.fs_mkdir(path, tonumber("755", 8))
  for i, part in ipairs(parts) do
    path = path .. "/" .. part
    if i < #parts then
      uv.fs_mkdir(path, tonumber("755", 8))
    end
  end
  return path
end

local terminal = uv.guess_handle(2) == "tty"
local received, done = {}, 0

local function show()
  local sum = 0
  for _, bytes in pairs(received) do
    sum = sum + bytes
  end
  if terminal then
    io.stderr:write(("\r%d of %d files, %.1f MB\27[K"):format(done, #urls, sum / 1e6))
  end
end

local function line(text)
  if terminal then
    io.stderr:write("\r\27[K")
  end
  print(text)
end

local failed = 0
allua.map(urls, function(url)
  local ok, result = pcall(function()
    return allua.fetch.download(url, path_for(url), {
      retry = { attempts = 4, delay = 0.2 },
      on_progress = function(bytes)
        received[url] = bytes
        show()
      end,
    })
  end)
  if allua.is_error(result, "CancelledError") then
    error(result, 0)
  end
  done = done + 1
  if ok then
    line(("%10d  %s"):format(result, (url:gsub("//[^/]*@", "//")))) -- no password on the screen
  else
    failed = failed + 1
    line(("    failed  %s"):format(tostring(result)))
  end
  show()
end, { concurrency = 4 })

if terminal then
  io.stderr:write("\n")
end
if failed > 0 then
  os.exit(1)
end
