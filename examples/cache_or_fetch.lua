-- cache_or_fetch: flow gives the first answer; the tasks that are no longer needed are cancelled.

local cache = {}

local function lookup(key)
  return allua.flow({
    cache = function(_, task)
      allua.sleep(0.01) -- a cache is a fast service, but a service
      if cache[key] then
        task:finish(cache[key], "cache")
      end
    end,
    origin = function(_, task)
      local page
      local _ <close> = setmetatable({}, {
        __close = function()
          if not page then
            print("  the origin need not answer any more")
          end
        end,
      })
      allua.sleep(0.10)
      page = "the page at " .. key
      cache[key] = page
      task:finish(page, "origin")
    end,
  })
end

for _, attempt in ipairs({ "first", "second" }) do
  print(attempt .. " time:")
  local started = allua.now()
  local page, from = lookup("/index")
  print(("  %s, from the %s (%.0f ms)"):format(page, from, (allua.now() - started) * 1000))
end
