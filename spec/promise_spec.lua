-- Promises that are settled by hand.

local allua = require("allua")
local errors = require("spec.support.errors")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local all = allua.all

describe("a promise", function()
  it("is pending, then fulfilled with its values", function()
    local promise = allua.promise()
    assert.equal("pending", promise.status)
    assert.is_true(promise:resolve("value"))
    assert.equal("fulfilled", promise.status)
    assert.equal("value", promise:await())
  end)

  it("is pending, then rejected with its very error", function()
    local promise = allua.promise()
    local boom = {}
    assert.is_true(promise:reject(boom))
    assert.equal("rejected", promise.status)
    assert.equal(boom, errors.raised(promise.await, promise))
  end)

  it("is settled once: what comes later returns false and changes nothing", function()
    local promise = allua.promise()
    promise:resolve("first")
    assert.is_false(promise:resolve("second"))
    assert.is_false(promise:reject("third"))
    assert.equal("fulfilled", promise.status)
    assert.equal("first", promise:await())

    local rejected = allua.promise()
    rejected:reject("first")
    assert.is_false(rejected:resolve("second"))
    assert.is_false(rejected:reject("third"))
    assert.equal("rejected", rejected.status)
    assert.equal("first", errors.raised(rejected.await, rejected))
  end)

  it("carries any number of values, nils too", function()
    local none = allua.promise()
    none:resolve()
    assert.equal(0, select("#", none:await()))

    local some = allua.promise()
    some:resolve(nil, false, nil)
    assert.same({ n = 3, nil, false, nil }, table.pack(some:await()))

    local many = allua.promise()
    many:resolve(table.unpack({}, 1, 200))
    assert.equal(200, select("#", many:await()))
  end)

  it("carries values as they are, a promise too", function()
    local inner, outer = allua.promise(), allua.promise()
    outer:resolve(inner)
    assert.equal(inner, outer:await())
  end)

  it("carries any error, nil and false too", function()
    for _, value in ipairs({ false, 3, "text", {}, print }) do
      local promise = allua.promise()
      promise:reject(value)
      assert.same({ false, value, n = 2 }, table.pack(pcall(promise.await, promise)))
    end
    local promise = allua.promise()
    promise:reject(nil)
    assert.same({ false, nil, n = 2 }, table.pack(pcall(promise.await, promise)))
  end)

  it("suspends the task that awaits it until it is settled", function()
    local promise = allua.promise()
    local log = {}
    all({
      waiter = function()
        log[#log + 1] = "before"
        local value = promise:await()
        log[#log + 1] = value
      end,
      worker = function()
        allua.sleep(0.005)
        log[#log + 1] = "settling"
        promise:resolve("after")
        log[#log + 1] = "settled"
      end,
    })
    assert.same({ "before", "settling", "settled", "after" }, log)
  end)

  it("raises the error at the await that waits", function()
    local promise = allua.promise()
    local boom = {}
    local result = all({
      waiter = function()
        return errors.raised(promise.await, promise)
      end,
      worker = function()
        allua.yield()
        promise:reject(boom)
      end,
    })
    assert.equal(boom, result.waiter)
  end)

  it("may be awaited by many tasks, which go on in the order in which they came", function()
    local promise = allua.promise()
    local order, values = {}, {}
    local tasks = {}
    for i = 1, 100 do
      tasks[i] = function()
        values[i] = promise:await()
        order[#order + 1] = i
      end
    end
    tasks[101] = function()
      promise:resolve("shared")
    end
    all(tasks)
    for i = 1, 100 do
      assert.equal(i, order[i])
      assert.equal("shared", values[i])
    end
  end)

  it("may be awaited by coroutines of the user's, each in a task of its own", function()
    local promise = allua.promise()
    local function generator()
      return coroutine.wrap(function()
        coroutine.yield("first")
        coroutine.yield(promise:await())
      end)
    end
    local result = all({
      a = function()
        local next_value = generator()
        return { next_value(), next_value() }
      end,
      b = function()
        local next_value = generator()
        return { next_value(), next_value() }
      end,
      c = function()
        allua.sleep(0.005)
        promise:resolve("second")
      end,
    })
    assert.same({ "first", "second" }, result.a)
    assert.same({ "first", "second" }, result.b)
  end)

  it("may be awaited any number of times", function()
    local promise = allua.promise()
    promise:resolve(1, 2)
    for _ = 1, 3 do
      assert.same({ 1, 2 }, { promise:await() })
    end
    local rejected = allua.promise()
    local boom = {}
    rejected:reject(boom)
    for _ = 1, 3 do
      assert.equal(boom, errors.raised(rejected.await, rejected))
    end
  end)

  it("costs no suspension once it is settled", function()
    local promise = allua.promise()
    promise:resolve("value")
    local others_ran = false
    local task = allua.spawn(function()
      others_ran = true
    end)
    assert.equal("value", promise:await())
    assert.is_false(others_ran)
    task:await()
  end)

  it("may be settled from inside a coroutine, and before anybody awaits it", function()
    local promise = allua.promise()
    coroutine.wrap(function()
      promise:resolve("from a generator")
    end)()
    assert.equal("from a generator", promise:await())
  end)

  it("may be settled by a task that awaits another", function()
    local length = size.of(1000)
    local chain = {}
    for i = 0, length do
      chain[i] = allua.promise()
    end
    local tasks = {}
    for i = length, 1, -1 do
      tasks[#tasks + 1] = function()
        chain[i]:resolve(chain[i - 1]:await() + 1)
      end
    end
    chain[0]:resolve(0)
    all(tasks)
    assert.equal(length, chain[length]:await())
  end)

  it("is nothing to wait for when nobody settles it and nobody awaits it", function()
    local promise = allua.promise()
    assert.equal("pending", promise.status)
  end)

  it("says what it has been given the wrong way", function()
    local promise = allua.promise()
    promise:resolve()
    for _, method in ipairs({ "await", "resolve", "reject" }) do
      assert.is_true(errors.says(errors.raised(promise[method], {}), "promise"), method)
      assert.is_true(errors.says(errors.raised(promise[method]), "promise"), method)
    end
  end)
end)

describe("a task's promise", function()
  it("is cancelled by its cancel, with the reason", function()
    local task = allua.spawn(allua.sleep, 60)
    allua.yield()
    task:cancel("why")
    local err = errors.raised(task.await, task)
    assert.is_true(allua.is_error(err, "CancelledError"))
    assert.equal("why", err.reason)
    assert.equal("rejected", task.status)
  end)

  it("may be awaited by several tasks and be cancelled under them", function()
    local task = allua.spawn(allua.sleep, 60)
    local function waiter()
      return errors.raised(task.await, task).reason
    end
    local result = all({
      a = waiter,
      b = waiter,
      c = function()
        allua.sleep(0.005)
        task:cancel("for all")
      end,
    })
    assert.equal("for all", result.a)
    assert.equal("for all", result.b)
  end)

  it("is settled by its task alone", function()
    local task = allua.spawn(function()
      allua.sleep(0.005)
      return "its own"
    end)
    assert.is_true(errors.says(errors.raised(task.resolve, task, "another's"), "the task settles it"))
    assert.is_true(errors.says(errors.raised(task.reject, task, "another's"), "the task settles it"))
    assert.equal("pending", task.status)
    assert.equal("its own", task:await())
  end)

  it("alone can be cancelled: one made by hand has no task", function()
    local promise = allua.promise()
    assert.is_true(errors.says(errors.raised(promise.cancel, promise), "promise of a task"))
    assert.equal("pending", promise.status)
  end)
end)
