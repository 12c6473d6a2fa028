-- The Lua half's part of module "allua": what is not needed at once is loaded when it is first used.
local lazy = {
  retry = true,
  promisify = true,
  waterfall = true,
  serve = true,
  http_error = "serve",
  fetch = true,
  db = true,
  trace = true,
}

return function(allua, core)
  allua.null = core.null
  setmetatable(allua, {
    __index = function(self, name)
      if lazy[name] then
        local from = lazy[name]
        local value = core.load("allua." .. (from == true and name or from))
        value = from == true and value or value[name]
        rawset(self, name, value)
        return value
      end
    end,
  })
end
