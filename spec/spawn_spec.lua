-- allua.spawn: a task that runs beside its parent, and never outlives it.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local all = allua.all

local function on_close(fn)
  return setmetatable({}, { __close = fn })
end

describe("allua.spawn", function()
  it("gives fn its arguments, and the promise all its values", function()
    local task = allua.spawn(function(...)
      allua.sleep(0.001)
      return ...
    end, 1, nil, "three", nil)
    assert.same({ n = 4, 1, nil, "three", nil }, table.pack(task:await()))
  end)

  it("runs beside its parent", function()
    local log = {}
    local task = allua.spawn(function()
      for i = 1, 3 do
        log[#log + 1] = "child " .. i
        allua.yield()
      end
    end)
    for i = 1, 3 do
      log[#log + 1] = "parent " .. i
      allua.yield()
    end
    task:await()
    local last = {}
    for place, entry in ipairs(log) do
      last[entry] = place
    end
    assert.is_true(last["child 1"] < last["parent 3"])
    assert.is_true(last["parent 1"] < last["child 3"])
  end)

  it("runs its tasks at the same time", function()
    local _ <close> = allua.clock.virtual()
    local tasks = {}
    for i = 1, 20 do
      tasks[i] = allua.spawn(allua.sleep, 0.25)
    end
    for _, task in ipairs(tasks) do
      task:await()
    end
    assert.equal(0.25, allua.now())
  end)

  it("gives the promise the very error that fn raises", function()
    local boom = {}
    local task = allua.spawn(function()
      allua.sleep(0.001)
      error(boom)
    end)
    assert.equal(boom, errors.raised(task.await, task))
    assert.equal("rejected", task.status)
  end)

  it("takes nil and false for errors like any other", function()
    local none = allua.spawn(error)
    assert.same({ false, nil, n = 2 }, table.pack(pcall(none.await, none)))
    local no = allua.spawn(error, false)
    assert.same({ false, false, n = 2 }, table.pack(pcall(no.await, no)))
  end)

  it("does not fail its parent when it fails", function()
    local result = all({
      parent = function()
        local task = allua.spawn(error, "boom")
        allua.sleep(0.005)
        assert.equal("boom", errors.raised(task.await, task))
        return "lived"
      end,
    })
    assert.equal("lived", result.parent)
  end)

  it("tells how the task stands", function()
    local task = allua.spawn(allua.sleep, 0.005)
    assert.equal("pending", task.status)
    task:await()
    assert.equal("fulfilled", task.status)
  end)

  it("wants a function", function()
    assert.is_true(errors.says(errors.raised(allua.spawn), "spawn"))
    assert.is_true(errors.says(errors.raised(allua.spawn, 3), "spawn"))
    assert.is_true(errors.says(errors.raised(allua.spawn, {}), "spawn"))
  end)

  it("works from inside a generator: the task has the parent that the generator has", function()
    local ended = false
    all({
      parent = function()
        local task = coroutine.wrap(function()
          coroutine.yield(allua.spawn(function()
            local _ <close> = on_close(function()
              ended = true
            end)
            allua.sleep(60)
          end))
        end)()
        allua.yield()
        assert.equal("pending", task.status)
      end,
    })
    assert.is_true(ended)
  end)

  it("starts many tasks, each of which starts one more", function()
    local sum = 0
    local tasks = {}
    local count = size.of(200)
    for i = 1, count do
      tasks[i] = allua.spawn(function()
        local child = allua.spawn(function()
          allua.yield()
          return i
        end)
        local value = child:await()
        sum = sum + value
      end)
    end
    for _, task in ipairs(tasks) do
      task:await()
    end
    assert.equal(count * (count + 1) // 2, sum)
  end)
end)

describe("a spawned task", function()
  it("is cancelled when its parent ends", function()
    local caught
    all({
      parent = function()
        allua.spawn(function()
          local _, err = pcall(allua.sleep, 60)
          caught = err
          error(err, 0)
        end)
        allua.yield()
      end,
    })
    assert.is_true(allua.is_error(caught, "CancelledError"))
  end)

  it("is joined: its parent has ended only when it has", function()
    local log = {}
    all({
      parent = function()
        allua.spawn(function()
          local _ <close> = on_close(function()
            allua.shield(allua.sleep, 0.02)
            log[#log + 1] = "child"
          end)
          allua.sleep(60)
        end)
        allua.yield()
        log[#log + 1] = "parent"
      end,
    })
    log[#log + 1] = "group"
    assert.same({ "parent", "child", "group" }, log)
  end)

  it("is joined where its parent was spawned as well", function()
    local log = {}
    local parent = allua.spawn(function()
      allua.spawn(function()
        local _ <close> = on_close(function()
          allua.shield(allua.sleep, 0.02)
          log[#log + 1] = "grandchild"
        end)
        allua.sleep(60)
      end)
      allua.yield()
      return "value"
    end)
    assert.equal("value", parent:await())
    assert.same({ "grandchild" }, log)
  end)

  it("is cancelled when its parent fails, whose error it is that counts", function()
    local ended = false
    local boom = {}
    local err = errors.raised(all, {
      parent = function()
        allua.spawn(function()
          local _ <close> = on_close(function()
            ended = true
          end)
          allua.sleep(60)
        end)
        allua.yield()
        error(boom)
      end,
    })
    assert.equal(boom, err)
    assert.is_true(ended)
  end)

  it("is cancelled when its parent is", function()
    local ended = false
    local parent = allua.spawn(function()
      allua.spawn(function()
        local _ <close> = on_close(function()
          ended = true
        end)
        allua.sleep(60)
      end)
      allua.sleep(60)
    end)
    allua.sleep(0.005)
    parent:cancel("all of it")
    local err = errors.raised(parent.await, parent)
    assert.equal("all of it", err.reason)
    assert.is_true(ended)
  end)

  it("leaves the sibling tasks of its parent alone", function()
    local result = all({
      parent = function()
        allua.spawn(allua.sleep, 60)
        allua.yield()
        return "parent"
      end,
      sibling = function()
        allua.sleep(0.02)
        return "sibling"
      end,
    })
    assert.same({ parent = "parent", sibling = "sibling" }, result)
  end)

  it("may be cancelled by anyone who holds its promise", function()
    local result = all({
      owner = function()
        local task = allua.spawn(allua.sleep, 60)
        allua.yield()
        return task
      end,
      other = function()
        local task = allua.spawn(allua.sleep, 60)
        allua.yield()
        task:cancel("by hand")
        return errors.raised(task.await, task).reason
      end,
    })
    assert.equal("by hand", result.other)
    assert.equal("rejected", result.owner.status)
  end)

  it("of the root task is waited for by the program", function()
    local got = host.eval([[
      allua.spawn(function()
        allua.sleep(0.05)
        print "child"
        allua.spawn(function() print "never: its parent ends at once" end)
      end)
      print "root"
    ]])
    assert.equal("root\nchild\n", got.out)
    assert.equal("", got.err)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)

  it("of the root task is cancelled when the root task fails", function()
    local got = host.eval([[
      allua.spawn(function()
        local _ <close> = setmetatable({}, { __close = function() print "closed" end })
        allua.sleep(3600)
      end)
      allua.yield()
      error "boom"
    ]])
    assert.equal("closed\n", got.out)
    assert.matches("boom", got.err, 1, true)
    assert.equal(1, got.code)
  end)
end)
