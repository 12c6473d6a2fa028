-- Rejections that nobody has awaited: reported once, with their traceback, and the program exits 1.

local host = require("spec.support.host")

require("spec.support.leftovers")()

local function count(text, words)
  local found = 0
  local from = 1
  while true do
    local first, last = text:find(words, from, true)
    if not first then
      return found
    end
    found, from = found + 1, last + 1
  end
end

local function reported(code, words)
  local got = host.eval(code)
  assert.equal(1, count(got.err, words or "boom"), got.err)
  assert.equal(1, got.code)
  return got
end

local function silent(code, out)
  local got = host.eval(code)
  assert.equal("", got.err)
  assert.equal(out or "", got.out)
  assert.same({ 0, 0 }, { got.code, got.signal })
end

describe("a rejected promise that nobody awaits", function()
  it("is reported when the program ends, which exits 1 and has done all its work", function()
    local got = reported([[
      kept = allua.spawn(function() error "boom" end)
      allua.sleep(0.01)
      print "went on"
    ]])
    assert.equal("went on\n", got.out)
  end)

  it("is reported with its message, its place and its traceback", function()
    local path = os.tmpname()
    local file <close> = assert(io.open(path, "w"))
    file:write([[
      local function failing()
        error("boom")
      end
      allua.spawn(function()
        allua.yield()
        failing()
      end)
    ]])
    file:close()
    local got = host.run({ path })
    os.remove(path)
    assert.matches(path .. ":2: boom", got.err, 1, true)
    assert.matches("stack traceback:", got.err, 1, true)
    assert.matches(path .. ":6:", got.err, 1, true)
    assert.equal(1, got.code)
  end)

  it("is reported when it is collected, while the program goes on", function()
    local got = reported([[
      allua.spawn(function() error "boom" end)
      allua.sleep(0.01)
      collectgarbage()
      collectgarbage()
      allua.sleep(0.01)
      io.stderr:write("still running\n")
    ]])
    assert.is_true(got.err:find("boom", 1, true) < got.err:find("still running", 1, true), got.err)
  end)

  it("is reported where it was rejected by hand", function()
    reported([[
      do
        local promise = allua.promise()
        promise:reject("boom")
      end
      collectgarbage()
      collectgarbage()
    ]])
    reported([[
      kept = allua.promise()
      kept:reject("boom")
    ]])
  end)

  it("is reported whatever the error is", function()
    reported([[ kept = allua.spawn(error, setmetatable({}, { __tostring = function() return "boom" end })) ]])
    reported([[ kept = allua.spawn(error, { "boom" }) ]], "(error object is a table value)")
    reported([[ kept = allua.spawn(error, nil) ]], "(error object is a nil value)")
    reported([[ kept = allua.spawn(error, false) ]], "(error object is a boolean value)")
    reported([[ kept = allua.spawn(allua.timeout, 0.001, allua.sleep, 60) allua.sleep(0.02) ]], "TimeoutError: ")
    local got = host.eval([[
      kept = allua.spawn(error, setmetatable({}, { __tostring = function() error "raised by __tostring" end }))
    ]])
    assert.not_equal("", got.err)
    assert.equal(1, got.code)
  end)

  it("is reported beside the others, each by itself", function()
    local got = host.eval([[
      for i = 1, 3 do
        allua.spawn(error, "boom number " .. i)
      end
    ]])
    for i = 1, 3 do
      assert.equal(1, count(got.err, "boom number " .. i), got.err)
    end
    assert.equal(1, got.code)
  end)

  it("is reported though its status was looked at", function()
    reported([[
      kept = allua.spawn(error, "boom")
      allua.yield()
      allua.yield()
      print(kept.status)
    ]])
  end)

  it("does not keep the other spawned tasks from ending their work", function()
    local got = reported([[
      kept = allua.spawn(error, "boom")
      allua.spawn(function()
        allua.sleep(0.03)
        print "done"
      end)
    ]])
    assert.equal("done\n", got.out)
  end)

  it("does not change what os.exit was asked for", function()
    local got = host.eval([[
      kept = allua.spawn(error, "boom")
      allua.sleep(0.01)
      os.exit(7)
    ]])
    assert.equal(7, got.code)
  end)
end)

describe("a rejected promise is not reported", function()
  it("where it is awaited, at once or later", function()
    silent(
      [[
      local task = allua.spawn(error, "boom")
      print(pcall(task.await, task))
    ]],
      "false\tboom\n"
    )
    silent(
      [[
      local task = allua.spawn(error, "boom")
      allua.sleep(0.02)
      print(pcall(task.await, task))
    ]],
      "false\tboom\n"
    )
    silent(
      [[
      local promise = allua.promise()
      promise:reject("boom")
      print(pcall(promise.await, promise))
      promise = nil
      collectgarbage()
      collectgarbage()
    ]],
      "false\tboom\n"
    )
  end)

  it("where one of several waiters has it", function()
    silent(
      [[
      local promise = allua.promise()
      local function waiter() return (pcall(promise.await, promise)) end
      all {
        waiter,
        waiter,
        function() promise:reject("boom") end,
      }
      print "over"
    ]],
      "over\n"
    )
  end)

  it("where it is a task of a group", function()
    silent(
      [[
      local task = allua.spawn(error, "boom")
      print(pcall(all, { task }))
    ]],
      "false\tboom\n"
    )
    silent(
      [[
      local task = allua.spawn(error, "boom")
      print(allua.all_settled({ task = task }).task.reason)
    ]],
      "boom\n"
    )
  end)

  it("where its owner cancelled it", function()
    silent([[
      kept = allua.spawn(allua.sleep, 3600)
      allua.yield()
      kept:cancel()
      local gone = allua.spawn(allua.sleep, 3600)
      gone:cancel("before it started")
      gone = nil
      collectgarbage()
    ]])
  end)

  it("where it was cancelled because its parent ended", function()
    silent(
      [[
      all {
        parent = function()
          allua.spawn(allua.sleep, 3600)
          allua.yield()
        end,
      }
      collectgarbage()
      print "over"
    ]],
      "over\n"
    )
  end)

  it("where it is pending or fulfilled", function()
    silent([[
      kept = allua.promise()
      other = allua.promise()
      other:resolve("value")
      allua.promise()
      collectgarbage()
    ]])
  end)
end)

describe("an error of the root task's", function()
  it("is reported and the program exits 1, beside the promises that nobody awaited", function()
    local got = host.eval([[
      kept = allua.spawn(error, "boom of the task")
      allua.yield()
      allua.yield()
      error "boom of the root"
    ]])
    assert.equal(1, count(got.err, "boom of the task"), got.err)
    assert.is_true(count(got.err, "boom of the root") >= 1, got.err)
    assert.equal(1, got.code)
  end)
end)
