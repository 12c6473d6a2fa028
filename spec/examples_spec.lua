-- Every example runs, and prints what it should.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local uv = require("luv")

require("spec.support.leftovers")()

local fetch = allua.fetch

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

  it("load is faster with each approach, and shows the last", function()
    local result = example("load")
    assert.equal(0, result.code, result.err)
    local line = "%s+(%d+) ms  #+%s+profile 7, dark"
    prints(
      { code = 0, err = "", out = result.out },
      { { "sequential" .. line }, { "partly parallel" .. line }, { "all{}" .. line } }
    )
    local times = {}
    for time in result.out:gmatch("(%d+) ms") do
      times[#times + 1] = tonumber(time)
    end
    assert.is_true(times[1] > times[2] and times[2] > times[3], result.out)
    for _, name in ipairs({ "config", "user", "profile", "preferences", "dashboard" }) do
      assert.matches(name, result.err)
    end
  end)

  it("dashboard/demo loads the dashboard by three approaches, and from its server", function()
    local result = example("dashboard/demo")
    assert.equal(0, result.code, result.err)
    local line = "%s+(%d+) ms  Ada Lovelace, 10 posts, 1287 visitors"
    prints({ code = 0, err = "", out = result.out }, {
      { "sequential" .. line },
      { "partly parallel" .. line },
      { "all{}" .. line },
      { "its server gave a page of %d+ bytes at http://127.0.0.1:%d+/; .*" },
    })
    assert.matches("analytics +user", result.err)
  end)

  it("dashboard/server answers whom it knows, card by card, and sees who leaves", function()
    local child <close> = host.start({ "examples/dashboard/server.lua", "--latency", "0.05" })
    child:wait_for("/\n")
    local url = child.out:match("http%S+")
    assert.equal(401, errors.raised(fetch, url .. "api/dashboard").status)
    local cookie = fetch.raw(url).headers["set-cookie"]:match("^[^;]+")
    local api = fetch.with({ base_url = url, headers = { Cookie = cookie } })
    local forged = { Cookie = (cookie:gsub("=1%.", "=2.")) }
    assert.equal(401, errors.raised(api, "/api/dashboard", { headers = forged }).status)
    local signed = cookie:match("%x+$")
    local wrongs = { "", "1.", "1." .. signed:sub(2), "01." .. signed, "1." .. signed .. "0", "2." .. signed }
    for _, wrong in ipairs(wrongs) do
      forged.Cookie = "session=" .. wrong
      assert.equal(401, errors.raised(api, "/api/cards/user", { headers = forged }).status, wrong)
    end
    local dashboard = api("/api/dashboard")
    assert.equal("Ada Lovelace", dashboard.user.name)
    assert.equal(10, #dashboard.posts)
    local seen = {}
    for name in api("/api/dashboard/events"):gmatch('"name":"(%l+)"') do
      seen[name] = true
    end
    assert.same({ user = true, config = true, posts = true, analytics = true }, seen)
    assert.equal("Ada Lovelace", api("/api/cards/user").data.name)
    assert.equal(404, errors.raised(api, "/api/cards/nothing").status)
    do
      local response <close> = api.raw("/api/dashboard/events")
      response:chunks()()
    end
    child:wait_for("events broke off: its client has left")
    child:kill("sigterm")
    assert.equal(0, child:wait().code)
  end)

  it("dashboard/server leaves no analytics behind, however it ends", function()
    local child <close> = host.start({ "examples/dashboard/server.lua", "--latency", "0" })
    child:wait_for("/\n")
    child:kill("sigkill")
    child:wait() -- until nobody holds its standard error: its analytics do as well
  end)

  it("dashboard/server says how it is called", function()
    for _, wrong in ipairs({ { "--port", "abc" }, { "--latency", "-1" }, { "--nope", "1" }, { "--port" } }) do
      local result = host.run({ "examples/dashboard/server.lua", table.unpack(wrong) })
      assert.equal(2, result.code, wrong[1])
      assert.matches("^usage: server%.lua %[%-%-db URL%]", result.err)
    end
  end)

  -- Calls fn with what asks the dashboard as a user whom it has seen, and with its analytics, started with `args`.
  local function with_dashboard(args, fn)
    local analytics <close> = host.start({ "examples/dashboard/analytics.lua", table.unpack(args) })
    analytics:wait_for("\n")
    local place = analytics.out:match("http%S+")
    local child <close> = host.start({ "examples/dashboard/server.lua", "--latency", "0", "--analytics", place })
    child:wait_for("/\n")
    local url = child.out:match("http%S+")
    local cookie = fetch.raw(url).headers["set-cookie"]:match("^[^;]+")
    fn(fetch.with({ base_url = url, headers = { Cookie = cookie } }), analytics)
  end

  it("dashboard/server holds nothing up for analytics that are slow", function()
    with_dashboard({ "--fail", "0", "--slow", "1" }, function(api)
      local order = {}
      local outcome = allua.all({
        events = function()
          for name in api("/api/dashboard/events"):gmatch('"name":"(%l+)"') do
            order[#order + 1] = name
          end
        end,
        whole = function()
          return api("/api/dashboard")
        end,
      })
      assert.equal(4, #order)
      assert.equal("analytics", order[4])
      assert.equal(14, #outcome.whole.analytics.days)
      assert.equal("Ada Lovelace", outcome.whole.user.name)
    end)
  end)

  it("dashboard/server says of analytics that fail that they do, on the card and of the whole", function()
    with_dashboard({ "--fail", "1", "--slow", "0" }, function(api, analytics)
      local err = errors.raised(api, "/api/dashboard")
      assert.same({ 502, "the analytics are being counted anew" }, { err.status, err.data.error })
      assert.equal("the analytics are being counted anew", api("/api/cards/analytics").error)
      assert.equal("Ada Lovelace", api("/api/cards/user").data.name)
      local events = api("/api/dashboard/events")
      assert.matches('"error":"the analytics are being counted anew"', events)
      assert.equal(4, select(2, events:gsub("event: card", "")))
      analytics:kill("sigkill") -- and where there is nobody
      analytics:wait()
      assert.matches("could not be loaded", api("/api/cards/analytics").error)
      assert.equal(502, errors.raised(api, "/api/dashboard").status)
    end)
  end)

  it("proxy streams what its origin sends, keeps what it may, and says when there is no origin", function()
    local asked = {}
    local origin = allua.serve({
      routes = {
        ["GET /kept"] = function(event)
          asked[#asked + 1] = "kept"
          event:header("Cache-Control", "max-age=60")
          event:header("X-Own", "1")
          return "page " .. event.query.n
        end,
        ["GET /own"] = function(event)
          event:header("Cache-Control", "max-age=60")
          return event.headers.authorization or "nobody's"
        end,
        ["GET /varies"] = function(event)
          event:header("Cache-Control", "max-age=60")
          event:header("Vary", "Accept-Language")
          return event.headers["accept-language"]
        end,
        ["GET /fresh"] = function()
          asked[#asked + 1] = "fresh"
          return { at = #asked }
        end,
        ["POST /echo"] = function(event)
          return event.headers["content-type"] .. ": " .. event:body()
        end,
        ["GET /slow"] = function(event)
          return event:stream(function(write)
            write("first")
            allua.sleep(60)
          end)
        end,
        ["GET /away"] = function(event)
          return event:redirect("/kept?n=1")
        end,
      },
    })
    local child <close> = host.start({ "examples/proxy.lua", origin.url })
    child:wait_for("\n")
    local api = fetch.with({ base_url = child.out:match("%S+"), redirects = false })
    for _, expected in ipairs({ "miss", "hit", "hit" }) do
      local response = api.raw("/kept?n=1")
      assert.same(
        { expected, "1", "page 1" },
        { response.headers["x-cache"], response.headers["x-own"], response.body }
      )
    end
    assert.equal("page 2", api("/kept?n=2"))
    assert.equal("mine", api("/own", { headers = { Authorization = "mine" } }))
    assert.equal("nobody's", api("/own"))
    for _, language in ipairs({ "de", "fr" }) do
      assert.equal(language, api("/varies", { headers = { ["Accept-Language"] = language } }))
    end
    assert.same({ 3, 4 }, { api("/fresh").at, api("/fresh").at })
    assert.equal("text/x: a=1", api("/echo", { body = "a=1", headers = { ["Content-Type"] = "text/x" } }))
    assert.equal("/kept?n=1", api.raw("/away").headers.location)
    assert.equal(404, errors.raised(api, "/nowhere").status)
    do
      local response <close> = api.raw("/slow")
      assert.equal("first", response:chunks()()) -- before the rest is there
    end
    origin:close()
    assert.equal(502, errors.raised(api, "/fresh").status)
    child:kill("sigterm")
    assert.equal(0, child:wait().code)
  end)

  it("of a server says how it is called where it is called otherwise, or its port is in use", function()
    for _, case in ipairs({
      { "events", "--help" },
      { "events", "http" },
      { "events", "1", "2" },
      { "proxy" },
      { "proxy", "--help" },
      { "proxy", "localhost" },
      { "proxy", "http://h/", "http" },
      { "mirror" },
      { "mirror", "--help" },
    }) do
      local result = host.run({ ("examples/%s.lua"):format(case[1]), table.unpack(case, 2) })
      assert.same({ 2, "" }, { result.code, result.out })
      assert.matches(("^usage: %s%%.lua [^\n]*\n$"):format(case[1]), result.err)
    end
    local other = allua.serve({ routes = {} })
    for _, args in ipairs({ { "events.lua" }, { "proxy.lua", "http://h/" } }) do
      args[1], args[#args + 1] = "examples/" .. args[1], tostring(other.port)
      local result = host.run(args)
      assert.same({ 1, "" }, { result.code, result.out })
      assert.matches("cannot listen at 127.0.0.1, port %d+: address already in use\n", result.err)
    end
    other:close()
  end)

  it("of a server ends at Ctrl-C, without a word", function()
    for _, args in ipairs({ { "events.lua" }, { "proxy.lua", "http://127.0.0.1:1" } }) do
      local child <close> = host.start({ "examples/" .. args[1], args[2] })
      child:wait_for("\n")
      child:kill("sigint")
      local result = child:wait()
      assert.same({ 130, "" }, { result.code, result.err })
    end
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
    local tested =
      "cache_or_fetch cancel dashboard dashboard embed events generators hello load mirror proxy report settled stock"
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
