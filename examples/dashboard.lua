-- dashboard: one graph of five requests, run one after another, partly in parallel, and by all{}.

-- The requests: each takes as long as the service behind it would.
local function fetch_config()
  allua.sleep(0.15)
  return { theme = "dark" }
end

local function fetch_user()
  allua.sleep(0.05)
  return { id = 7, name = "Ada" }
end

local function fetch_profile(user)
  allua.sleep(0.10)
  return { id = user.id, title = "Countess of Lovelace" }
end

local function fetch_preferences(user)
  allua.sleep(0.05)
  return { id = user.id, language = "en" }
end

local function render(config, profile, preferences)
  allua.sleep(0.02)
  return ("%s (%s, %s)"):format(profile.title, preferences.language, config.theme)
end

-- Easy to read, and every request waits for all that stand above it.
local function sequential()
  local config = fetch_config()
  local user = fetch_user()
  local profile = fetch_profile(user)
  local preferences = fetch_preferences(user)
  return render(config, profile, preferences)
end

-- Two stages by hand: the profile waits for the slow config, which it never needed.
local function partly_parallel()
  local first = all({ config = fetch_config, user = fetch_user })
  local second = all({
    profile = function()
      return fetch_profile(first.user)
    end,
    preferences = function()
      return fetch_preferences(first.user)
    end,
  })
  return render(first.config, second.profile, second.preferences)
end

-- Each task says what it needs, and starts on it as soon as that is there.
local function whole_graph()
  return all({
    config = fetch_config,
    user = fetch_user,
    profile = function(self)
      return fetch_profile(self.user)
    end,
    preferences = function(self)
      return fetch_preferences(self.user)
    end,
    dashboard = function(self)
      return render(self.config, self.profile, self.preferences)
    end,
  }).dashboard
end

local slowest
for _, approach in ipairs({
  { "sequential", sequential },
  { "partly parallel", partly_parallel },
  { "all{}", whole_graph },
}) do
  local name, build = table.unpack(approach)
  local started = allua.now()
  local dashboard = build()
  local took = allua.now() - started
  slowest = slowest or took
  local bar = ("#"):rep(math.floor(took / slowest * 24 + 0.5))
  print(("%-16s %4.0f ms  %-24s  %s"):format(name, took * 1000, bar, dashboard))
end
