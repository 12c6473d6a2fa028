-- The host program as a child process, for what only a process can show: its output, its exit status,
-- its answer to a signal.
--
--   local result = host.eval([[print(1)]])          -- allua -e CODE
--   local result = host.run({ "script.lua", "x" })  -- allua script.lua x
--   result.out, result.err, result.code, result.signal
--
--   local child <close> = host.start({ "-e", code })
--   child:wait_for("ready")
--   child:kill("sigint")
--   local result = child:wait()
--
-- Options: stdin (what the child reads there; else it reads nothing), env (name → value or false, on
-- top of this process's own), cwd, program, timeout (seconds).

local allua = require("allua")
local close = require("spec.support.close")
local uv = require("luv")

local host = {}

-- The program under test: this one, or what ALLUA names where this one is run by another (valgrind).
host.program = os.getenv("ALLUA") or uv.exepath()

-- Far more than any spec's child needs on a slow machine; a child that hangs fails its spec, not the suite.
local timeout = 300

local Child = {}
Child.__index = Child

local function environment(changes)
  local values = uv.os_environ()
  for name, value in pairs(changes or {}) do
    values[name] = value or nil
  end
  local list = {}
  for name, value in pairs(values) do
    list[#list + 1] = name .. "=" .. value
  end
  return list
end

-- Tells who waits for something of the child's that there is news.
local function stir(child)
  local changed = child.changed
  child.changed = allua.promise()
  changed:resolve()
end

-- Collects what comes through a pipe in child[field], and resolves child.ended[field] at its end.
local function collect(child, pipe, field)
  local ended = allua.promise()
  child.ended[field] = ended
  pipe:read_start(function(failure, data)
    if data then
      child[field] = child[field] .. data
    elseif failure then
      ended:reject(failure)
    else
      ended:resolve()
    end
    stir(child)
  end)
end

function host.start(args, options)
  options = options or {}
  local child = setmetatable({
    out = "",
    err = "",
    ended = { exit = allua.promise() },
    changed = allua.promise(),
    pipes = { uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false) },
    timeout = options.timeout or timeout,
  }, Child)
  local process, failure = uv.spawn(options.program or host.program, {
    args = args,
    stdio = child.pipes,
    env = environment(options.env),
    cwd = options.cwd,
  }, function(code, signal)
    child.ended.exit:resolve(code, signal)
    stir(child)
  end)
  child.process = process
  if not process then
    child:close()
    error(("cannot start %s: %s"):format(options.program or host.program, failure), 2)
  end
  collect(child, child.pipes[2], "out")
  collect(child, child.pipes[3], "err")
  -- Written all the same where the child ends without reading it: that is no fault of the child's.
  if options.stdin then
    child.pipes[1]:write(options.stdin)
  end
  child.pipes[1]:shutdown()
  return child
end

function Child:kill(signal)
  self.process:kill(signal)
end

-- Waits until the child has written these words, to either stream.
function Child:wait_for(words)
  allua.timeout(self.timeout, function()
    while not (self.out:find(words, 1, true) or self.err:find(words, 1, true)) do
      if self.ended.exit.status ~= "pending" and self.ended.out.status ~= "pending" then
        error(("the child ended without %q: %s%s"):format(words, self.out, self.err), 0)
      end
      self.changed:await()
    end
  end)
end

-- Waits until the child has ended and all it wrote has been read.
function Child:wait()
  local code, signal = allua.timeout(self.timeout, function()
    self.ended.out:await()
    self.ended.err:await()
    return self.ended.exit:await()
  end)
  return { out = self.out, err = self.err, code = code, signal = signal }
end

-- Ends the child if it has not ended, and everything that belongs to it.
function Child:close()
  allua.shield(function()
    if self.process then
      if self.ended.exit.status == "pending" then
        self.process:kill("sigkill")
        self.ended.exit:await()
      end
      close(self.process)
    end
    for _, pipe in ipairs(self.pipes) do
      close(pipe)
    end
  end)
end

Child.__close = Child.close

function host.run(args, options)
  local child <close> = host.start(args, options)
  return child:wait()
end

function host.eval(code, options)
  return host.run({ "-e", code }, options)
end

return host
