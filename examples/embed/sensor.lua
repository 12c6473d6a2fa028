-- sensor.lua: run by sensor.c, which gives it sensor.read(name), a function that waits.

-- luacheck: read_globals sensor

local began = allua.now()
local house = all({
  kitchen = function()
    return sensor.read("kitchen")
  end,
  cellar = function()
    return sensor.read("cellar")
  end,
  attic = function()
    return sensor.read("attic")
  end,
  mean = function(self)
    return (self.kitchen + self.cellar + self.attic) / 3
  end,
})
for _, name in ipairs({ "kitchen", "cellar", "attic", "mean" }) do
  print(("%-8s %.2f degrees"):format(name, house[name]))
end
print("three at once:", allua.now() - began < 0.17) -- one after another they take 0.18 s

-- A reading that nobody waits for any more is stopped.
local in_time, problem = pcall(allua.timeout, 0.01, sensor.read, "attic")
print("too late:", in_time, allua.is_error(problem, "TimeoutError"))

local known, why = pcall(sensor.read, "garage")
print("unknown:", known, (why:gsub("^.-: ", "")))
