-- serve: the server of the HTTP benchmark with allua.
local function value(v)
  return function()
    return v
  end
end

local server = allua.serve({
  limits = { connections = 2000 },
  routes = {
    ["GET /plain"] = function()
      return { message = "Hello, World!" }
    end,
    ["GET /dashboard"] = function()
      return all({
        config = value("dark"),
        user = value(7),
        profile = function(self)
          return "profile " .. self.user
        end,
        preferences = function(self)
          return "preferences " .. self.user
        end,
        dashboard = function(self)
          return self.profile .. ", " .. self.preferences .. ", " .. self.config
        end,
      })
    end,
  },
})
print(server.port)
io.stdout:flush()
