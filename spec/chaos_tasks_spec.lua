-- Tasks that do anything, in groups of all kinds inside one another; see spec/support/chaos.lua.
local host = require("spec.support.host")
local size = require("spec.support.size")

describe("tasks that do anything", function()
  local given = math.tointeger(os.getenv("ALLUA_CHAOS_SEED"))
  for _, seed in ipairs(given and { given } or { 1, 2, 3 }) do
    it("end with their groups, seed " .. seed, function()
      local result = host.run({ "spec/support/chaos.lua", tostring(seed), tostring(size.of(200)) })
      assert.equal(0, result.code, result.err)
      assert.is_true(math.tointeger(result.out) > 0)
    end)

    it("do while they are traced, seed " .. seed, function()
      local args = { "--trace", "/dev/null", "--waterfall", "spec/support/chaos.lua", tostring(seed) }
      table.insert(args, tostring(size.of(50)))
      local result = host.run(args)
      assert.equal(0, result.code, result.err)
      assert.is_true(math.tointeger(result.out) > 0)
    end)
  end
end)
