local allua = require("allua")
local errors = require("spec.support.errors")
require("spec.support.leftovers")()

local map, raised = allua.map, errors.raised

describe("map", function()
  it("calls the function with each item and its index", function()
    local seen = {}
    map({ "a", "b", "c" }, function(item, index)
      seen[#seen + 1] = item .. index
    end)
    assert.same({ "a1", "b2", "c3" }, seen)
  end)

  it("gives the results in the order of the list, whoever is done first", function()
    local results = map({ 0.03, 0.01, 0.02 }, function(seconds, index)
      allua.sleep(seconds)
      return index * 10
    end)
    assert.same({ 10, 20, 30 }, results)
  end)

  it("gives an empty list for an empty list", function()
    assert.same({}, map({}, error))
  end)

  it("runs the calls at the same time", function()
    local running, most = 0, 0
    map({ 1, 2, 3, 4 }, function()
      running = running + 1
      most = math.max(most, running)
      allua.yield()
      running = running - 1
    end)
    assert.equal(4, most)
  end)

  it("runs no more at once than its limit", function()
    local running, most, list = 0, 0, {}
    for i = 1, 50 do
      list[i] = i
    end
    local results = map(list, function(item)
      running = running + 1
      most = math.max(most, running)
      allua.yield()
      running = running - 1
      return item * 2
    end, { concurrency = 3 })
    assert.equal(3, most)
    for i = 1, 50 do
      assert.equal(i * 2, results[i])
    end
  end)

  it("keeps each result in its place where others are nil or false", function()
    local results = map({ 1, 2, 3, 4 }, function(item)
      if item == 2 then
        return nil
      end
      return item ~= 3 and item
    end)
    assert.same({ 1, nil, false, 4 }, results)
  end)

  it("keeps the first value of each call", function()
    local results = map({ 1, 2 }, function(item)
      return item, "extra"
    end)
    assert.same({ 1, 2 }, results)
  end)

  it("takes false, tables and anything else for items", function()
    local list = { false, {}, print, "x" }
    local results = map(list, function(item)
      return item
    end)
    assert.same(list, results)
    assert.equal(list[2], results[2])
    assert.not_equal(list, results)
  end)

  it("takes a callable for the function", function()
    local twice = setmetatable({}, {
      __call = function(_, item)
        return item * 2
      end,
    })
    assert.same({ 2, 4 }, map({ 1, 2 }, twice))
  end)

  it("raises the first error, as it is, and cancels the other calls", function()
    local failure, caught = {}, nil
    local got = raised(map, { 1, 2 }, function(item)
      if item == 1 then
        caught = raised(allua.sleep, 60)
        error(caught)
      end
      allua.yield()
      error(failure)
    end)
    assert.equal(failure, got)
    assert.is_true(allua.is_error(caught, "CancelledError"))
    assert.equal(failure, caught.reason)
  end)

  it("takes the options of a group", function()
    local got = raised(map, { 60 }, allua.sleep, { timeout = 0.01 })
    assert.is_true(allua.is_error(got, "TimeoutError"))

    local controller, reason = allua.abort_controller(), {}
    controller:abort(reason)
    assert.equal(reason, raised(map, { 1 }, error, { signal = controller.signal }))

    local log = {}
    map({ "a", "b" }, string.upper, {
      on_settle = function(name, status, value)
        log[#log + 1] = ("%s %s %s"):format(name, status, value)
      end,
    })
    assert.same({ "1 fulfilled A", "2 fulfilled B" }, log)
  end)

  it("goes by the list as it was when it was called", function()
    local list = { 1, 2, 3 }
    local results = map(list, function(item)
      list[item + 1] = nil
      list[item + 2] = "changed"
      return item
    end)
    assert.same({ 1, 2, 3 }, results)
  end)

  it("can be nested", function()
    local results = map({ { 1, 2 }, { 3 } }, function(row)
      return map(row, function(item)
        allua.yield()
        return item * item
      end)
    end)
    assert.same({ { 1, 4 }, { 9 } }, results)
  end)
end)
