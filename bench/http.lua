-- http: measures allua.serve and allua.fetch against their peers, prints tables and writes bench/HTTP.md.
--
--   allua bench/http.lua [--rounds N] [--seconds N] [--only TEXT] [--build DIR]
--
-- Servers: each is started anew in each round, pinned to one core, and asked by wrk, pinned to another, with 64
-- connections. Its processor time is what the system counted for its process. Clients: each is a process of
-- its own that gets 20,000 replies from nginx, 64 at a time. In each round all take their turn. Bare C is what the
-- libraries below cost alone: libuv and the parser for a server, libuv and libcurl for a client. What differs by less
-- than a fifth is not told apart: "(close)". With --only (workloads whose name holds the text) nothing is written.
local uv = require("luv")

local bench = arg[0]:match("^(.*)/") or "."
package.path = bench .. "/../?.lua;" .. package.path
local free_port = require("spec.support.port")
local scratch = require("spec.support.scratch")
local process = dofile(bench .. "/process.lua")
local compare = dofile(bench .. "/compare.lua")
local settings = process.options({ rounds = "5", seconds = "3", only = "", build = bench .. "/../build" })
local rounds, seconds = math.tointeger(settings.rounds), math.tointeger(settings.seconds)
local build, peers = settings.build, settings.build .. "/peers"
local bun = peers .. "/node_modules/.bin/bun"

local function exists(program)
  return process.capture("sh", "-c", 'command -v "$0"', program) ~= nil
end

local folder <close> = scratch.folder() -- gone at Ctrl-C, too

local function nginx()
  local port = free_port()
  local text = process.read(bench .. "/http/nginx.conf"):gsub("FOLDER", folder.path):gsub("PORT", tostring(port))
  folder:write("nginx.conf", text)
  return { "nginx", "-p", folder.path, "-e", folder:at("error.log"), "-c", folder:at("nginx.conf") }, port
end

local Server = {}

function Server:__close()
  allua.shield(function()
    self.handle:kill("sigkill")
    self.exited:await()
    self.handle:close()
    self.pipe:close()
  end)
end

-- Starts a server pinned to the first core. A Lua program of ours, or one that prints its port.
local function start(words, port)
  local server = setmetatable({ pipe = uv.new_pipe(false), exited = allua.promise(), port = port }, Server)
  local args = { "-c", "0", table.unpack(words) }
  server.handle, server.pid = uv.spawn("taskset", { args = args, stdio = { nil, server.pipe, 2 } }, function()
    server.exited:resolve()
  end)
  assert(server.handle, server.pid)
  local text, heard = "", allua.promise()
  server.pipe:read_start(function(_, data)
    text = text .. (data or "")
    heard:resolve()
  end)
  local ok, problem = pcall(function()
    if port then
      allua.retry(function()
        assert(process.capture("sh", "-c", ("curl -s -o %s http://127.0.0.1:%d/static"):format(folder:at("out"), port)))
      end, { attempts = 50, delay = 0.05, jitter = false, factor = 1 })
    else
      allua.timeout(20, heard.await, heard)
      server.port = math.tointeger(text:match("%d+"))
    end
  end)
  if not ok then
    Server.__close(server)
    error(problem, 0)
  end
  return server
end

local function wrk(port, path, duration)
  local url = ("http://127.0.0.1:%d%s"):format(port, path)
  local text, why = process.capture("taskset", "-c", "1", "wrk", "-t1", "-c64", "-d" .. duration, url)
  assert(text, why)
  assert(not text:find("Non%-2xx"), text)
  return tonumber(text:match("(%d+) requests in")), tonumber(text:match("Requests/sec:%s*([%d.]+)"))
end

-- Microseconds of processor time a request, and requests a second.
local function measure_server(words, port, path)
  local server <close> = start(words, port)
  wrk(server.port, path, 1)
  local before = process.processor(server.pid)
  local count, rate = wrk(server.port, path, seconds)
  return (process.processor(server.pid) - before) / count * 1e6, rate
end

-- Seconds, and microseconds of processor time a request.
local function measure_client(words, url)
  local before = uv.hrtime()
  local script = 'taskset -c 1 "$0" "$@" || exit 1; times'
  local text, why = process.capture("sh", "-c", script, table.unpack(table.move({ url }, 1, 1, #words + 1, words)))
  assert(text, why)
  local took = (uv.hrtime() - before) / 1e9
  local m1, s1, m2, s2 = text:match("(%d+)m([%d.]+)s (%d+)m([%d.]+)s%s*$")
  return (m1 * 60 + s1 + m2 * 60 + s2) / 20000 * 1e6, 20000 / took
end

local servers = {
  { "allua", { build .. "/allua", bench .. "/http/serve.lua" } },
  { "bare C", { build .. "/bench/http" }, only = "/plain" },
  { "node", { "node", bench .. "/http/server.mjs", peers } },
  { "bun", { bun, bench .. "/http/server.mjs", peers } },
  { "nginx with Lua" },
}
local clients = {
  { "allua", { build .. "/allua", bench .. "/http/fetch.lua" } },
  { "bare C", { build .. "/bench/get" } },
  { "node", { "node", bench .. "/http/fetch.mjs" } },
  { "bun", { bun, bench .. "/http/fetch.mjs" } },
}

local page = compare.page({ rounds = rounds, unit = "request" })

-- Says whether allua reached what it was to reach: a ratio of processor times, or of rates, with a peer's.
local function judge(results, goals)
  page:say("")
  for _, goal in ipairs(goals) do
    local peer = results[goal.peer] -- its figures ÷ allua's
    if peer then
      local reached = goal.rate and 1 / peer.rate_ratio or goal.most and 1 / peer.cost_ratio or peer.cost_ratio
      local met = reached >= (goal.least or reached) and reached <= (goal.most or reached)
      local bound, limit = goal.most and "at most" or "at least", goal.most or goal.least
      local verdict = (met and "met" or "missed") .. (math.abs(reached / limit - 1) < 0.2 and " (close)" or "")
      page:say(("- %s: %s %.2f, reached %.2f: %s"):format(goal.text, bound, limit, reached, verdict))
    end
  end
end

local function wanted(title)
  return title:find(settings.only, 1, true)
end

assert(exists("wrk"), "wrk is needed: make bench-peers installs it")
for _, workload in ipairs({
  {
    "serve: a plain reply of 27 bytes",
    "/plain",
    { { text = "processor time of allua ÷ that of bare C", peer = "bare C", most = 1.15 } },
  },
  {
    "serve: the dashboard of five tasks",
    "/dashboard",
    {
      { text = "processor time of node ÷ that of allua", peer = "node", least = 2.5 },
      { text = "processor time of bun ÷ that of allua", peer = "bun", least = 1.3 },
    },
  },
}) do
  if wanted(workload[1]) then
    local names, by_name = {}, {}
    for _, server in ipairs(servers) do
      if not server.only or server.only == workload[2] then
        names[#names + 1], by_name[server[1]] = server[1], server
      end
    end
    local results = page:compare(workload[1], names, function(name)
      local words, port = by_name[name][2], nil
      if not words then
        words, port = nginx()
      end
      return measure_server(words, port, workload[2])
    end)
    judge(results, workload[3])
  end
end

local fetching = "fetch: 20,000 GETs from nginx, 64 at a time"
if wanted(fetching) then
  local server <close> = start(nginx())
  local names, by_name = {}, {}
  for _, client in ipairs(clients) do
    names[#names + 1], by_name[client[1]] = client[1], client
  end
  local results = page:compare(fetching, names, function(name)
    local words = table.move(by_name[name][2], 1, #by_name[name][2], 1, {})
    return measure_client(words, ("http://127.0.0.1:%d/static"):format(server.port))
  end)
  judge(results, {
    { text = "rate of allua ÷ that of bun", peer = "bun", least = 1, rate = true },
    { text = "rate of allua ÷ that of node", peer = "node", least = 4, rate = true },
  })
end

if settings.only == "" then
  page:write(bench .. "/HTTP.md", {
    "# allua.serve and allua.fetch against their peers",
    "",
    "Written by `make bench-http`, which says how it measures at the top of `bench/http.lua`.",
    "",
    compare.machine(rounds, (" of %d seconds"):format(seconds))
      .. '\nWhat differs by less than a fifth is not told apart: "(close)".',
    ("node %s, bun %s, %s."):format(
      process.capture("node", "--version") or "none",
      process.capture(bun, "--version") or "none",
      process.capture("nginx", "-v") or "no nginx"
    ),
  })
end
