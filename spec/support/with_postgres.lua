-- Runs a command beside a PostgreSQL server that is its own: its URL is in ALLUA_POSTGRES.
--
--   allua spec/support/with_postgres.lua COMMAND ARGS…
package.path = "./?.lua;" .. package.path

local allua = require("allua")
local postgres = require("spec.support.postgres")
local uv = require("luv")

local code
do
  local server <close> = postgres.start()
  local ended, environment = allua.promise(), uv.os_environ()
  environment.ALLUA_POSTGRES = server.url
  local list = {}
  for name, value in pairs(environment) do
    list[#list + 1] = name .. "=" .. value
  end
  local process, problem = uv.spawn(arg[1], {
    args = table.move(arg, 2, #arg, 1, {}),
    env = list,
    stdio = { nil, 1, 2 },
  }, function(status, signal)
    ended:resolve(signal == 0 and status or 1)
  end)
  assert(process, problem)
  code = ended:await()
  process:close()
end
os.exit(code)
