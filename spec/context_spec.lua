-- allua.with and allua.context: values of a task's own, which its descendants read.

local allua = require("allua")
local errors = require("spec.support.errors")

require("spec.support.leftovers")()

local all = allua.all
local with = allua.with
local context = allua.context

describe("allua.with", function()
  it("gives fn its arguments and returns all its values", function()
    local values = table.pack(with({ user = "ann" }, function(...)
      allua.sleep(0.001)
      return context.user, ...
    end, nil, "b", nil))
    assert.same({ n = 4, "ann", nil, "b", nil }, values)
  end)

  it("raises fn's very error, and its values are gone then", function()
    local boom = {}
    assert.equal(
      boom,
      errors.raised(with, { user = "ann" }, function()
        allua.yield()
        error(boom)
      end)
    )
    assert.is_nil(context.user)
  end)

  it("adds values in fn and nowhere else", function()
    assert.is_nil(context.user)
    with({ user = "ann" }, function()
      assert.equal("ann", context.user)
      assert.is_nil(context.other)
    end)
    assert.is_nil(context.user)
  end)

  it("nested adds to what there is, and shadows a value of the same name", function()
    with({ user = "ann", role = "admin" }, function()
      with({ user = "bob", more = 1 }, function()
        assert.same({ "bob", "admin", 1 }, { context.user, context.role, context.more })
      end)
      assert.same({ "ann", "admin" }, { context.user, context.role })
      assert.is_nil(context.more)
    end)
  end)

  it("takes false for a value", function()
    with({ flag = true }, function()
      with({ flag = false }, function()
        assert.is_false(context.flag)
      end)
      assert.is_true(context.flag)
    end)
  end)

  it("takes names of every kind", function()
    local key = {}
    with({ [key] = "table", [1] = "number", [true] = "boolean" }, function()
      assert.equal("table", context[key])
      assert.equal("number", context[1])
      assert.equal("boolean", context[true])
    end)
    assert.is_nil(context[key])
  end)

  it("is not changed by what becomes of the table it was given", function()
    local values = { user = "ann" }
    with(values, function()
      values.user = "bob"
      values.more = 1
      assert.equal("ann", context.user)
      assert.is_nil(context.more)
    end)
  end)

  it("is one table deep per value, however deep it is nested", function()
    local function nest(depth)
      if depth == 0 then
        return context.level
      end
      return (with({ level = depth }, nest, depth - 1))
    end
    assert.equal(1, nest(100))
    assert.is_nil(context.level)
  end)

  it("refuses what is no table of values, or no function", function()
    for _, arguments in ipairs({ { 3, print }, {}, { {}, 3 }, { {} } }) do
      local err = errors.raised(function()
        with(arguments[1], arguments[2])
      end)
      assert.is_true(errors.says(err, "with"), tostring(err))
    end
  end)
end)

describe("allua.context", function()
  it("keeps a task's values over its waits, apart from those of the others", function()
    local function visitor(name)
      return function()
        return with({ user = name }, function()
          local seen = {}
          for _ = 1, 5 do
            allua.yield()
            seen[#seen + 1] = context.user
          end
          allua.sleep(0.002)
          seen[#seen + 1] = context.user
          return table.concat(seen, " ")
        end)
      end
    end
    local result = all({
      a = visitor("ann"),
      b = visitor("bob"),
      nobody = function()
        local seen = 0
        for _ = 1, 5 do
          allua.yield()
          if context.user ~= nil then
            seen = seen + 1
          end
        end
        return seen
      end,
    })
    assert.equal("ann ann ann ann ann ann", result.a)
    assert.equal("bob bob bob bob bob bob", result.b)
    assert.equal(0, result.nobody)
  end)

  it("is inherited by the tasks of groups, at any depth", function()
    local result = with({ user = "ann" }, function()
      return all({
        direct = function()
          return context.user
        end,
        nested = function()
          allua.yield()
          return all({
            function()
              allua.yield()
              return context.user
            end,
          })[1]
        end,
        shadowing = function()
          return with({ user = "bob" }, function()
            return all({
              function()
                return context.user
              end,
            })[1]
          end)
        end,
      })
    end)
    assert.same({ direct = "ann", nested = "ann", shadowing = "bob" }, result)
  end)

  it("is inherited by every other way to start tasks", function()
    local function read()
      allua.yield()
      return context.user
    end
    with({ user = "ann" }, function()
      assert.equal("ann", allua.all_settled({ read })[1].value)
      assert.equal("ann", (allua.race({ read })))
      assert.equal("ann", (allua.any({ read })))
      assert.same({ "ann", "ann" }, allua.map({ 1, 2 }, read))
      assert.equal("ann", allua.timeout(60, read))
      assert.equal("ann", allua.shield(read))
      assert.equal("ann", allua.retry(read))
      assert.equal(
        "ann",
        allua.flow({
          function(_, task)
            task:finish(read())
          end,
        })
      )
      for _, value in allua.each({ read }) do
        assert.equal("ann", value)
      end
    end)
  end)

  it("is inherited by spawned tasks, which keep it as it was when they started", function()
    local task
    with({ user = "ann" }, function()
      task = allua.spawn(function()
        allua.sleep(0.01)
        return context.user
      end)
    end)
    assert.is_nil(context.user)
    assert.equal("ann", task:await())
  end)

  it("is read by generators, in the task that runs them", function()
    local function generator()
      return coroutine.wrap(function()
        while true do
          allua.yield()
          coroutine.yield(context.user or "nobody")
        end
      end)
    end
    with({ user = "ann" }, function()
      local next_value = generator()
      assert.equal("ann", next_value())
      assert.equal(
        "ann",
        coroutine.wrap(function()
          return next_value()
        end)()
      )
    end)
  end)

  it("is not seen by the consumer of a generator that is inside with", function()
    local next_value = coroutine.wrap(function()
      with({ user = "ann" }, function()
        coroutine.yield(context.user)
        coroutine.yield(context.user)
      end)
      coroutine.yield(context.user or "nobody")
    end)
    assert.equal("ann", next_value())
    assert.is_nil(context.user)
    with({ user = "bob" }, function()
      assert.equal("ann", next_value())
      assert.equal("bob", context.user)
    end)
    assert.equal("nobody", next_value())
    assert.is_nil(context.user)
  end)

  it("is not seen by a sibling, nor by the parent of the task that adds to it", function()
    local result = all({
      adds = function()
        with({ user = "ann" }, allua.sleep, 0.01)
        return context.user == nil
      end,
      sibling = function(self)
        allua.yield()
        local before = context.user
        local _ = self.adds
        return before == nil and context.user == nil
      end,
    })
    assert.same({ adds = true, sibling = true }, result)
    assert.is_nil(context.user)
  end)

  it("is gone after a cancelling that fn does not catch", function()
    local after
    local task = allua.spawn(function()
      pcall(with, { user = "ann" }, allua.sleep, 60)
      after = context.user or "nobody"
    end)
    allua.yield()
    task:cancel()
    pcall(task.await, task)
    assert.equal("nobody", after)
  end)

  it("is seen by the <close> handlers of fn's", function()
    local seen
    pcall(with, { user = "ann" }, function()
      local _ <close> = setmetatable({}, {
        __close = function()
          allua.yield()
          seen = context.user
        end,
      })
      error("boom")
    end)
    assert.equal("ann", seen)
  end)

  it("is read-only", function()
    assert.is_true(errors.says(
      errors.raised(function()
        context.user = "ann"
      end),
      "read-only"
    ))
    with({ user = "ann" }, function()
      assert.is_false(pcall(function()
        context.user = "bob"
      end))
      assert.equal("ann", context.user)
    end)
  end)
end)
