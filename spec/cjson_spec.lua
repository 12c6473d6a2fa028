-- require "cjson" in the host: there, with nothing to install beside it.

local allua = require("allua")
local cjson = require("cjson")
local errors = require("spec.support.errors")
local host = require("spec.support.host")

require("spec.support.leftovers")()

describe("cjson", function()
  it("encodes and decodes", function()
    local value = { name = "ann", list = { 1, 2.5, true, "x" }, none = cjson.null, nested = { deep = { "é" } } }
    assert.same(value, cjson.decode(cjson.encode(value)))
    assert.equal('["a","b"]', cjson.encode({ "a", "b" }))
    assert.equal(cjson.null, cjson.decode("null"))
  end)

  it("raises on what is no JSON", function()
    assert.matches("Expected", errors.raised(cjson.decode, '{"a":'), 1, true)
  end)

  it("has a safe form, which returns its errors", function()
    local safe = require("cjson.safe")
    local value, err = safe.decode("{")
    assert.is_nil(value)
    assert.is_string(err)
    assert.same({ 1 }, safe.decode("[1]"))
  end)

  it("is part of the program: no file of its own is needed", function()
    local got = host.eval(
      [[
        package.path, package.cpath = "", ""
        print(require("cjson").encode({ 1, 2 }), require("cjson.safe").decode("{") == nil)
      ]],
      { env = { LUA_PATH = "/nowhere/?.lua", LUA_CPATH = "/nowhere/?.so" } }
    )
    assert.equal("[1,2]\ttrue\n", got.out)
    assert.equal("", got.err)
    assert.same({ 0, 0 }, { got.code, got.signal })
  end)

  it("takes part in tasks as any code does", function()
    local result = allua.all({
      text = function()
        allua.yield()
        return '{"id":7}'
      end,
      id = function(self)
        return cjson.decode(self.text).id
      end,
    })
    assert.equal(7, result.id)
  end)
end)
