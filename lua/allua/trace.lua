-- allua.trace: what happens, as Chrome trace events in a file, or as a page for a browser.
local allua = require("allua")
local core = require("allua.core")

local trace = {}

-- What a trace shows of an error: no statement with its values, no query of a URL, no credentials.
local function shown(err, message)
  if allua.is_error(err, "DbError") then
    local place, code = tostring(err.where or ""), tostring(err.code or "")
    message = ("DbError %s: %s"):format(code, place):gsub(":? *$", "")
  end
  message = message:gsub("(%a[%w+.-]*://)[^%s/@]*@", "%1"):gsub("(%a[%w+.-]*://[^%s?#]*)[?#]%S*", "%1")
  return message
end

local function check_path(name, path)
  if path ~= nil and (type(path) ~= "string" or path == "" or path:find("\0", 1, true)) then
    error(("trace.start: expected the path of a file for %s (got %s)"):format(name, tostring(path)), 3)
  end
end

--- Begins to write: a path, or { trace = path, report = path }.
function trace.start(given)
  local options = given
  if type(given) ~= "table" then
    if given == nil then
      error("trace.start: expected the path of a file (got nil)", 2)
    end
    options = { trace = given }
  end
  for name in pairs(options) do
    if name ~= "trace" and name ~= "report" then
      local hint = core.near(tostring(name), { "trace", "report" })
      error(('trace.start: unknown option "%s"%s'):format(tostring(name), hint), 2)
    end
  end
  check_path("trace", options.trace)
  check_path("report", options.report)
  if not options.trace and not options.report then
    error('trace.start: nothing to write: give "trace", "report" or both', 2)
  end
  core.trace_start(shown, options.trace, options.report)
  core.tracing = true
end

--- Ends what start began, and gives whether there was something to end.
function trace.stop()
  core.tracing = false
  return core.trace_stop()
end

local closing = setmetatable({}, {
  __close = function()
    core.trace_end()
  end,
})

--- Calls fn(...) as an operation of the given category, with arguments to be seen.
function trace.operation(category, name, arguments, fn, ...)
  local _ <close> = core.trace_begin(name, category, arguments) and closing or nil
  return fn(...)
end

--- Calls fn(...), and shows it as a span of this name in the task's track. Gives what fn gives.
function trace.span(name, fn, ...)
  if type(name) ~= "string" then
    error(("trace.span: expected a name (got %s)"):format(type(name)), 2)
  end
  local meta = getmetatable(fn)
  if type(fn) ~= "function" and not (type(meta) == "table" and meta.__call) then
    error(("trace.span: expected a function (got %s)"):format(type(fn)), 2)
  end
  if not core.tracing then
    return fn(...)
  end
  return trace.operation("span", name, nil, fn, ...)
end

return trace
