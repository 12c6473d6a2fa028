-- The Lua half's part of module "allua": what is not needed at once is loaded when it is first used.
local lazy = {
  retry = true,
  promisify = true,
  waterfall = true,
  require = true,
}

return function(allua, core)
  setmetatable(allua, {
    __index = function(self, name)
      if lazy[name] then
        local value = core.load("allua." .. name)
        rawset(self, name, value)
        return value
      end
    end,
  })
end
