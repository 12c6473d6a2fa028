-- The dashboard's parts, loaded by three approaches and timed, with the chart of the last; then its server,
-- asked once, and where to point a browser.
local uv = require("luv")

local folder = arg[0]:match("^(.*)/") or "."
local parts = dofile(folder .. "/cards.lua")

do
  local service <close> = parts.start_analytics(folder, "", "--fail", "0", "--slow", "0")
  local db <close> = parts.open(folder, "sqlite::memory:")
  local cards = parts.cards(db, service.fetch, 0.15, 1)

  local approaches = {
    {
      "sequential",
      function()
        local r = {}
        for _, name in ipairs({ "user", "config", "posts", "analytics" }) do
          r[name] = cards[name](r)
        end
        return r
      end,
    },
    {
      "partly parallel",
      function()
        local first = all({ user = cards.user, config = cards.config })
        local second = all({
          posts = function()
            return cards.posts(first)
          end,
          analytics = function()
            return cards.analytics(first)
          end,
        })
        return { user = first.user, config = first.config, posts = second.posts, analytics = second.analytics }
      end,
    },
    {
      "all{}",
      function()
        return all(cards, { debug = true, name = "dashboard" })
      end,
    },
  }
  for _, approach in ipairs(approaches) do
    local began = allua.now()
    local r = approach[2]()
    local took = (allua.now() - began) * 1000
    print(
      ("%-16s %4.0f ms  %s, %d posts, %d visitors"):format(
        approach[1],
        took,
        r.user.name,
        #r.posts,
        r.analytics.visitors
      )
    )
  end
end

local pipe, heard = uv.new_pipe(false), allua.promise()
local process = assert(uv.spawn(uv.exepath(), {
  args = { folder .. "/server.lua" },
  stdio = { nil, pipe, 2 },
}, function() end))
pipe:read_start(function(_, data)
  heard:resolve(data and data:match("http%S+"))
end)
local url = assert(heard:await(), "the server did not start")
local page = allua.fetch(url)
process:kill("sigterm")
process:close()
pipe:close()
print(("its server gave a page of %d bytes at %s; to see it in a browser: make demo SERVE=1"):format(#page, url))
