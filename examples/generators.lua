-- generators: a coroutine of your own may wait; the task is suspended, the consumer sees only yields.

-- Pages of some remote list: each takes a while to come.
local function fetch_page(number)
  allua.sleep(0.01)
  local page = {}
  for i = 1, 3 do
    page[i] = (number - 1) * 3 + i
  end
  return number <= 3 and page or {}
end

-- An ordinary generator over all their items. It waits inside, and its consumer need not know.
local function items(limit)
  return coroutine.wrap(function()
    for number = 1, math.huge do
      local page = fetch_page(number)
      for _, item in ipairs(page) do
        if item <= limit then
          coroutine.yield(item)
        end
      end
      if #page == 0 then
        return
      end
    end
  end)
end

local r = all({
  limit = function()
    allua.sleep(0.02)
    return 7
  end,
  list = function(self)
    local list = {}
    for item in items(self.limit) do -- a generic `for` over a generator that waits
      list[#list + 1] = item
    end
    return table.concat(list, " ")
  end,
  squares = function(self)
    local list = {}
    local squared = coroutine.wrap(function() -- two deep: a generator that consumes a generator
      for item in items(self.limit) do -- self is read, and waited for, inside the generator
        coroutine.yield(item * item)
      end
    end)
    for square in squared do
      list[#list + 1] = square
    end
    return table.concat(list, " ")
  end,
})

print("list:   ", r.list)
print("squares:", r.squares)

-- each{} is a generator too: it gives the tasks' values as they settle.
for name, value in
  allua.each({
    slow = function()
      allua.sleep(0.06)
      return "third"
    end,
    quick = function()
      return "first"
    end,
    middling = function()
      allua.sleep(0.03)
      return "second"
    end,
  })
do
  print(value .. ":", name)
end
