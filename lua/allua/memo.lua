-- Tables that remember so much, and no more.
local memo = {}

--- A table for so many keys: before one more is added all are forgotten.
function memo.new(most)
  local count = 0
  return setmetatable({}, {
    __newindex = function(self, key, value)
      if count == most then
        for old in pairs(self) do
          self[old] = nil
        end
        count = 0
      end
      count = count + 1
      rawset(self, key, value)
    end,
  })
end

return memo
