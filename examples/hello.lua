-- hello: a table of functions is a dependency graph; what a task reads from `self`, it waits for.

local r = all({
  greeting = function(self)
    return self.hello .. ", " .. self.world .. "!"
  end,
  hello = function()
    allua.sleep(0.1)
    return "Hello"
  end,
  world = function()
    allua.sleep(0.1)
    return "world"
  end,
})

print(r.greeting)
