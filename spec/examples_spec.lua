-- Every example runs, and prints what it should.

local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local uv = require("luv")

require("spec.support.leftovers")()

-- Where the program under test stands, the libraries stand too.
local build = host.program:match("^(.*)/") or "."

local function escaped(text)
  return (text:gsub("%p", "%%%0"))
end

-- The output must be these lines: a string as it stands, or {pattern}.
local function prints(result, expected)
  assert.equal("", result.err)
  assert.equal(0, result.code)
  local line = 0
  for text in result.out:gmatch("([^\n]*)\n") do
    line = line + 1
    local pattern = expected[line]
    pattern = type(pattern) == "table" and pattern[1] or escaped(pattern or "(nothing more)")
    assert(
      text:find("^" .. pattern .. "$"),
      ("line %d is %q and not %q in:\n%s"):format(line, text, pattern, result.out)
    )
  end
  assert.equal(#expected, line, result.out)
end

local function example(name)
  return host.run({ "examples/" .. name .. ".lua" })
end

describe("the example", function()
  it("hello greets", function()
    prints(example("hello"), { "Hello, world!" })
  end)

  it("dashboard is faster with each approach", function()
    local result = example("dashboard")
    local line = "%s+(%d+) ms  #+%s+Countess of Lovelace %(en, dark%)"
    prints(result, { { "sequential" .. line }, { "partly parallel" .. line }, { "all{}" .. line } })
    local times = {}
    for time in result.out:gmatch("(%d+) ms") do
      times[#times + 1] = tonumber(time)
    end
    assert.is_true(times[1] > times[2] and times[2] > times[3], result.out)
  end)

  it("settled says how each task went", function()
    prints(example("settled"), {
      "stock  fulfilled  12",
      "price  rejected   the price service is down",
      "label  rejected   the price service is down (from price)",
      "shelf  fulfilled  12 left, ask for the price",
    })
  end)

  it("cache_or_fetch takes the first answer", function()
    prints(example("cache_or_fetch"), {
      "first time:",
      { "  the page at /index, from the origin %(%d+ ms%)" },
      "second time:",
      "  the origin need not answer any more",
      { "  the page at /index, from the cache %(%d+ ms%)" },
    })
  end)

  it("cancel stops what is not needed", function()
    prints(example("cancel"), {
      "a failure cancels the other tasks, and comes out as it was raised:",
      "  compile: done",
      "  package: stopped early",
      "  raised:\tcannot link what compile made",
      "a deadline covers all that a function does:",
      "  fast: done",
      "  slow: stopped early",
      "  raised:\tfalse\ttrue",
      "a signal from outside, say of a user who went away:",
      "  answer: stopped early",
      "  raised:\tthe user left",
      "what must not be left half done is shielded:",
      "  transfer: rolled back",
      "  raised:\tCancelledError\tchanged my mind",
    })
  end)

  it("generators waits inside generators", function()
    prints(example("generators"), {
      "list:   \t1 2 3 4 5 6 7",
      "squares:\t1 4 9 16 25 36 49",
      "first:\tquick",
      "second:\tmiddling",
      "third:\tslow",
    })
  end)

  it("report reports on a checkout, whatever fails beside", function()
    local folder <close> = scratch.folder({ ["a.lua"] = "print(1)\nprint(2)\n", ["b.txt"] = "one\n" })
    for _, command in ipairs({
      { "init", "--quiet", "--initial-branch=trunk" },
      { "add", "." },
      { "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "-m", "the first" },
    }) do
      assert.equal(0, host.run(command, { program = "git", cwd = folder.path }).code)
    end
    local result = host.run({ "examples/report.lua", folder.path })
    assert.equal("", result.err)
    assert.equal(0, result.code)
    for _, words in ipairs({
      "MACHINE",
      "CHECKOUT",
      "trunk",
      "the first",
      "LINES BY KIND OF FILE",
      "2 in 1 file",
      "PEOPLE",
      "Ada",
      "3 lines in 2 files; 1 commit by 1 person",
      "DONE WITHOUT",
      "upstream",
      "All at once, the work took",
      "Its parts, one at a time, add up to",
    }) do
      assert(result.out:find(words, 1, true), ("no %q in:\n%s"):format(words, result.out))
    end
  end)

  it("report says what it has to do without where there is no checkout", function()
    local folder <close> = scratch.folder()
    local result = host.run(
      { "examples/report.lua", folder.path },
      { env = { GIT_CEILING_DIRECTORIES = uv.os_tmpdir() } }
    )
    assert.equal(0, result.code)
    assert(result.out:find("MACHINE", 1, true), result.out)
    assert(result.out:find("not a git repository", 1, true), result.out)
  end)

  it("stock runs in a stock Lua", function()
    local lua = os.getenv("LUA") or "lua5.4" -- make names another where that needs help to load the module
    local environment = { LUA_CPATH = build .. "/lua/?.so;;" }
    prints(host.run({ "-c", lua .. " examples/stock.lua" }, { program = "sh", env = environment }), {
      "sum:\t42",
      "both at once:\ttrue",
      "a directory:\tdirectory",
      "luv's timer:\ttick",
      "values:\t2\ta\tb",
    })
  end)

  it("embed is built against an installed allua, and runs", function()
    local stage = build .. "/stage"
    local folder <close> = scratch.folder()
    local out = folder:at("sensor")
    local made = host.run({ "-C", "examples/embed", "OUT=" .. out }, {
      program = "make",
      env = { PKG_CONFIG_PATH = stage .. "/lib/pkgconfig", MAKEFLAGS = false, MAKELEVEL = false },
    })
    assert.equal("", made.err)
    assert.equal(0, made.code, made.out)
    prints(host.run({ "examples/embed/sensor.lua" }, { program = out, env = { LD_LIBRARY_PATH = stage .. "/lib" } }), {
      "kitchen  21.50 degrees",
      "cellar   12.00 degrees",
      "attic    17.25 degrees",
      "mean     16.92 degrees",
      "three at once:\ttrue",
      "too late:\tfalse\ttrue",
      { "unknown:\tfalse\tbad argument #1 to '%S+' %(invalid option 'garage'%)" },
      "the program's own timer went on: yes",
    })
  end)

  it("events sends each client its events, and forgets it when it leaves", function()
    local result = host.run({
      "-e",
      [[
        local uv = require("luv")
        local say, url = print, allua.promise()
        arg = {}
        print = function(text) url:resolve(text) end
        dofile("examples/events.lua")
        local port = url:await():match(":(%d+)/")
        local tcp, got = uv.new_tcp(), allua.promise()
        tcp:connect("127.0.0.1", tonumber(port), function()
          tcp:write("GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
          tcp:read_start(function(_, data) got:resolve(data) end)
        end)
        say((got:await():match("data: [^\n]*")))
        tcp:close()
        os.exit(0)
      ]],
    })
    prints(result, { { 'data: {.*"clients":1.*}' } }) -- cjson's order is any
  end)

  it("is one of these: none goes untested", function()
    local tested = "cache_or_fetch cancel dashboard embed events generators hello report settled stock"
    local found = {}
    local entries = uv.fs_scandir("examples")
    local name = uv.fs_scandir_next(entries)
    while name do
      found[#found + 1] = name:gsub("%.lua$", "")
      name = uv.fs_scandir_next(entries)
    end
    table.sort(found)
    assert.equal(tested, table.concat(found, " "))
  end)
end)
