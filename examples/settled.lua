-- settled: all_settled lets every task end, and says of each how it went and where a failure came from.

local results = allua.all_settled({
  stock = function()
    allua.sleep(0.02)
    return 12
  end,
  price = function()
    allua.sleep(0.01)
    error("the price service is down", 0)
  end,
  label = function(self) -- fails as well: it reads a task that failed
    return ("%.2f EUR"):format(self.price)
  end,
  shelf = function(self) -- reads the same task, and has an answer of its own
    local known, price = pcall(function()
      return self.price
    end)
    return ("%d left, %s"):format(self.stock, known and price or "ask for the price")
  end,
})

for _, name in ipairs({ "stock", "price", "label", "shelf" }) do
  local result = results[name]
  if result.status == "fulfilled" then
    print(("%-6s fulfilled  %s"):format(name, result.value))
  else
    local from = result.from and (" (from %s)"):format(result.from) or ""
    print(("%-6s rejected   %s%s"):format(name, result.reason, from))
  end
end
