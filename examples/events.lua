-- Server-sent events to many clients: each connection is a task, and ends when its client leaves.
--   allua examples/events.lua 8080        then: curl -N http://127.0.0.1:8080/events
local port = math.tointeger(arg[1] or 0)
if not port or arg[2] then
  io.stderr:write("usage: events.lua [PORT]\n")
  os.exit(2)
end

local clients = 0

local server = allua.serve({
  port = port,
  routes = {
    ["GET /events"] = function(event)
      return event:events(function(send)
        clients = clients + 1
        local _ <close> = setmetatable({}, {
          __close = function()
            clients = clients - 1
          end,
        })
        for n = 1, math.huge do
          send({ n = n, clients = clients }, "tick")
          allua.sleep(1)
        end
      end)
    end,
  },
})
print(server.url .. "/events")
