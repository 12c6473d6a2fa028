-- allua.fetch and allua.serve, small, talking to each other: run once for each allocation that can fail.
-- It asserts nothing about how a run ends: without memory anything may raise. It only has to end.
local allua = require("allua")
local fetch, serve = allua.fetch, allua.serve

local name = os.tmpname()

local function main()
  local server = serve({
    routes = {
      ["GET /hello"] = function()
        return "hello"
      end,
      ["POST /echo/:id"] = function(event)
        return { id = event.params.id, query = event.query, data = event:json() }
      end,
      ["GET /stream"] = function(event)
        return event:stream(function(write)
          for _ = 1, 3 do
            write(("x"):rep(1000))
            allua.sleep(0)
          end
        end)
      end,
      ["POST /form"] = function(event)
        return event:form()
      end,
      ["GET /slow"] = function()
        allua.sleep(60)
      end,
      ["GET /missing"] = function()
        allua.http_error(404, "nothing here", { at = "missing" })
      end,
      ["GET /away"] = function(event)
        return event:redirect("/hello")
      end,
    },
  })
  local closing <close> = setmetatable({}, { -- luacheck: ignore
    __close = function()
      allua.shield(server.close, server, 0)
    end,
  })
  -- A reply may be lost for want of memory: whoever waits for it must not do so for long.
  local api = fetch.with({ base_url = server.url, timeout = 0.3 })
  api("/hello")
  api("/echo/7", {
    method = "POST",
    query = { a = { 1, 2 } },
    headers = { ["X-A"] = { "1", "2" } },
    body = { list = {}, nothing = allua.null },
  })
  pcall(api, "/missing")
  pcall(api, "/slow", { timeout = 0.001 })
  api("/away")
  local response <close> = api.raw("/stream")
  for chunk in response:chunks() do
    assert(#chunk > 0)
  end
  api("/stream", { to = name })
  allua.all({
    function()
      return api("/hello")
    end,
    function()
      return api("/form", { method = "POST", form = { field = "x", file = { data = "y" } } })
    end,
  })
end

collectgarbage()
-- The modules are loaded: faults.c counts from here on.
from_here() -- luacheck: ignore
local ok, problem = pcall(main)
os.remove(name)
assert(ok, problem)
