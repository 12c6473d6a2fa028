-- Names that are too many to be remembered by value, met again, and nearly so.
local allua = require("allua")
local tasks = {
  x = function(self)
    return self[-4099]
  end,
}
for i = 1, 4099 do
  tasks[-i] = tasks.x
end
tasks[-4099] = function()
  return "value"
end
for _ = 1, 3 do
  assert(allua.all(tasks)[-1] == "value")
end
tasks.y, tasks.x = tasks.x, nil
assert(allua.all(tasks).y == "value")
