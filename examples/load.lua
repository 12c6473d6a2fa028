-- load: a dashboard's resources over HTTP, from a server of this program's own whose replies take as long as
-- real ones: one after another, partly in parallel, and by all{}; then the chart of the last.
local server = allua.serve({
  routes = {
    ["GET /api/config"] = function()
      allua.sleep(0.15)
      return { theme = "dark" }
    end,
    ["GET /api/user"] = function()
      allua.sleep(0.05)
      return { id = 7, name = "Ada" }
    end,
    ["GET /api/profile/:id"] = function(event)
      allua.sleep(0.10)
      return { id = math.tointeger(event.params.id), title = "Countess of Lovelace" }
    end,
    ["GET /api/preferences/:id"] = function()
      allua.sleep(0.05)
      return { language = "en" }
    end,
    ["GET /api/dashboard"] = function(event)
      allua.sleep(0.05)
      return { cards = 4, profile = event.query.profile_id, theme = event.query.theme }
    end,
  },
})
local fetch = allua.fetch.with({ base_url = server.url, timeout = 5, retry = 2 })

-- Easy to read, and every request waits for all that stand above it.
local function sequential()
  local config = fetch("/api/config")
  local user = fetch("/api/user")
  local profile = fetch("/api/profile/" .. user.id)
  fetch("/api/preferences/" .. user.id)
  return fetch("/api/dashboard", { query = { profile_id = profile.id, theme = config.theme } })
end

-- Two stages by hand: the profile waits for the slow config, which it never needed.
local function partly_parallel()
  local first = all({
    config = function()
      return fetch("/api/config")
    end,
    user = function()
      return fetch("/api/user")
    end,
  })
  local second = all({
    profile = function()
      return fetch("/api/profile/" .. first.user.id)
    end,
    preferences = function()
      return fetch("/api/preferences/" .. first.user.id)
    end,
  })
  return fetch("/api/dashboard", { query = { profile_id = second.profile.id, theme = first.config.theme } })
end

-- Each task says what it needs, and starts on it as soon as that is there.
local function whole_graph(options)
  return all({
    config = function()
      return fetch("/api/config")
    end,
    user = function()
      return fetch("/api/user")
    end,
    profile = function(self)
      return fetch("/api/profile/" .. self.user.id)
    end,
    preferences = function(self)
      return fetch("/api/preferences/" .. self.user.id)
    end,
    dashboard = function(self)
      return fetch("/api/dashboard", { query = { profile_id = self.profile.id, theme = self.config.theme } })
    end,
  }, options).dashboard
end

local slowest
for _, approach in ipairs({
  { "sequential", sequential },
  { "partly parallel", partly_parallel },
  { "all{}", whole_graph },
}) do
  local name, load = table.unpack(approach)
  local started = allua.now()
  local dashboard = load()
  local took = allua.now() - started
  slowest = slowest or took
  local bar = ("#"):rep(math.floor(took / slowest * 24 + 0.5))
  print(("%-16s %4.0f ms  %-24s  profile %s, %s"):format(name, took * 1000, bar, dashboard.profile, dashboard.theme))
end

whole_graph({ debug = true, name = "dashboard" })
server:close()
