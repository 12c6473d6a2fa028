-- JSON as fetch reads and writes it.

local allua = require("allua")
local core = require("allua.core")
local errors = require("spec.support.errors")

require("spec.support.leftovers")()

local encode, decode = core.json_encode, core.json_decode

describe("JSON", function()
  it("comes back as it was", function()
    for _, text in ipairs({
      "null",
      "true",
      "false",
      "0",
      "-1",
      "9223372036854775807",
      "-9223372036854775808",
      "0.1",
      "1e+300",
      '""',
      '"é😀"',
      '"\\u0000\\u001f\\"\\\\\\n"',
      "[]",
      "{}",
      "[[],{}]",
      '[1,"a",null,{"b":[]}]',
    }) do
      assert.equal(text, encode(decode(text)))
    end
  end)

  it("keeps integers, and reads larger numbers as floats", function()
    assert.equal("integer", math.type(decode("7")))
    assert.equal("float", math.type(decode("7.0")))
    assert.equal(1e19, decode("10000000000000000000"))
    assert.equal(1e300, decode("1" .. ("0"):rep(300)))
    assert.equal("0.30000000000000004", encode(0.1 + 0.2))
    assert.equal("2.0", tostring(decode(encode(2.0)) + 0.0))
  end)

  it("reads escapes, pairs of them, and halves of pairs", function()
    assert.equal('"\\/\b\f\n\r\té😀', decode('"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00"'))
    assert.equal("\u{FFFD}x\u{FFFD}\u{FFFD}", decode('"\\ud800x\\udc00\\ud800"'))
    assert.equal("\u{FFFD}\n", decode('"\\ud800\\n"'))
  end)

  it("reads space anywhere, and a byte order mark", function()
    assert.same({ a = { 1, 2 } }, decode('\u{FEFF} \t\r\n{ "a" : [ 1 , 2 ] } '))
  end)

  local wrong = {
    [""] = "byte 1: expected a value, found the end",
    ["[1,]"] = "byte 4: expected a value, found ']'",
    ['{"a":1,}'] = "byte 8: expected a name in quotes, found '}'",
    ["{a:1}"] = "byte 2: expected a name in quotes, found 'a'",
    ["01"] = "byte 2: expected the end, found '1'",
    ["1."] = "byte 3: expected a digit, found the end",
    ["+1"] = "byte 1: expected a value, found '+'",
    ["nul"] = "byte 1: expected a value",
    ["NaN"] = "byte 1: expected a value",
    ['"\n"'] = "byte 2: expected the end of the string, found a control character",
    ['"\\x"'] = "byte 3: expected an escape sequence, found 'x'",
    ['"\\u12G4"'] = "byte 6: expected a hexadecimal digit, found 'G'",
    ['"abc'] = "byte 5: expected the end of the string, found the end",
    ["[1] 2"] = "byte 5: expected the end, found '2'",
    ["[1\0]"] = "byte 3: expected ',' or ']', found a control character",
    [("["):rep(100000)] = "expected fewer than 500 levels",
  }
  for text, words in pairs(wrong) do
    it(("is not %q"):format((text:sub(1, 20):gsub("%c", "?"))), function()
      assert.is_true(errors.says(errors.raised(decode, text), words))
    end)
  end

  it("survives any bytes", function()
    local seed = '{"a":[1,-2.5e3,"x\\u00e9\\n",null,true],"b":{"c":[]}}'
    for _ = 1, 20000 do
      local at = math.random(#seed)
      local text = seed:sub(1, at - 1) .. string.char(math.random(0, 255)) .. seed:sub(at + math.random(0, 2))
      local ok, value = pcall(decode, text)
      if ok then
        encode(value)
      end
    end
  end)

  it("is not made of what it cannot say", function()
    local circle = {}
    circle[1] = circle
    for words, value in pairs({
      ["one inside itself"] = circle,
      ["a table with holes"] = { 1, nil, 3 },
      ["both items and names"] = { 1, a = 2 },
      ["are strings (got true)"] = { [true] = 1 },
      ["a function is no JSON"] = { print },
      ["JSON has no way to say inf"] = { 1 / 0 },
      ["a userdata is no JSON"] = { io.stdout },
    }) do
      assert.is_true(errors.says(errors.raised(encode, value), words), words)
    end
  end)

  it("has allua.null, which is cjson's", function()
    assert.equal(require("cjson").null, allua.null)
    assert.equal('{"a":null}', encode({ a = allua.null }))
  end)
end)
