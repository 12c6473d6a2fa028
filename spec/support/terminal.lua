-- The host program on a terminal: a real one, as far as the program can tell (script(1) makes it).
--
--   local terminal <close> = terminals.start({}, { env = { HOME = folder.path } })
--   terminal:wait_for("> ")
--   terminal:type("6 * 7\n")
--   terminal:wait_for("42")            -- what came after what was waited for last
--   local status = terminal:wait()

local allua = require("allua")
local close = require("spec.support.close")
local host = require("spec.support.host")
local uv = require("luv")

local terminals = {}

local Terminal = {}
Terminal.__index = Terminal

-- Far more than a slow machine needs; what never comes fails the spec, not the suite.
local timeout = 120

local function quoted(argument)
  return "'" .. argument:gsub("'", "'\\''") .. "'"
end

-- The text without the terminal's escape sequences and carriage returns.
local function plain(text)
  return (text:gsub("\27%[[%d;?]*[%a@]", ""):gsub("\27[=>]", ""):gsub("[\r\a]", ""))
end

-- Environment variables are given on the command line: all else is inherited.
function terminals.start(args, options)
  local command = { "stty rows 24 cols 100; exec env TERM=xterm" }
  for name, value in pairs(options and options.env or {}) do
    command[#command + 1] = quoted(name .. "=" .. value)
  end
  command[#command + 1] = quoted(host.program)
  for _, argument in ipairs(args) do
    command[#command + 1] = quoted(argument)
  end
  local terminal = setmetatable({
    raw = "",
    seen = 0,
    input = uv.new_pipe(false),
    output = uv.new_pipe(false),
    ended = allua.promise(),
    changed = allua.promise(),
  }, Terminal)
  local function stir()
    local changed = terminal.changed
    terminal.changed = allua.promise()
    changed:resolve()
  end
  local failure
  terminal.process, failure = uv.spawn("script", {
    args = { "--quiet", "--return", "--flush", "--command", table.concat(command, " "), "/dev/null" },
    stdio = { terminal.input, terminal.output, 2 },
  }, function(code)
    terminal.ended:resolve(code)
    stir()
  end)
  assert(terminal.process, failure)
  terminal.output:read_start(function(_, data)
    terminal.raw = terminal.raw .. (data or "")
    stir()
  end)
  return terminal
end

-- All that the program has shown since the last thing that was waited for.
function Terminal:rest()
  return plain(self.raw):sub(self.seen + 1)
end

function Terminal:type(text)
  self.input:write(text)
end

-- Waits until the words stand somewhere after what was waited for last.
function Terminal:wait_for(words)
  local found = pcall(allua.timeout, timeout, function()
    while true do
      local _, last = plain(self.raw):find(words, self.seen + 1, true)
      if last then
        self.seen = last
        return
      end
      if self.ended.status ~= "pending" then
        error("the program has ended", 0)
      end
      self.changed:await()
    end
  end)
  if not found then
    error(("no %q in %q"):format(words, self:rest()), 2)
  end
end

-- Types Ctrl-D until the program ends. Once is enough for a person: but a key that comes before the
-- editor has set the terminal up, the moment after it showed its prompt, may be lost.
function Terminal:leave()
  repeat
    self:type("\4")
  until pcall(allua.timeout, 2, self.ended.await, self.ended)
  return self:wait()
end

-- The program's exit status, once it has ended.
function Terminal:wait()
  return allua.timeout(timeout, self.ended.await, self.ended)
end

function Terminal:__close()
  allua.shield(function()
    if self.ended.status == "pending" then
      self.process:kill("sigkill")
      self.ended:await()
    end
    close(self.process)
    close(self.input)
    close(self.output)
  end)
end

return terminals
