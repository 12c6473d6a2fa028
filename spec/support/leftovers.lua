-- After each spec nothing is left behind: no task, group, promise, coroutine, timer or handle, and
-- the memory is back where it was.
--
--   require("spec.support.leftovers")()
--
-- at the top of a spec file checks each spec of that file; the check's own failure names the spec.

local allua = require("allua")
local busted = require("busted")
local core = require("allua.core")

-- What busted itself keeps of a spec (its times, its report) is some hundred bytes, and a spec may be
-- the first to load a module or to intern its strings. A group of one task costs more than 100 bytes,
-- so that a spec which makes a thousand groups and leaks one word of each is still found.
local tolerance = 96 * 1024

-- Lua's table of strings doubles at one stroke when it is full, whatever spec makes the string too many; and may stay
-- twice that where a spec made many for a while. That is no leak, and comes once for each size: 8 bytes for each of
-- 8,192 strings, of 16,384, ….
local doublings = { 262144, 131072, 65536 }

local function without_doublings(bytes)
  local left, others = bytes, {}
  for _, size in ipairs(doublings) do
    if left > tolerance and left >= size then
      left = left - size
    else
      others[#others + 1] = size
    end
  end
  if left > tolerance then
    return bytes
  end
  doublings = others
  return left
end

-- The bytes in use when nothing more can be collected. One collection does not do: what a finalizer
-- let go of is left to the next one, and Lua's table of strings halves only once in each.
local function settled_bytes()
  local bytes = math.huge
  while true do
    collectgarbage()
    local now = collectgarbage("count") * 1024
    if now >= bytes then
      return now
    end
    bytes = now
  end
end

local function census()
  -- A handle counts until its close callback has come: one turn of the loop.
  allua.sleep(0)
  core.collect()
  local bytes = settled_bytes()
  core.collect()
  local found = core.census()
  found.bytes = bytes
  return found
end

local function compare(before, after)
  local left = {}
  for kind, count in pairs(after) do
    local more, allowed = count - before[kind], 0
    if kind == "bytes" then
      allowed = tolerance
      more = more > allowed and without_doublings(more) or more
    end
    if more > allowed then
      left[#left + 1] = ("%d %s"):format(more, kind)
    end
  end
  table.sort(left)
  return left
end

return function()
  local before, spec

  busted.before_each(function()
    before = census()
  end)

  busted.subscribe({ "test", "start" }, function(element)
    spec = element.name
    return nil, true
  end)

  busted.after_each(function()
    local left = compare(before, census())
    if #left > 0 then
      error(('left behind by "%s": %s'):format(spec, table.concat(left, ", ")), 0)
    end
  end)
end
