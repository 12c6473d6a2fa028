-- allua.retry(fn, options): call fn until it succeeds, with exponential backoff and full jitter.
local allua = require("allua")
local core = require("allua.core")

local checks = {
  attempts = {
    "an integer, 1 or more",
    function(value)
      return math.type(value) == "integer" and value >= 1 or value == math.huge
    end,
  },
  delay = {
    "a number of seconds, 0 or more",
    function(value)
      return type(value) == "number" and value >= 0 and value < math.huge
    end,
  },
  factor = {
    "a number, 1 or more",
    function(value)
      return type(value) == "number" and value >= 1
    end,
  },
  max_delay = {
    "a number of seconds, 0 or more",
    function(value)
      return type(value) == "number" and value >= 0
    end,
  },
  jitter = {
    "a boolean",
    function(value)
      return type(value) == "boolean"
    end,
  },
  when = {
    "a function",
    function(value)
      local meta = getmetatable(value)
      return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
    end,
  },
}

local names = { "attempts", "delay", "factor", "max_delay", "jitter", "when" }

local function check(options)
  if type(options) ~= "table" then
    error("retry: expected a table of options (got " .. type(options) .. ")", 3)
  end
  for name, value in pairs(options) do
    local rule = checks[name]
    if not rule then
      local hint = type(name) == "string" and core.near(name, names) or ""
      error(('retry: unknown option "%s"%s'):format(tostring(name), hint), 3)
    elseif not rule[2](value) then
      local got = type(value) == "number" and tostring(value) or type(value)
      error(('retry: option "%s" must be %s (got %s)'):format(name, rule[1], got), 3)
    end
  end
end

return function(fn, options)
  if not checks.when[2](fn) then
    error("retry: expected a function (got " .. type(fn) .. ")", 2)
  end
  options = options or {}
  check(options)
  local attempts = options.attempts or 3
  local delay, factor = options.delay or 0.1, options.factor or 2
  local longest, jitter = options.max_delay or 30, options.jitter ~= false
  local when = options.when
  local attempt = 1
  while true do
    local results = table.pack(pcall(fn, attempt))
    if results[1] then
      return table.unpack(results, 2, results.n)
    end
    local err = results[2]
    if attempt >= attempts or allua.is_error(err, "CancelledError") or when and not when(err, attempt) then
      error(err, 0)
    end
    local pause = math.min(delay * factor ^ (attempt - 1), longest)
    allua.sleep(jitter and pause * math.random() or pause)
    attempt = attempt + 1
  end
end
