local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
require("spec.support.leftovers")()

local race, raised = allua.race, errors.raised

local function after(seconds, value)
  return function()
    allua.sleep(seconds)
    return value
  end
end

describe("race", function()
  it("gives the value and the name of the first task to settle", function()
    assert.same({ "fast", "b" }, { race({ a = after(60, "slow"), b = after(0.01, "fast") }) })
    assert.same({ "fast", 2 }, { race({ after(60, "slow"), after(0.01, "fast") }) })
  end)

  it("gives exactly one value, and nil and false are values", function()
    assert.same({ n = 2, nil, "a" }, table.pack(race({ a = function() end })))
    assert.same({ n = 2, false, "a" }, table.pack(race({ a = after(0, false) })))
    local function two()
      return 1, 2
    end
    assert.same({ n = 2, 1, "a" }, table.pack(race({ a = two })))
  end)

  it("gives nothing where there are no tasks", function()
    assert.equal(0, select("#", race({})))
  end)

  it("raises the error of the first task to settle, as it is", function()
    local failure = {}
    local got = raised(race, {
      a = after(60, "slow"),
      b = function()
        allua.sleep(0.01)
        error(failure)
      end,
    })
    assert.equal(failure, got)
  end)

  it("is won by the first in start order where several are done at once", function()
    assert.same({ "x", 1 }, { race({ after(0, "x"), b = after(0, "y") }) })
    local function now(_, task)
      return task.name
    end
    assert.same({ "a", "a" }, { race({ c = now, b = now, a = now }) })
  end)

  it("cancels the rest, and gives the value when they have ended", function()
    local caught, ended
    local value = race({
      loser = function()
        caught = raised(allua.sleep, 60)
        allua.shield(allua.sleep, 0.02)
        ended = true
      end,
      winner = after(0.01, "won"),
    })
    assert.equal("won", value)
    assert.is_true(ended)
    assert.is_true(allua.is_error(caught, "CancelledError"))
    assert.equal("loser", caught.task)
  end)

  it("aborts the signal of the losers", function()
    local signal
    race({
      loser = function(_, task)
        signal = task.signal
        allua.sleep(60)
      end,
      winner = after(0.01),
    })
    assert.is_true(signal.aborted)
  end)

  it("keeps its winner, whatever the losers return or finish with", function()
    local value, name = race({
      loser = function()
        pcall(allua.sleep, 60)
        return "not me"
      end,
      winner = after(0.01, "won"),
    })
    assert.same({ "won", "winner" }, { value, name })
  end)

  it("is won by a task before those that read it", function()
    local value, name = race({
      base = after(0.01, "base"),
      reader = function(self)
        return self.base .. "!"
      end,
    })
    assert.same({ "base", "base" }, { value, name })
  end)

  it("leaves a promise that lost as a race found it, where it was made by hand", function()
    local promise = allua.promise()
    assert.equal("won", race({ promise, after(0.01, "won") }))
    assert.is_true(promise:resolve("still mine"))
    assert.equal("still mine", promise:await())
  end)

  it("reports a loser's own error as a warning", function()
    local result = host.eval([[
      io.write((allua.race({
        loser = function() pcall(allua.sleep, 60) error("sore loser", 0) end,
        quiet = function() allua.sleep(60) end,
        winner = function() allua.yield() return "won" end,
      })))
    ]])
    assert.equal("won", result.out)
    assert.matches("sore loser", result.err, 1, true)
    assert.equal(0, result.code)
  end)
end)
