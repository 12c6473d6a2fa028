-- `allua test`: busted's runner, with each spec a task, and nothing that a spec leaves running unnoticed.

local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local size = require("spec.support.size")

require("spec.support.leftovers")()

-- Runs `allua test` with these options on a spec file of this text. The report is TAP: a line for each spec.
local function run(text, ...)
  local folder <close> = scratch.folder({ ["a_spec.lua"] = text })
  local arguments = { "test", "--output=TAP", ... }
  arguments[#arguments + 1] = folder:at("a_spec.lua")
  local result = host.run(arguments)
  result.report = result.out .. result.err
  return result
end

-- Whether the report has these specs, and no others, as passed and as failed; the exit status must agree.
local function reports(result, passed, failed)
  local expected, found = {}, {}
  for _, name in ipairs(passed) do
    expected[#expected + 1] = "ok " .. name
  end
  for _, name in ipairs(failed) do
    expected[#expected + 1] = "not ok " .. name
  end
  for line in result.out:gmatch("[^\n]+") do
    local status, name = line:match("^(.-ok) %d+ %- (.*)$")
    if status then
      found[#found + 1] = status .. " " .. name
    end
  end
  table.sort(expected)
  table.sort(found)
  assert.same(expected, found, result.report)
  assert.equal(#failed == 0, result.code == 0, result.report)
end

local function has(text, words)
  assert(text:find(words, 1, true), ("no %q in:\n%s"):format(words, text))
end

describe("allua test", function()
  it("ends with 0 when all pass", function()
    reports(
      run("describe('a', function() it('passes', function() assert.equal(2, 1 + 1) end) end)"),
      { "a passes" },
      {}
    )
  end)

  it("ends with another status when one fails, and says why", function()
    local result = run([[
      describe("a", function()
        it("passes", function() end)
        it("fails", function() assert.equal(1, 2) end)
        it("raises", function() error("broken") end)
      end)
    ]])
    reports(result, { "a passes" }, { "a fails", "a raises" })
    has(result.report, "broken")
  end)

  it("ends with another status when a spec file does not load", function()
    assert.are_not.equal(0, run("this is not Lua").code)
  end)

  it("ends with another status when there is no such file", function()
    assert.are_not.equal(0, host.run({ "test", "--output=TAP", "/no/such/a_spec.lua" }).code)
  end)

  it("finds the specs of a folder", function()
    local folder <close> = scratch.folder({
      ["a_spec.lua"] = "it('in a', function() end)",
      ["b_spec.lua"] = "it('in b', function() end)",
      ["other.lua"] = "it('not a spec', function() end)",
    })
    reports(host.run({ "test", "--output=TAP", folder.path }), { "in a", "in b" }, {})
  end)

  it("looks in spec when it is told nothing", function()
    local folder <close> = scratch.folder({ ["spec/a_spec.lua"] = "it('in spec', function() end)" })
    reports(host.run({ "test", "--output=TAP" }, { cwd = folder.path }), { "in spec" }, {})
  end)

  it("has the globals all and allua in specs", function()
    reports(
      run("it('has them', function() assert(all == allua.all and allua == require('allua')) end)"),
      { "has them" },
      {}
    )
  end)
end)

describe("a spec", function()
  it("waits", function()
    reports(
      run([[
        it("sleeps", function()
          local before = allua.now()
          allua.sleep(0.02)
          assert.is_true(allua.now() - before >= 0.015)
        end)
        it("starts groups", function()
          local function slow() allua.sleep(0.001) return 1 end
          assert.equal(3, all({ sum = function(self) return self.slow + 2 end, slow = slow }).sum)
        end)
        it("waits for luv", function()
          assert.equal("directory", allua.promisify(require("luv").fs_stat)(".").type)
        end)
        it("fails after a wait", function()
          allua.sleep(0.001)
          assert.equal(1, 2)
        end)
      ]]),
      { "sleeps", "starts groups", "waits for luv" },
      { "fails after a wait" }
    )
  end)

  it("waits in setup, before_each, after_each, teardown and finally", function()
    local result = run([[
      describe("a", function()
        local steps = {}
        local function step(name) allua.sleep(0.001) steps[#steps + 1] = name end
        setup(function() step("setup") end)
        before_each(function() step("before") end)
        after_each(function() step("after") end)
        teardown(function() step("teardown") print(table.concat(steps, " ")) end)
        it("runs", function() finally(function() step("finally") end) step("it") end)
      end)
    ]])
    reports(result, { "a runs" }, {})
    has(result.out, "setup before it finally after teardown")
  end)

  it("waits while its file loads and while it is described", function()
    reports(
      run("allua.sleep(0.001) describe('a', function() allua.sleep(0.001) it('runs', function() end) end)"),
      { "a runs" },
      {}
    )
  end)

  it("is a task: it looks to itself as a main chunk does, and spawns", function()
    reports(
      run([[
        it("is a main chunk", function()
          assert.is_true((select(2, coroutine.running())))
          assert.is_false(coroutine.isyieldable())
        end)
        it("spawns", function()
          assert.equal(1, allua.spawn(function() allua.sleep(0.001) return 1 end):await())
        end)
      ]]),
      { "is a main chunk", "spawns" },
      {}
    )
  end)

  it("fails when it can make no progress, and the next one runs", function()
    local result = run([[
      it("is stuck", function() allua.promise():await() end)
      it("goes on", function() allua.sleep(0.001) end)
    ]])
    reports(result, { "goes on" }, { "is stuck" })
    has(result.report, "deadlock")
  end)
end)

describe("what a spec leaves running", function()
  it("fails it, when it is a task", function()
    local result = run([[
      it("leaves a task", function() allua.spawn(allua.sleep, 60) end)
      it("leaves nothing", function() end)
    ]])
    reports(result, { "leaves nothing" }, { "leaves a task" })
    has(result.report, "task")
  end)

  it("fails it, when it is a handle of luv's", function()
    local result = run([[
      it("leaves a timer", function() require("luv").new_timer():start(60000, 0, print) end)
      it("leaves nothing", function() end)
    ]])
    reports(result, { "leaves nothing" }, { "leaves a timer" })
    has(result.report, "handle")
  end)

  it("fails it, when it is a rejection that nobody awaited", function()
    local result = run([[
      it("loses an error", function() allua.spawn(function() error("lost", 0) end) allua.sleep(0.001) end)
      it("loses nothing", function() end)
    ]])
    reports(result, { "loses nothing" }, { "loses an error" })
    has(result.report, "lost")
  end)

  it("fails it, when it is a virtual clock, and the next test has the machine's", function()
    local result = run([[
      it("leaves a clock", function() allua.clock.virtual() end)
      it("has real time", function() assert.is_false(allua.clock.is_virtual()) end)
    ]])
    reports(result, { "has real time" }, { "leaves a clock" })
    has(result.report, "left open: a virtual clock")
  end)

  it("does not fail it, when all has ended with it", function()
    reports(
      run([[
        it("ends its task", function() allua.spawn(allua.sleep, 0.001):await() end)
        it("cancels its task", function()
          local task = allua.spawn(allua.sleep, 60)
          task:cancel()
          pcall(task.await, task)
        end)
        it("closes its timer", function()
          local timer = require("luv").new_timer()
          timer:start(60000, 0, print)
          timer:close()
        end)
        it("had a group fail", function()
          pcall(all, { function() error("no") end, function() allua.sleep(60) end })
        end)
      ]]),
      { "ends its task", "cancels its task", "closes its timer", "had a group fail" },
      {}
    )
  end)

  it("is ended before the next one begins", function()
    reports(
      run([[
        local ended
        it("leaves a task", function()
          allua.spawn(function()
            local guard <close> = setmetatable({}, { __close = function() ended = true end })
            allua.sleep(60)
          end)
          allua.yield()
        end)
        it("comes after", function() assert.is_true(ended) end)
      ]]),
      { "comes after" },
      { "leaves a task" }
    )
  end)
end)

describe("--virtual-time", function()
  it("gives each test, its before_each and after_each, a clock of its own that begins at 0", function()
    local result = run(
      [[
        describe("a", function()
          before_each(function() allua.sleep(1000) end)
          after_each(function() allua.sleep(1000) print("ends at " .. allua.now()) end)
          it("sleeps", function() allua.sleep(3600) assert.equal(4600, allua.now()) end)
          it("begins anew", function() assert.equal(1000, allua.now()) end)
          it("advances", function() allua.clock.advance(5) assert.equal(1005, allua.now()) end)
        end)
        it("waits for the real", function()
          local first = allua.race({
            function() allua.promisify(require("luv").fs_stat)(".") return "real" end,
            function() allua.sleep(1e-9) return "virtual" end,
          })
          assert.equal("real", first)
        end)
      ]],
      "--virtual-time"
    )
    reports(result, { "a sleeps", "a begins anew", "a advances", "waits for the real" }, {})
    has(result.out, "ends at 5600.0")
    has(result.out, "ends at 2000.0")
  end)

  it("leaves --timeout in seconds of the machine's", function()
    local seconds = size.full and 0.5 or 10.0
    local result = run(
      [[
        it("sleeps long", function() allua.sleep(1e6) end)
        it("hangs", function()
          local timer = require("luv").new_timer()
          local _ <close> = setmetatable({}, { __close = function() timer:close() end })
          timer:start(1000000, 0, print)
          allua.sleep(1)
        end)
      ]],
      "--virtual-time",
      "--timeout=" .. seconds
    )
    reports(result, { "sleeps long" }, { "hangs" })
    has(result.report, ("timed out after %s s"):format(seconds))
  end)

  it("still finds a test that can make no progress", function()
    reports(run("it('is stuck', function() allua.sleep(5) allua.promise():await() end)", "--virtual-time"), {}, {
      "is stuck",
    })
  end)

  it("is told of by --help", function()
    has(host.run({ "test", "--help" }).out, "--virtual-time")
  end)
end)

describe("busted's options", function()
  local two = [[
    describe("group", function()
      it("first #tagged", function() print("ran first") end)
      it("second", function() print("ran second") end)
    end)
  ]]

  it("choose specs by name and by tag", function()
    reports(run(two, "--filter=second"), { "group second" }, {})
    reports(run(two, "--tags=tagged"), { "group first #tagged" }, {})
    reports(run(two, "--exclude-tags=tagged"), { "group second" }, {})
  end)

  it("list specs without running them", function()
    local result = run(two, "--list")
    assert.equal(0, result.code)
    has(result.out, "second")
    assert.is_nil(result.out:find("ran second", 1, true))
  end)

  it("repeat specs", function()
    local result = run("it('again', function() allua.sleep(0.001) print('ran') end)", "--repeat=3")
    assert.equal(0, result.code)
    assert.equal(3, select(2, result.out:gsub("ran\n", "")))
  end)

  it("choose the form of the report", function()
    local folder <close> = scratch.folder({ ["a_spec.lua"] = "it('passes', function() end)" })
    local result = host.run({ "test", "--output=json", folder:at("a_spec.lua") })
    assert.equal(0, result.code)
    assert.equal("passes", require("cjson").decode(result.out).successes[1].name)
  end)

  it("load a helper first", function()
    local folder <close> = scratch.folder({
      ["helper.lua"] = "allua.sleep(0.001) helped = true",
      ["a_spec.lua"] = "it('is helped', function() assert.is_true(helped) end)",
    })
    reports(
      host.run({ "test", "--output=TAP", "--helper=" .. folder:at("helper.lua"), folder:at("a_spec.lua") }),
      { "is helped" },
      {}
    )
  end)

  it("that it does not know are an error", function()
    assert.are_not.equal(0, host.run({ "test", "--no-such-option" }).code)
  end)
end)
