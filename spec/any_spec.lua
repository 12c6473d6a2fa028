local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
require("spec.support.leftovers")()

local any, raised = allua.any, errors.raised

local function after(seconds, value)
  return function()
    allua.sleep(seconds)
    return value
  end
end

local function failing(failure)
  return function()
    error(failure, 0)
  end
end

describe("any", function()
  it("gives the value and the name of the first task to succeed", function()
    local value, name = any({
      bad = failing("boom"),
      fast = after(0.01, "won"),
      slow = after(60, "lost"),
    })
    assert.same({ "won", "fast" }, { value, name })
    assert.same({ "b", 2 }, { any({ failing("a"), after(0, "b") }) })
  end)

  it("takes nil and false for success, and gives one value", function()
    assert.same({ n = 2, nil, "a" }, table.pack(any({ a = function() end, b = failing("boom") })))
    assert.same({ n = 2, false, "a" }, table.pack(any({ a = after(0, false) })))
    local function two()
      return 1, 2
    end
    assert.same({ n = 2, 1, "a" }, table.pack(any({ a = two })))
  end)

  it("goes on after failures", function()
    local value, name = any({
      a = failing("a"),
      b = function()
        allua.sleep(0.005)
        error("b")
      end,
      c = after(0.05, "c"),
    })
    assert.same({ "c", "c" }, { value, name })
  end)

  it("raises an AggregateError with the error of each task where all fail", function()
    local failure = {}
    local got = raised(any, { a = failing("a"), b = failing(failure), failing(false) })
    assert.is_true(allua.is_error(got, "AggregateError"))
    assert.same({ a = "a", b = failure, false }, got.errors)
    assert.equal(failure, got.errors.b)
    assert.equal("AggregateError: " .. got.message, tostring(got))
  end)

  it("says in the AggregateError why each failed, as far as anybody reads", function()
    local odd = setmetatable({}, {
      __tostring = function()
        error("no text")
      end,
    })
    assert.equal(
      [[none of the tasks succeeded (3 failed)
  1: two
    lines
  2: (error object is a table value)
  3: (error object is a table value whose __tostring failed)]],
      raised(any, { failing("two\nlines"), failing({}), failing(odd) }).message
    )
    local tasks = {}
    for i = 1, 11 do
      tasks[i] = failing("no " .. i)
    end
    local lines = { "none of the tasks succeeded (11 failed)" }
    for i = 1, 9 do
      lines[#lines + 1] = ("  %d: no %d"):format(i, i)
    end
    assert.equal(table.concat(lines, "\n") .. "\n  and 2 more", raised(any, tasks).message)
    tasks[11] = nil
    lines = { "none of the tasks succeeded (10 failed)", table.unpack(lines, 2) }
    assert.equal(table.concat(lines, "\n") .. "\n  10: no 10", raised(any, tasks).message)
  end)

  it("raises an AggregateError with no errors where there are no tasks", function()
    local got = raised(any, {})
    assert.is_true(allua.is_error(got, "AggregateError"))
    assert.same({}, got.errors)
  end)

  it("cancels the rest, and gives the value when they have ended", function()
    local caught, ended
    local value = any({
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
  end)

  it("does not abort its signal for a failure, but for the winner", function()
    local during, signal
    any({
      bad = failing("boom"),
      watcher = function(_, task)
        signal = task.signal
        allua.yield()
        during = signal.aborted
        allua.sleep(60)
      end,
      winner = after(0.02),
    })
    assert.is_false(during)
    assert.is_true(signal.aborted)
  end)

  it("lets a reader of a failed task fail, or succeed all the same", function()
    local value, name = any({
      bad = failing("boom"),
      reader = function(self)
        return self.bad
      end,
      saver = function(self)
        local ok = pcall(function()
          return self.bad
        end)
        return ok
      end,
    })
    assert.same({ false, "saver" }, { value, name })
  end)

  it("reports no failure of a task where another succeeds", function()
    local result = host.eval([[
      io.write((allua.any({
        function() error("boom") end,
        function(self) return self[1] end,
        function() allua.yield() return "won" end,
        function() allua.sleep(60) end,
      })))
    ]])
    assert.same({ "won", "", 0 }, { result.out, result.err, result.code })
  end)
end)
