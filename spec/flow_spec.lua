local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
require("spec.support.leftovers")()

local flow, raised, text = allua.flow, errors.raised, errors.text

-- A variable to be closed that calls fn.
local function closing(fn)
  return setmetatable({}, { __close = fn })
end

describe("flow", function()
  it("gives the values of the first finish", function()
    local values = table.pack(flow({
      a = function(_, task)
        task:finish(1, nil, "three", nil)
      end,
      b = function(_, task)
        task:finish("later")
      end,
    }))
    assert.same({ n = 4, 1, nil, "three", nil }, values)
  end)

  it("takes nil and false for values", function()
    local function finishing(...)
      local values = table.pack(...)
      return table.pack(flow({
        a = function(_, task)
          task:finish(table.unpack(values, 1, values.n))
        end,
      }))
    end
    assert.same({ n = 1 }, finishing(nil))
    assert.same({ n = 1, false }, finishing(false))
    assert.same({ n = 0 }, finishing())
  end)

  it("gives nothing where no task finishes it, once all have ended", function()
    local ended = 0
    local function task()
      allua.sleep(0.005)
      ended = ended + 1
      return "ignored"
    end
    assert.equal(0, select("#", flow({ task, task, a = task })))
    assert.equal(3, ended)
    assert.equal(0, select("#", flow({})))
  end)

  it("finishes for good: finish does not return", function()
    local returned = false
    flow({
      a = function(_, task)
        task:finish(1)
        returned = true
      end,
      b = function(_, task)
        allua.yield()
        task:finish(2)
        returned = true
      end,
    })
    assert.is_false(returned)
  end)

  it("keeps its first finish, whatever is called while the others unwind", function()
    local value = flow({
      a = function(_, task)
        allua.yield()
        task:finish("first")
      end,
      b = function(_, task)
        local _ <close> = closing(function()
          pcall(task.finish, task, "second")
        end)
        allua.sleep(60)
      end,
    })
    assert.equal("first", value)
  end)

  it("closes the variables of the task that finishes", function()
    local closed = false
    flow({
      a = function(_, task)
        local _ <close> = closing(function()
          closed = true
        end)
        task:finish(1)
      end,
    })
    assert.is_true(closed)
  end)

  it("cancels the rest, and waits for the unwinding but not for the slowest", function()
    local unwound, start = {}, allua.now()
    local value = flow({
      winner = function(_, task)
        allua.sleep(0.01)
        task:finish("won")
      end,
      slow = function()
        local _ <close> = closing(function()
          allua.shield(allua.sleep, 0.02)
          unwound[#unwound + 1] = "slow"
        end)
        allua.sleep(60)
      end,
      reader = function(self)
        local _ <close> = closing(function()
          unwound[#unwound + 1] = "reader"
        end)
        return self.slow
      end,
    })
    assert.equal("won", value)
    assert.same({ "reader", "slow" }, unwound)
    assert.is_true(allua.now() - start < 30)
  end)

  it("cancels the rest silently: neither they nor their readers fail it", function()
    local caught
    local value = flow({
      cached = function(_, task)
        allua.yield()
        task:finish("from cache")
      end,
      fetched = function(self)
        caught = raised(function()
          return self.cached
        end)
        error(caught)
      end,
    })
    assert.equal("from cache", value)
    assert.is_true(allua.is_error(caught, "CancelledError"))
    assert.equal("fetched", caught.task)
  end)

  it("never starts what had not started", function()
    local started = false
    flow({
      function(_, task)
        task:finish(1)
      end,
      function()
        started = true
      end,
    })
    assert.is_false(started)
  end)

  it("aborts its signal when it is finished", function()
    local signal
    flow({
      a = function(_, task)
        signal = task.signal
        task:finish(1)
      end,
    })
    assert.is_true(signal.aborted)
  end)

  it("can be finished by whichever task is done first", function()
    local function after(seconds, value)
      return function(_, task)
        allua.sleep(seconds)
        task:finish(value)
      end
    end
    assert.equal("primary", flow({ a = after(60, "backup"), b = after(0.01, "primary") }))
  end)

  it("goes on along its dependencies where no task finishes it early", function()
    local function load(cached)
      return flow({
        cache = function(_, task)
          if cached then
            task:finish("cached")
          end
        end,
        fetch = function(self)
          local _ = self.cache
          allua.yield()
          return "fetched"
        end,
        parse = function(self, task)
          task:finish("parsed " .. self.fetch)
        end,
      })
    end
    assert.equal("cached", load(true))
    assert.equal("parsed fetched", load(false))
  end)

  it("can be finished from a group inside, which unwinds too", function()
    local log = {}
    local value = flow({
      outer = function(_, task)
        local _ <close> = closing(function()
          log[#log + 1] = "outer"
        end)
        allua.all({
          a = function()
            allua.yield()
            task:finish("from inside")
          end,
          b = function()
            local _ <close> = closing(function()
              log[#log + 1] = "b"
            end)
            allua.sleep(60)
          end,
        })
      end,
    })
    assert.equal("from inside", value)
    assert.same({ "b", "outer" }, log)
  end)

  it("can be finished from a spawned task and from a generator", function()
    assert.equal(
      "spawned",
      flow({
        a = function(_, task)
          allua.spawn(task.finish, task, "spawned")
          allua.sleep(60)
        end,
      })
    )
    assert.equal(
      "generator",
      flow({
        a = function(_, task)
          for _ in
            coroutine.wrap(function()
              coroutine.yield(1)
              task:finish("generator")
            end)
          do
            allua.yield()
          end
        end,
      })
    )
  end)

  it("raises a real error that comes before any finish, and cancels the rest", function()
    local failure, caught = {}, nil
    local got = raised(flow, {
      bad = function()
        allua.yield()
        error(failure)
      end,
      finisher = function(_, task)
        caught = raised(allua.sleep, 60)
        task:finish("too late")
      end,
    })
    assert.equal(failure, got)
    assert.is_true(allua.is_error(caught, "CancelledError"))
    assert.equal(failure, caught.reason)
  end)

  it("finishes only itself, where flows are nested", function()
    local value = flow({
      a = function(_, task)
        local inner = flow({
          b = function(_, inner_task)
            inner_task:finish("inner")
          end,
        })
        allua.yield()
        task:finish("outer with " .. inner)
      end,
    })
    assert.equal("outer with inner", value)
  end)

  it("reports an error raised after the finish as a warning, and still gives the value", function()
    local result = host.eval([[
      io.write(allua.flow({
        a = function(_, task) allua.yield() task:finish("value") end,
        b = function() pcall(allua.sleep, 60) error("in the way out", 0) end,
      }))
    ]])
    assert.equal("value", result.out)
    assert.matches("in the way out", result.err, 1, true)
    assert.equal(0, result.code)
  end)

  it("says nothing of what it cancelled", function()
    local result = host.eval([[
      allua.flow({
        a = function(_, task) allua.yield() task:finish("value") end,
        b = function() allua.sleep(60) end,
        c = function(self) return self.b end,
      })
    ]])
    assert.same({ "", "", 0 }, { result.out, result.err, result.code })
  end)

  it("raises a circular dependency where no task is left that could finish it", function()
    local failure = raised(flow, {
      a = function(self)
        return self.b
      end,
      b = function(self)
        return self.a
      end,
    })
    assert.is_true(errors.says(failure, "circular dependency: "), text(failure))
  end)
end)
