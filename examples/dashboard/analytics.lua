-- The analytics of the dashboard: a service of its own, which is sometimes slow and sometimes fails.
--
--   allua examples/dashboard/analytics.lua [--fail EVERY] [--slow EVERY] [--port PORT] [--attached 1]
--
-- Every EVERY-th request fails (3 unless given, 0: none), or takes a second longer (4). Attached, it ends when its
-- standard input does: whoever started it has ended, however that came.
local uv = require("luv")

local options = { fail = 3, slow = 4, port = 0, attached = 0 }
for i = 1, #arg, 2 do
  local name = arg[i]:match("^%-%-(%a+)$")
  if not options[name or ""] or not math.tointeger(arg[i + 1]) then
    io.stderr:write("usage: analytics.lua [--fail EVERY] [--slow EVERY] [--port PORT] [--attached 1]\n")
    os.exit(2)
  end
  options[name] = math.tointeger(arg[i + 1])
end

local asked = 0

local function is_turn(every)
  return every > 0 and asked % every == 0
end

local server = allua.serve({
  port = options.port,
  routes = {
    ["GET /analytics/:user_id"] = function(event)
      asked = asked + 1
      local fails = is_turn(options.fail)
      allua.sleep(is_turn(options.slow) and 1.25 or 0.25)
      if fails then
        allua.http_error(503, "the analytics are being counted anew")
      end
      local id = math.tointeger(event.params.user_id) or 0
      local days = {}
      for day = 1, 14 do
        days[day] = 40 + (id * 37 + day * day * 11 + day * 29) % 90
      end
      return { user_id = id, days = days, visitors = 1280 + id * 7 }
    end,
  },
})
print(server.url)
io.stdout:flush()

if options.attached == 1 then
  local input, ended = uv.new_pipe(false), allua.promise()
  input:open(0)
  input:read_start(function(_, data)
    if not data then
      ended:resolve()
    end
  end)
  ended:await()
  server:close(0)
end
