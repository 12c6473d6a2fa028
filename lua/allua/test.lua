-- `allua test`: busted's runner inside the program, each test a task of its own.
--
-- A test's task runs its before_each, its body and its after_each, and is named after the test. What
-- it leaves behind when it ends well (a task that it spawned, a handle of luv's) makes it fail, and
-- is ended then, so that the next test starts clean.

local allua = require("allua")
local core = require("allua.core")
local stall = require("allua.stall")
local uv = require("luv")

local NO_BUSTED = [[
allua test: busted is not installed for Lua 5.4:
  apt install lua-busted
]]

local OWN_HELP = [[
  --timeout=SECONDS           the longest that a test's body may take; past it
                              the test ends with a TimeoutError
  --virtual-time              each test has a virtual clock: sleeping takes no
                              time, and what happens when is always the same
]]

-- ---- What a test leaves behind ------------------------------------------------------------------

local function active_handles()
  local active = {}
  uv.walk(function(handle)
    if handle:is_active() and not handle:is_closing() then
      active[handle] = true
    end
  end)
  return active
end

-- Close the handles opened since `before`, and add what they were to `left`.
local function close_handles(before, left)
  local counts, kinds = {}, {}
  for handle in pairs(active_handles()) do
    if not before[handle] then
      local kind = uv.handle_get_type(handle)
      if not counts[kind] then
        kinds[#kinds + 1] = kind
      end
      counts[kind] = (counts[kind] or 0) + 1
      handle:close()
    end
  end
  table.sort(kinds)
  for _, kind in ipairs(kinds) do
    local n = counts[kind]
    left[#left + 1] = string.format("left open: %d %s %s", n, kind, n == 1 and "handle" or "handles")
  end
end

-- What each task waits for: a list of texts, and how often each is in it.
local function waits()
  local texts, counts = {}, {}
  for text in core.waits():gmatch("[^\n]+") do
    text = text:gsub("^%s+", "")
    if text:find("^task ") then
      texts[#texts + 1] = text
      counts[text] = (counts[text] or 0) + 1
    end
  end
  return texts, counts
end

local on_stall -- ends the innermost run_clean
local unseen = 0 -- errors that nobody saw, as many as a run_clean has given

-- Run fn as a task, join it, end what it left behind. Gives that, a text each: the tasks that have
-- ended with it (others may be alive, the setup of a describe may have started them), the handles
-- that are new, the errors that nobody will see.
local function run_clean(name, fn)
  local tasks, texts, known
  local handles = active_handles()
  local controller, outer = allua.abort_controller(), on_stall
  on_stall = function(e)
    controller:abort(e)
  end
  local ok, message = pcall(allua.all, {
    [name] = function()
      local before = core.census().tasks
      known = select(2, waits())
      fn()
      -- What is about to end may do so.
      for _ = 1, 10 do
        if core.census().tasks <= before then
          break
        end
        allua.yield()
      end
      texts = waits()
      tasks = core.census().tasks - 1
    end,
  }, { signal = controller.signal })
  on_stall = outer
  local was_stuck = controller.signal.aborted and message == controller.signal.reason
  if not ok and not was_stuck then
    error(message, 0)
  end
  local left = {}
  local count = tasks and tasks - core.census().tasks or 0
  if count > 0 then
    local _, still = waits()
    for text, n in pairs(still) do
      known[text] = math.max(known[text] or 0, n)
    end
    for _, text in ipairs(texts) do
      known[text] = (known[text] or 0) - 1
      if known[text] < 0 and #left < count then
        left[#left + 1] = "left running: " .. text:gsub('^(task ".*") (waits for .*)$', "%1 (%2)")
      end
    end
    count = count - #left
    if count > 0 then
      left[#left + 1] = string.format("left running: %d %s", count, count == 1 and "task" or "tasks")
    end
  end
  close_handles(handles, left)
  core.report()
  count = core.census().reported - unseen
  unseen = unseen + count
  if count > 0 then
    left[#left + 1] =
      string.format("left unseen: %d %s, reported on standard error", count, count == 1 and "error" or "errors")
  end
  return left
end

-- Call fn, or raise a TimeoutError after so many seconds of the machine's time, whatever the clock says.
local function within(seconds, fn)
  local controller, timer = allua.abort_controller(), uv.new_timer()
  local _ <close> = setmetatable({}, {
    __close = function()
      timer:close()
    end,
  })
  timer:start(math.ceil(seconds * 1000), 0, function()
    local message = ("timed out after %s s"):format(seconds)
    controller:abort(core.error({ name = "TimeoutError", message = message }))
  end)
  timer:unref() -- the virtual clock does not wait for it
  allua.all({
    function()
      fn()
    end,
  }, { signal = controller.signal })
end

-- ---- Busted --------------------------------------------------------------------------------------

local function full_name(busted, element)
  local names = {}
  while element and element.descriptor ~= "file" do
    table.insert(names, 1, element.name or element.descriptor)
    element = busted.context.parent(element)
  end
  return table.concat(names, " ")
end

local function located(element, text)
  return string.format("%s:%d: %s", element.trace.short_src, element.trace.currentline, text)
end

-- Change one instance of busted's core.
local function adapt(busted, timeout, virtual)
  local block = require("busted.block")(busted)
  local register, safe, pop = busted.register, busted.safe, busted.context.pop

  local function run_test(executor, element)
    -- What this starts is to live longer than the test.
    if not block.lazySetup(busted.context.parent(element)) then
      return
    end
    -- The test has not ended before its after_each has.
    local publish, ending = busted.safe_publish, nil
    busted.safe_publish = function(descriptor, channel, ...)
      if channel[1] == "test" and channel[2] == "end" then
        ending = table.pack(descriptor, channel, ...)
        return true
      end
      return publish(descriptor, channel, ...)
    end
    local clocks = core.census().clocks
    local ok, left = pcall(run_clean, full_name(busted, element), function()
      local _ <close> = virtual and allua.clock.virtual() or nil
      executor(element)
    end)
    if ok and core.census().clocks > clocks then
      left[#left + 1] = "left open: a virtual clock"
    end
    core.keep_clocks(clocks)
    busted.safe_publish = publish
    if not ok then
      error(left, 0)
    end
    if ending[5] == "success" and #left > 0 then
      ending[5] = tostring(safe("it", function()
        busted.fail(located(element, table.concat(left, "\n")), 0)
      end, element))
    end
    publish(table.unpack(ending, 1, ending.n))
  end

  busted.register = function(descriptor, executor, attributes)
    local run = executor
    if descriptor == "it" then
      run = function(element)
        run_test(executor, element)
      end
    end
    return register(descriptor, run, attributes)
  end

  busted.safe = function(descriptor, run, element)
    local body = run
    if timeout and descriptor == "it" and run == element.run then
      body = function()
        local ok, e = pcall(virtual and within or allua.timeout, timeout, run)
        if not ok then
          error(allua.is_error(e, "TimeoutError") and located(element, tostring(e)) or e, 0)
        end
      end
    end
    return safe(descriptor, body, element)
  end

  -- An insulated block forgets the modules that it loaded: not those that there is one of in a host.
  busted.context.pop = function(...)
    local kept = {}
    for name, module in pairs(package.loaded) do
      if name == "luv" or name == "allua" or type(name) == "string" and name:find("^allua%.") then
        kept[name] = module
      end
    end
    pop(...)
    for name, module in pairs(kept) do
      package.loaded[name] = module
    end
  end

  return busted
end

-- ---- The command line ------------------------------------------------------------------------------

-- Take our own options out. Gives the rest, and what they ask for; or nil and a message.
local function parse(args)
  local rest, own = { "--ignore-lua" }, {}
  local i = 1
  while i <= #args and args[i] ~= "--" do
    local value = args[i]:match("^%-%-timeout=(.*)$")
    if args[i] == "--timeout" then
      i = i + 1
      value = args[i] or ""
    end
    if value then
      own.timeout = tonumber(value)
      if not own.timeout or not (own.timeout > 0 and own.timeout < math.huge) then
        return nil, string.format("--timeout: expected a number of seconds above 0 (got %q)", value)
      end
    elseif args[i] == "--virtual-time" then
      own.virtual = true
    else
      own.help = own.help or args[i] == "--help" or args[i] == "-h"
      rest[#rest + 1] = args[i]
    end
    i = i + 1
  end
  table.move(args, i, #args, #rest + 1, rest)
  return rest, own
end

-- Busted's own help is the message of an error.
local function print_help()
  local cli = require("busted.modules.cli")({ standalone = false })
  cli:set_name("allua test")
  local _, message = cli:parse({ "--help" })
  local text = message:gsub("^allua test: error: ", ""):gsub("; re%-run with %-%-help for usage%.$", "")
  io.write(text:gsub("%s*$", "\n"), OWN_HELP)
end

return function(args)
  local rest, own = parse(args)
  if not rest then
    io.stderr:write("allua test: ", own, "\n")
    return 1
  end
  -- Busted leaves by os.exit; here by an error that nobody else knows.
  local leaving = {}
  local found, compatibility = pcall(require, "busted.compatibility")
  if not found then
    io.stderr:write(compatibility:find("^module 'busted") and NO_BUSTED or compatibility .. "\n")
    return 1
  end
  compatibility.exit = function(code)
    leaving.code = code
    error(leaving)
  end
  if own.help then
    print_help()
    return 0
  end
  local new_core = require("busted.core")
  package.loaded["busted.core"] = function()
    return adapt(new_core(), own.timeout, own.virtual)
  end
  _G.arg = rest
  -- Busted takes its name from the chunk that calls it.
  local call = load("local runner, options = ...; runner(options)", "@allua test")
  local runner, ok, message = require("busted.runner"), nil, nil
  local _ <close> = stall(function(e)
    on_stall(e)
  end)
  local left = run_clean("allua test", function()
    ok, message = xpcall(call, function(e)
      return e == leaving and e or debug.traceback(tostring(e), 2)
    end, runner, { standalone = false })
  end)
  if not ok and message ~= leaving then
    error(message, 0)
  end
  -- Left by the body, or the setup, of a describe or a file: the program would go on for it.
  if #left > 0 then
    io.stderr:write("allua test: after the last test:\n  ", table.concat(left, "\n  "), "\n")
    return 1
  end
  return leaving.code and leaving.code ~= 0 and 1 or 0
end
