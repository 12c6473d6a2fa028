-- report: a report on this machine and a git checkout; a graph of programs run and files read, all at once.
--
--   allua examples/report.lua [CHECKOUT]     without one: the checkout that holds this script, or else "."

local uv = require("luv")

local MOST_COMMITS <const> = 1000 -- how far back to look for hot files
local MOST_FILES <const> = 5000 -- how many files to count the lines of
local MOST_BYTES <const> = 1024 * 1024 -- a larger file is data
local TOOLS <const> = { { "cc", "--version" }, { "git", "--version" }, { "lua5.4", "-v" }, { "make", "--version" } }

local place = arg[1] or arg[0]:match("^(.*)/") or "."
if (uv.fs_stat(place) or {}).type ~= "directory" then
  io.stderr:write("report: ", place, " is not a directory\n")
  os.exit(1, true)
end

local locale = ""
for _, name in ipairs({ "LC_ALL", "LC_CTYPE", "LANG" }) do
  locale = locale ~= "" and locale or os.getenv(name) or ""
end

-- Programs must not speak the user's language, nor git lock what the user may be working on.
uv.os_setenv("LC_ALL", "C")
uv.os_setenv("GIT_OPTIONAL_LOCKS", "0")

-- Running programs and reading files ------------------------------------------------------------------------

local function at_exit(fn)
  return setmetatable({}, { __close = fn })
end

-- How many things may go on at once, and when each program run and each file read began and ended.
local at_once, parts = 16, {}

local function part(label, fn, ...)
  local this = { label = label, began = allua.now() }
  parts[#parts + 1] = this
  local _ <close> = at_exit(function()
    this.ended = allua.now()
  end)
  return fn(...)
end

-- Starts a program, waits until it has ended, and gives its exit status, its output and its errors.
-- A program whose task is cancelled is killed.
local function spawn_and_wait(program, args, directory)
  local ended = allua.promise()
  local running, status, said = 3, nil, { {}, {} } -- running: the program, its output, its errors
  local pipes = { uv.new_pipe(false), uv.new_pipe(false) }
  local process, problem, code

  local function one_ended()
    running = running - 1
    if running == 0 then
      ended:resolve(status, table.concat(said[1]), table.concat(said[2]))
    end
  end

  local _ <close> = at_exit(function()
    if process and process:is_active() then
      process:kill("sigkill")
    end
    for _, pipe in ipairs(pipes) do
      pipe:close()
    end
  end)

  local options = { args = args, cwd = directory, stdio = { nil, pipes[1], pipes[2] } }
  process, problem, code = uv.spawn(program, options, function(exit_status, signal)
    status = signal == 0 and exit_status or 128 + signal
    process:close()
    one_ended()
  end)
  if not process then
    error(code == "ENOENT" and program .. " is not installed" or program .. ": " .. problem, 0)
  end
  for i, pipe in ipairs(pipes) do
    pipe:read_start(function(_, chunk)
      if chunk then
        table.insert(said[i], chunk)
      else
        one_ended()
      end
    end)
  end
  return ended:await()
end

-- What a program prints. One that fails raises what it said on its standard error.
local function run(program, args, directory)
  local status, output, errors = part(program .. " " .. args[1], spawn_and_wait, program, args, directory)
  if status ~= 0 then
    errors = errors:gsub("^fatal: ", "")
    error(errors:match("[^\n]+") or ("%s ended with status %d"):format(program, status), 0)
  end
  return (output:gsub("%s+$", ""))
end

local open = allua.promisify(uv.fs_open)
local stat = allua.promisify(uv.fs_stat)
local read = allua.promisify(uv.fs_read)

local function read_file(path)
  local file = open(path, "r", 0)
  local _ <close> = at_exit(function()
    uv.fs_close(file)
  end)
  local chunks = {}
  repeat -- until the end: files in /proc do not say how long they are
    local chunk = read(file, 65536, -1)
    chunks[#chunks + 1] = chunk
  until chunk == ""
  return table.concat(chunks)
end

local function system_file(path)
  return part(path, read_file, path)
end

-- How fast a counter in a file grows, per second: to see that takes time, though little work.
local function rate(path, count)
  return part("watch " .. path, function()
    local began, before = allua.now(), count(read_file(path))
    allua.sleep(0.1)
    return (count(read_file(path)) - before) / (allua.now() - began)
  end)
end

-- The lines in a file of text; nothing for what is no text.
local function count_lines(path)
  local about = stat(path)
  if about.type == "file" and about.size <= MOST_BYTES then
    local text = read_file(path)
    if not text:find("\0", 1, true) then
      return select(2, text:gsub("\n", ""))
    end
  end
end

-- Looks -----------------------------------------------------------------------------------------------------

local unicode = locale:lower():find("utf%-?8")
local colour = uv.guess_handle(1) == "tty" and not os.getenv("NO_COLOR")
local FULL <const>, EMPTY <const> = unicode and "█" or "#", unicode and "░" or "."
local BAR <const> = 30 -- characters

local function paint(code, text)
  return colour and ("\27[%sm%s\27[0m"):format(code, text) or text
end

-- Text filled up, or cut, to a number of characters.
local function fit(text, width)
  local length = utf8.len(text)
  if length and length > width then
    return text:sub(1, utf8.offset(text, width) - 1) .. "~"
  end
  return text .. (" "):rep(width - (length or #text))
end

-- A bar from one share of the whole to another: at least one character, so that nothing is invisible.
local function bar(from, to, empty)
  local first = math.min(math.floor(from * BAR), BAR - 1)
  local full = math.max(math.floor(to * BAR + 0.5) - first, 1)
  return empty:rep(first) .. paint("32", FULL:rep(full)) .. empty:rep(BAR - first - full)
end

local function number(value) -- 1234567 as 1,234,567
  return (("%d"):format(value):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
end

local function plural(value, noun, nouns)
  return number(value) .. " " .. (value == 1 and noun or nouns or noun .. "s")
end

local function duration(seconds)
  for _, unit in ipairs({ { "day", 86400 }, { "hour", 3600 }, { "minute", 60 } }) do
    if seconds >= 2 * unit[2] then
      return plural(seconds // unit[2], unit[1])
    end
  end
  return plural(math.max(seconds // 1, 0), "second")
end

local function gauge(used, total) -- both in KiB
  return ("%s %.1f of %.1f GiB in use"):format(bar(0, used / total, EMPTY), used / 2 ^ 20, total / 2 ^ 20)
end

-- The work --------------------------------------------------------------------------------------------------

local function git(self, ...)
  return run("git", { ... }, self.root)
end

local function by(field)
  return function(a, b)
    return a[field] > b[field] or a[field] == b[field] and a.name < b.name
  end
end

-- A task waits only for what it reads through `self`.
local tasks = {
  system = function()
    return run("uname", { "-nsrm" })
  end,
  processor = function()
    local text = system_file("/proc/cpuinfo")
    local _, processors = text:gsub("processor%s*:", "")
    return ("%d x %s"):format(processors, text:match("model name%s*:%s*([^\n]+)") or "an unknown make")
  end,
  memory = function()
    local text = system_file("/proc/meminfo")
    local total, free = text:match("MemTotal:%s*(%d+)"), text:match("MemAvailable:%s*(%d+)")
    return gauge(total - free, total)
  end,
  disk = function()
    local used, free = run("df", { "-kP", place }):match("%s(%d+)%s+(%d+)%s+%d+%%")
    return gauge(used, used + free)
  end,
  load = function()
    return system_file("/proc/loadavg"):match("%S+ %S+ %S+")
  end,
  up = function()
    return duration(tonumber(system_file("/proc/uptime"):match("%S+")))
  end,
  busy = function()
    local ticks = rate("/proc/stat", function(text) -- those of users, niced ones and the system; 100 a second
      local user, nice, system = text:match("cpu +(%d+) (%d+) (%d+)")
      return user + nice + system
    end)
    return ("%.1f processors, this report included"):format(ticks / 100)
  end,
  transfers = function()
    local kilobytes = rate("/proc/vmstat", function(text)
      return text:match("pgpgin (%d+)") + text:match("pgpgout (%d+)")
    end)
    return number(kilobytes // 1) .. " KiB a second from and to disks"
  end,
  network = function()
    local bytes = rate("/proc/net/dev", function(text)
      local sum = 0
      for device, received, sent in text:gmatch("(%w+): *(%d+)" .. (" +%d+"):rep(7) .. " +(%d+)") do
        sum = sum + (device == "lo" and 0 or received + sent)
      end
      return sum
    end)
    return number(bytes // 1024) .. " KiB a second"
  end,
  battery = function() -- few servers have one
    return system_file("/sys/class/power_supply/BAT0/capacity"):match("%d+") .. " %"
  end,
  tools = function()
    return table.concat(
      allua.map(TOOLS, function(tool)
        local there, text = pcall(run, tool[1], { tool[2] })
        return tool[1] .. " " .. (there and text:match("%d+%.[%d.]*%d") or "(none)")
      end, { concurrency = at_once }),
      ", "
    )
  end,

  root = function()
    local find = { "rev-parse", "--show-toplevel" }
    local found, root = pcall(run, "git", find, place)
    return found and root or run("git", find, arg[1])
  end,
  branch = function(self)
    return git(self, "symbolic-ref", "--short", "HEAD")
  end,
  upstream = function(self) -- not every branch has one
    local ahead, behind = git(self, "rev-list", "--left-right", "--count", "HEAD...@{upstream}"):match("(%d+)%s+(%d+)")
    return ("%s ahead, %s behind"):format(ahead, behind)
  end,
  changes = function(self)
    local _, changes = git(self, "status", "--porcelain"):gsub("[^\n]+", "")
    return changes == 0 and "none" or plural(changes, "file") .. " not committed"
  end,
  head = function(self)
    local time, title = git(self, "log", "-1", "--format=%ct %h %s"):match("(%d+) (.*)")
    return ("%s (%s ago)"):format(title, duration(os.time() - time))
  end,
  log = function(self) -- newest first: when a commit was made, and the files that it touched
    local commits = {}
    local head = self.head:match("%x+")
    local text = git(self, "log", "-z", "--name-only", "--format=%x01%ct%x02", "-n", tostring(MOST_COMMITS), head)
    for time, files in text:gmatch("\1(%d+)\2([^\1]*)") do
      commits[#commits + 1] = { time = tonumber(time), files = files }
    end
    return commits
  end,
  people = function(self)
    local people = {}
    for commits, name in git(self, "shortlog", "-sn", self.head:match("%x+")):gmatch("(%d+)\t([^\n]*)") do
      people[#people + 1] = { name = name, commits = tonumber(commits) }
    end
    return people
  end,
  files = function(self)
    local files = {}
    for path in git(self, "ls-files", "-z"):gmatch("[^\0]+") do
      files[#files + 1] = path
    end
    return files
  end,
  lines = function(self) -- beside the list of files, how many lines each has
    local root, files = self.root, table.move(self.files, 1, math.min(#self.files, MOST_FILES), 1, {})
    return part("read " .. plural(#files, "file"), allua.map, files, function(path)
      local readable, count = pcall(count_lines, root .. "/" .. path) -- it may be gone by now
      return readable and count or nil
    end, { concurrency = at_once })
  end,
  kinds = function(self) -- of files, by their ending
    local kinds = {}
    for i, path in ipairs(self.files) do
      if self.lines[i] then
        local name = path:match("[^/]%.([%w_]+)$") or "others"
        local kind = kinds[name] or { name = name, lines = 0, files = 0 }
        if not kinds[name] then
          kinds[name], kinds[#kinds + 1] = kind, kind
        end
        kind.lines, kind.files = kind.lines + self.lines[i], kind.files + 1
      end
    end
    table.sort(kinds, by("lines"))
    return kinds
  end,
  hot = function(self) -- the files that the most commits touched, of those still there
    local commits, hot = {}, {}
    for _, commit in ipairs(self.log) do
      for path in commit.files:gmatch("[^\0\n]+") do
        commits[path] = (commits[path] or 0) + 1
      end
    end
    for i, path in ipairs(self.files) do
      if (commits[path] or 0) > 1 then
        hot[#hot + 1] = { name = path, commits = commits[path], lines = self.lines[i] }
      end
    end
    table.sort(hot, by("commits"))
    return hot
  end,
  shallow = function(self)
    return git(self, "rev-parse", "--is-shallow-repository") == "true" and "older commits are missing here" or nil
  end,
  summary = function(self) -- needs five of the others
    local lines, commits, log = 0, 0, self.log
    for _, kind in ipairs(self.kinds) do
      lines = lines + kind.lines
    end
    for _, person in ipairs(self.people) do
      commits = commits + person.commits
    end
    local pace = (log[1].time - log[#log].time) / math.max(#log - 1, 1)
    return ("%s in %s; %s%s by %s%s"):format(
      plural(lines, "line"),
      plural(#self.files, "file"),
      self.shallow and "at least " or "",
      plural(commits, "commit"),
      plural(#self.people, "person", "people"),
      pace > 0 and ", one every " .. duration(pace) or ""
    )
  end,
}

-- All of them start at once. One that fails takes with it those that read it, and no others.
local started = allua.now()
local results = allua.all_settled(tasks)
local took = allua.now() - started

-- The page --------------------------------------------------------------------------------------------------

-- What a task made; nil if it failed.
local function value(name)
  return results[name].value
end

local function row(label, text)
  print("  " .. paint("36", fit(label, 12)) .. text)
end

local function section(title, names)
  local empty = true
  for name in names:gmatch("%S+") do
    if value(name) then
      if empty then
        print("\n" .. paint("1", title))
        empty = false
      end
      row(name, value(name))
    end
  end
end

-- The first few of a list, with bars for one of their numbers.
local function chart(title, list, field, most, describe)
  if list and #list > 0 then
    print("\n" .. paint("1", title))
    for i = 1, math.min(#list, most) do
      local share = list[i][field] / math.max(list[1][field], 1)
      print(("  %s %s  %s"):format(fit(list[i].name, 26), bar(0, share, " "), describe(list[i])))
    end
    if #list > most then
      print("  and " .. plural(#list - most, "other"))
    end
  end
end

section("MACHINE", "system processor busy memory disk transfers network load up battery tools")
section("CHECKOUT", "root branch head upstream changes shallow summary")
chart("LINES BY KIND OF FILE", value("kinds"), "lines", 8, function(kind)
  return ("%7s in %s"):format(number(kind.lines), plural(kind.files, "file"))
end)
chart("PEOPLE", value("people"), "commits", 5, function(person)
  return plural(person.commits, "commit")
end)
chart("HOT FILES", value("hot"), "commits", 8, function(file)
  return plural(file.commits, "commit") .. (file.lines and " in " .. plural(file.lines, "line") or "")
end)

-- What failed by itself is said with its reason; what read it failed with it, and is only counted.
local failed, taken_along = {}, {}
for name, result in pairs(results) do
  if result.from then
    while result.from do
      name, result = result.from, results[result.from]
    end
    taken_along[name] = (taken_along[name] or 0) + 1
  elseif result.status == "rejected" then
    failed[#failed + 1] = name
  end
end
table.sort(failed)
if #failed > 0 then
  print("\n" .. paint("1", "DONE WITHOUT"))
  for _, name in ipairs(failed) do
    row(name, paint("33", tostring(results[name].reason)))
    if taken_along[name] then
      row("", ("and without %s that need it"):format(plural(taken_along[name], "task")))
    end
  end
end

print("\n" .. paint("1", "TIME"))
for _, this in ipairs(parts) do
  local from, to = (this.began - started) / took, (this.ended - started) / took
  print(("  %s %s %6.0f ms"):format(fit(this.label, 26), bar(from, to, " "), (this.ended - this.began) * 1000))
end
print(("\nAll at once, the work took %.0f ms."):format(took * 1000))

-- The same work once more, one thing at a time: what its parts take when none has to share the machine.
at_once, parts = 1, {}
allua.all_settled(tasks, { concurrency = at_once })
local sum = 0
for _, this in ipairs(parts) do
  sum = sum + (this.ended - this.began)
end
print(("Its parts, one at a time, add up to %.0f ms: %.1f times as long."):format(sum * 1000, sum / took))
