-- A `require` through which waits pass: a module may wait while it loads, and two tasks that require it
-- load it once. Otherwise it does what Lua's own does. allua.require calls this, from C.
local _, core = ... -- not by `require`: a script may have put something else in its place
local loaded = core.loaded
local package, type, error, ipairs, tostring = loaded.package, type, error, ipairs, tostring
local concat, is_within, task_of = table.concat, core.within, core.task

local loading = {} -- name → { task, loaded }: under way, while that is closed
local wants = {} -- task → the name that it waits for

local function find(name)
  local searchers = package.searchers
  if type(searchers) ~= "table" then
    error("'package.searchers' must be a table", 4)
  end
  local messages = {}
  for _, searcher in ipairs(searchers) do
    local loader, data = searcher(name)
    if type(loader) == "function" then
      return loader, data
    elseif type(loader) == "string" then
      messages[#messages + 1] = loader:find("^\n") and loader or "\n\t" .. loader
    end
  end
  error("module '" .. name .. "' not found:" .. concat(messages), 4)
end

-- Whether the module's loading waits for the running task: straight, or through other modules.
local function is_cycle(entry)
  while entry and not entry.loaded:is_open() do
    if is_within(entry.task) then
      return true
    end
    entry = loading[wants[entry.task]]
  end
  return false
end

local function load(name)
  local loader, data = find(name)
  local gate <close> = core.gate("a module that is being loaded")
  loading[name] = { task = task_of(), loaded = gate }
  local value = loader(name, data)
  loading[name] = nil
  if value ~= nil then
    loaded[name] = value
  elseif loaded[name] == nil then
    loaded[name] = true
  end
  gate:open()
  return loaded[name], data
end

local function require(name)
  if type(name) == "number" then
    name = tostring(name)
  elseif type(name) ~= "string" then
    error("bad argument #1 to 'require' (string expected, got " .. (name == nil and "no value" or type(name)) .. ")", 3)
  end
  local value = loaded[name]
  if value then
    return value
  end
  local task = task_of() or "outside"
  while true do
    wants[task] = nil
    local entry = loading[name]
    if not entry or entry.loaded:is_open() then
      return load(name)
    elseif is_cycle(entry) then
      error("module '" .. name .. "' is required while it loads", 3)
    end
    wants[task] = name
    entry.loaded:wait()
    value = loaded[name]
    if value then
      wants[task] = nil
      return value
    end
  end
end

return require
