local host = require("spec.support.host")
require("spec.support.leftovers")()

-- Runs the code, and gives what came to standard error, where the charts are printed.
local function chart(code)
  local result = host.eval(code)
  assert.equal("", result.out)
  assert.equal(0, result.code, result.err)
  return result.err
end

-- The line of a chart that begins with this name.
local function line_of(name, text)
  for line in text:gmatch("[^\n]+") do
    if line:match("^%W*" .. name .. "%f[%W]") then
      return line
    end
  end
  error(("no line for %s in:\n%s"):format(name, text), 2)
end

describe("option debug", function()
  it("prints each task and its duration to standard error when the group ends", function()
    local text = chart([[
      all({
        user = function() allua.sleep(0.02) return 1 end,
        profile = function(self) local _ = self.user allua.sleep(0.02) end,
        quick = function() end,
      }, { debug = true })
    ]])
    for _, name in ipairs({ "user", "profile", "quick" }) do
      assert.matches("%d", line_of(name, text))
    end
  end)

  it("prints on failure, too", function()
    local text = chart([[
      pcall(all, {
        bad = function() allua.sleep(0.01) error("boom") end,
        victim = function() allua.sleep(60) end,
      }, { debug = true })
    ]])
    for _, name in ipairs({ "bad", "victim" }) do
      assert.matches("%d", line_of(name, text))
    end
  end)

  it("prints for each kind of group", function()
    for _, kind in ipairs({ "all_settled", "flow", "race", "any" }) do
      local text = chart(([[
        allua.%s({ lynx = function() allua.sleep(0.001) end, otter = allua.yield }, { debug = true })
      ]]):format(kind))
      assert.matches("%d", line_of("lynx", text))
      assert.matches("%d", line_of("otter", text))
    end
    local text = chart([[
      for _ in allua.each({ lynx = allua.yield }, { debug = true }) do end
    ]])
    assert.matches("%d", line_of("lynx", text))
    text = chart([[
      allua.map({ "a" }, function() allua.yield() end, { debug = true })
    ]])
    assert.matches("%d", line_of("1", text))
  end)

  it("prints the group's name", function()
    local text = chart([[
      all({ allua.yield }, { debug = true, name = "dashboard" })
    ]])
    assert.matches("dashboard", text, 1, true)
  end)

  it("shows what its tasks began, indented, but for groups with debug = false", function()
    local text = chart([[
      all({
        outer = function() all({ inner = allua.yield }) end,
        other = function() all({ second = allua.yield }, { debug = false }) end,
      }, { debug = true })
      all({ third = allua.yield })
    ]])
    line_of("outer", text)
    line_of("other", text)
    assert.matches("\n  inner ", text)
    assert.not_matches("second", text, 1, true)
    assert.not_matches("third", text, 1, true)
  end)

  it("prints nothing to standard output and changes no result", function()
    local result = host.eval([[
      io.write(all({
        a = function() return 1 end,
        b = function(self) return self.a + 1 end,
      }, { debug = true }).b)
      local _, failure = pcall(all, { a = function() error("boom", 0) end }, { debug = true })
      io.write(failure)
    ]])
    assert.equal("2boom", result.out)
  end)

  it("prints names of any bytes, and very many tasks", function()
    local result = host.eval([[
      all({ ["a\0b\n\27[2J"] = allua.yield, [""] = allua.yield, ["t\u{e4}sk"] = allua.yield }, { debug = true })
      local tasks = {}
      for i = 1, 1000 do tasks[i] = allua.yield end
      all(tasks, { debug = true })
      all({}, { debug = true })
    ]])
    assert.equal(0, result.code, result.err)
    assert.matches("t\u{e4}sk", result.err, 1, true)
    assert.not_matches("\27[2J", result.err, 1, true)
  end)

  it("prints nothing for a group that was refused", function()
    assert.equal("", chart([[ pcall(all, { 1 }, { debug = true }) ]]))
  end)

  it("tells what a task waited for, and what the first step of the critical path costs", function()
    local text = chart([[
      all({
        user = function() allua.sleep(0.03) end,
        page = function(self) return self.user end,
      }, { debug = true })
      allua.map({ 1, 2 }, function() allua.sleep(0.02) end, { debug = true, concurrency = 1 })
    ]])
    assert.matches("▒", line_of("user", text), 1, true)
    assert.matches("░", line_of("page", text), 1, true)
    assert.matches("·", line_of("2", text), 1, true)
    assert.matches("critical path: user .- → page .- %% of the total", text)
    assert.matches("were user instant: .- saved", text)
    assert.not_matches("\27", text, 1, true)
  end)

  it("is printed for every outermost group by --waterfall, and by ALLUA_WATERFALL=1", function()
    local code = [[
      all({ outer = function() all({ inner = function() allua.sleep(0.01) end }, { name = "nested" }) end },
        { name = "first" })
      allua.all_settled({ fails = function() error("no") end }, { name = "second" })]]
    local by_option = host.run({ "--waterfall", "-e", code })
    local by_environment = host.run({ "-e", code }, { env = { ALLUA_WATERFALL = "1" } })
    local without = host.run({ "-e", code }, { env = { ALLUA_WATERFALL = "0" } })
    for _, result in ipairs({ by_option, by_environment }) do
      assert.equal(0, result.code)
      assert.matches("all first: .*\nall_settled second: ", result.err)
      assert.is_nil(result.err:find("nested", 1, true))
      assert.is_nil(result.err:find("\27", 1, true)) -- no colours into a pipe
    end
    assert.equal("", without.err)
  end)
end)
