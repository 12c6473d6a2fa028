-- What the dashboard is made of: its database, the service of its analytics, and its cards as tasks.
local uv = require("luv")

local parts = {}

--- The service beside this file, or the one at `url` where that is not "": { fetch }, ended by <close>.
function parts.start_analytics(folder, url, ...)
  local process, pid, input
  if url == "" then
    local pipe, heard = uv.new_pipe(false), allua.promise()
    input = uv.new_pipe(false)
    process, pid = uv.spawn(uv.exepath(), {
      args = { folder .. "/analytics.lua", "--attached", "1", ... },
      stdio = { input, pipe, 2 },
    }, function() end)
    assert(process, pid)
    process:unref()
    pipe:read_start(function(_, data)
      heard:resolve(data and data:match("http%S+"))
    end)
    url = assert(heard:await(), "the analytics did not start")
    pipe:close()
  end
  return setmetatable({ fetch = allua.fetch.with({ base_url = url, timeout = 5 }) }, {
    __close = function()
      if process then
        process:kill("sigterm")
        process:close()
        input:close()
      end
    end,
  })
end

--- The database, with its tables and what is in them.
function parts.open(folder, url)
  local db = allua.db.open(url)
  db:migrate(folder .. "/migrations/" .. (url:match("^sqlite:") and "sqlite" or "postgres"))
  return db
end

--- The tasks. `latency`: seconds that a query takes longer, as over a network.
function parts.cards(db, fetch, latency, user_id)
  local function slowly(value, times)
    allua.sleep(latency * (times or 1))
    return value
  end
  return {
    user = function()
      return slowly(db.user:find_unique({ where = { id = user_id }, select = { "id", "name", "email" } }))
    end,
    config = function()
      return slowly(db.config:find_first({ where = { user_id = user_id } }), 2) -- kept far away
    end,
    posts = function(self)
      return slowly(db.post:find_many({
        where = { author_id = self.user.id },
        order_by = { created_at = "desc" },
        take = 10,
      }))
    end,
    analytics = function(self)
      return fetch("/analytics/" .. self.user.id)
    end,
  }
end

return parts
