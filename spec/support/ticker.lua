-- A ticker beside something long: whether that holds up the loop.
local allua = require("allua")

local ticker = {}

-- The most that a tick of 10 ms is late by until fn is done, and how long that took, in seconds.
local function lateness(fn)
  local worst, over, began = 0, false, allua.now()
  allua.all({
    work = function()
      fn()
      over = true
    end,
    ticks = function()
      while not over do
        local due = allua.now() + 0.01
        allua.sleep(0.01)
        worst = math.max(worst, allua.now() - due)
      end
    end,
  })
  return worst, allua.now() - began
end

-- Raises if fn holds up the loop: then a tick is late by all of its time, however fast or loaded the machine is. Beside
-- what does not, one comes late only when the machine has other things to do, which is not so time after time.
function ticker.check(fn)
  local said
  for _ = 1, 10 do
    local without = lateness(function()
      allua.sleep(0.1)
    end)
    local with, took = lateness(fn)
    if with < without + 0.005 or with < took / 4 then
      return
    end
    said = ("a tick was late by %.3f s beside %.3f s of work, by %.3f s without"):format(with, took, without)
  end
  error(said, 2)
end

return ticker
