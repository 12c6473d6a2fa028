local allua = require("allua")
local cjson = require("cjson")
local host = require("spec.support.host")
require("spec.support.leftovers")()

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

-- Runs the code with --trace, and gives the result, the file's text and path.
local function traced(code, options)
  local path = os.tmpname()
  local result = host.run({ "--trace", path, "-e", code }, options)
  local text = read(path)
  os.remove(path)
  return result, text
end

local PHASES = { B = true, E = true, i = true, s = true, f = true, M = true, C = true }
local METADATA = { process_name = "name", thread_name = "name", thread_sort_index = "sort_index" }

-- The events of a trace, checked against the rules of the format.
local function events_of(text, cut)
  local events = cjson.decode(cut and text .. "]" or text)
  local open, last, flows, named, placed = {}, {}, {}, {}, {}
  for _, event in ipairs(events) do
    local track = event.tid
    assert(PHASES[event.ph], "an unknown phase")
    assert.equal("integer", math.type(math.tointeger(track)))
    assert.equal(1, event.pid)
    assert(type(event.ts) == "number" and event.ts >= 0)
    open[track] = open[track] or {}
    if event.ph == "M" then
      assert.is_not_nil(event.args[METADATA[event.name]])
      named[track] = named[track] or event.name == "thread_name"
      -- In the order in which the tasks began.
      placed[track] = placed[track] or event.args.sort_index == track
    else
      assert(event.ts >= (last[track] or 0), "time goes back")
      last[track] = event.ts
      assert(named[track] and placed[track], "a track without a name or a place")
    end
    if event.ph ~= "E" then
      assert.is_string(event.name)
      assert(event.ph == "M" or event.ph == "C" or type(event.cat) == "string")
    end
    if event.ph == "B" then
      table.insert(open[track], event)
    elseif event.ph == "E" then
      local begun = assert(table.remove(open[track]), "an end without a beginning")
      assert(event.name == nil or event.name == begun.name)
    elseif event.ph == "i" then
      assert(event.s == "t" or event.s == "p" or event.s == "g")
    elseif event.ph == "C" then
      assert.is_number(select(2, next(event.args)))
    elseif event.ph == "s" then
      assert.is_nil(flows[event.id])
      -- An arrow begins in what encloses it, and ends in that too ("e") or in what begins next.
      assert(#open[track] > 0, "an arrow from nowhere")
      flows[event.id] = "open"
    elseif event.ph == "f" then
      assert.equal("open", flows[event.id])
      assert(event.bp == nil or event.bp == "e" and #open[track] > 0)
      flows[event.id] = "closed"
    end
  end
  for track, spans in pairs(open) do
    assert(cut or #spans == 0, ("%d spans stay open on track %d"):format(#spans, track))
  end
  for _, state in pairs(flows) do
    assert(cut or state == "closed")
  end
  return events
end

local function find(events, fields)
  for _, event in ipairs(events) do
    local same = true
    for name, value in pairs(fields) do
      same = same and event[name] == value
    end
    if same then
      return event
    end
  end
  error("no such event: " .. cjson.encode(fields), 2)
end

describe("trace", function()
  it("has a track for each task, with spans, waits and arrows that pair", function()
    local result, text = traced([[
      pcall(all, {
        user = function() allua.sleep(0.01) return 1 end,
        page = function(self) return self.user end,
        bad = function() allua.sleep(0.5) error("no </script> \255") end,
        victim = function() allua.sleep(60) end,
      }, { name = "first" })
      allua.map({ 1, 2, 3 }, function() allua.yield() end, { concurrency = 1 })
      allua.spawn(function() all({ allua.yield, function() coroutine.wrap(allua.sleep)(0) end }) end)
      for _ in allua.each({ allua.yield, allua.yield }) do end
      allua.spawn(function() allua.spawn(allua.sleep, 60) end)
      allua.race({ function() return 1 end, function() allua.sleep(60) end })
      pcall(allua.timeout, 0.01, allua.sleep, 60)
      print(allua.trace.span("mine", function(...) allua.sleep(0.001) return ... end, 1, nil, 3))
      pcall(allua.trace.span, "fails", error, "inside")
      collectgarbage()
    ]])
    assert.equal(0, result.code, result.err)
    assert.equal("1\tnil\t3\n", result.out)
    local events = events_of(text)
    local user = find(events, { ph = "B", name = "user", cat = "task" })
    local page = find(events, { ph = "B", name = "page", cat = "task" })
    assert.equal("first", page.args.label)
    assert.equal(user.tid, find(events, { ph = "B", cat = "sibling", tid = page.tid }).args.on)
    find(events, { ph = "s", tid = user.tid, name = "result" })
    find(events, { ph = "f", tid = page.tid, name = "result" })
    find(events, { ph = "B", cat = "timer", tid = user.tid })
    find(events, { ph = "B", cat = "place" })
    find(events, { ph = "B", cat = "span", name = "mine" })
    find(events, { ph = "B", tid = 1, name = "turn" })
    find(events, { ph = "C", name = "Lua memory" })
    find(events, { ph = "i", cat = "gc" })
    local bad = find(events, { ph = "i", cat = "error" })
    assert.matches("no </script> \u{FFFD}", bad.args.message, 1, true)
    assert.equal("bad", bad.args.chain[1])
    assert.is_nil(text:find("</script", 1, true))
  end)

  it("can be read when the program was killed", function()
    local path = os.tmpname()
    do
      local child <close> = host.start({
        "--trace",
        path,
        "-e",
        [[
        all({
          waits = function() allua.sleep(60) end,
          says = function() allua.sleep(0.01) print("ready") io.flush() allua.sleep(60) end,
        })
      ]],
      })
      child:wait_for("ready")
      local text
      repeat -- it is written when the turn ends
        allua.sleep(0.01)
        text = read(path)
      until select(2, text:gsub('"timer"', "")) == 3
      child:kill("sigkill")
      child:wait()
    end
    local events = events_of(read(path), true)
    os.remove(path)
    find(events, { ph = "B", name = "says" })
  end)

  it("ends well where the program exits inside, and after Lua's errors", function()
    local result, text = traced([[
      allua.spawn(function() allua.sleep(0.01) os.exit(3) end)
      all({ waits = function() allua.sleep(60) end })
    ]])
    assert.equal(3, result.code)
    events_of(text)
    result, text = traced([[ all({ bad = function() error({}) end }) ]])
    assert.equal(1, result.code)
    events_of(text)
  end)

  it("keeps credentials and values to itself", function()
    local result, text = traced([[
      pcall(allua.fetch, "http://me:hidden1@127.0.0.1:1/path?token=hidden2")
      local db = allua.db.open("sqlite::memory:")
      db:query("SELECT 'hidden3', 77123, ?", "hidden4")
      pcall(all, { a = function() db:query("selct 'hidden5'") end })
      pcall(all, { b = function() allua.fetch("http://me:hidden6@no.invalid/path?token=hidden7") end })
      pcall(all, { c = function() error("at postgres://me:hidden8@host/x?password=hidden9 it failed") end })
      db:transaction(function(tx) for row in tx:each("SELECT 'hidden10' -- hidden11") do row = row end end)
      db:close()
    ]])
    assert.equal(0, result.code, result.err)
    local events = events_of(text)
    assert.is_nil(text:find("hidden", 1, true))
    assert.is_nil(text:find("77123", 1, true))
    assert.equal("SELECT ?, ?, ?", find(events, { ph = "B", name = "sql" }).args.sql)
    local fetch = find(events, { ph = "B", name = "fetch" })
    assert.same({ method = "GET", url = "http://127.0.0.1:1/path" }, fetch.args)
    local messages = {}
    for _, event in ipairs(events) do
      if event.cat == "error" then
        messages[#messages + 1] = event.args.message
      end
    end
    assert.equal("DbError 1: (command line):4", messages[1])
    assert.matches("^FetchError: GET http://no.invalid/path", messages[2])
    assert.equal("(command line):6: at postgres://host/x it failed", messages[3])
  end)

  it("shows SQL without its values, whatever they are written like", function()
    local sql = require("allua.core").load("allua.db_sql")
    for _, case in ipairs({
      {
        "select * from t where a = 'it''s' and b=1.5e-3 and c2 = 0x1F",
        "select * from t where a = ? and b=? and c2 = ?",
      },
      { "select -1, .5, t1.x, $1, ?2, :n3 from t", "select -?, .?, t1.x, $1, ?2, :n3 from t" },
      { [[select "col", `c`, [c 1], "a value", "it's"]], 'select "col", `c`, [c 1], ?, ?' },
      { "select 'open", "select ?" },
      { "select 1 -- secret\n, /* secret */ 2", "select ?  ,   ?" },
      { [[select E'it\'s secret', 'x']], "select E?, ?", "postgres" },
      { "select $$secret$$, $tag$ $$ 'secret' $tag$, $1", "select ?, ?, $1", "postgres" },
      { [[select 'a\', 'secret', 'b']], "select ? …", "postgres" },
      { [[select 'a\', 'secret', 'b']], "select ?, ?, ?", "sqlite" },
      {
        [[insert into "User" values (1, 'x') /* a /* nested */ secret */ returning "id"]],
        [[insert into "User" values (?, ?)   returning "id"]],
        "postgres",
      },
    }) do
      assert.equal(case[2], sql.shown(case[1], case[3] or "sqlite"))
    end
  end)

  it("shows what a task does with its arguments", function()
    local result, text = traced([[
      local uv = require("luv")
      allua.sleep(0.25)
      allua.promisify(uv.fs_stat)("/")
      allua.promisify(function(done) done() end)()
      local ended = allua.promise()
      local child = uv.spawn("true", { args = { "hidden" } }, function() ended:resolve() end)
      ended:await()
      child:close()
      local server = allua.serve({ port = 0, routes = { ["GET /page/:id"] = function() return "hello" end } })
      allua.fetch("http://127.0.0.1:" .. server.port .. "/page/7?token=hidden")
      server:close()
    ]])
    assert.equal(0, result.code, result.err)
    local events = events_of(text)
    assert.is_nil(text:find("hidden", 1, true))
    local slept = find(events, { ph = "B", cat = "timer" }).args.seconds
    assert(slept > 0.2 and slept <= 0.25)
    assert.same({ ["1"] = "/" }, find(events, { ph = "B", name = "uv.fs_stat", cat = "io" }).args)
    assert.same({ program = "true" }, find(events, { ph = "i", name = "uv.spawn" }).args)
    assert.same({ method = "GET", path = "/page/7" }, find(events, { ph = "B", name = "request" }).args)
    local track, called = find(events, { ph = "B", name = "request" }).tid, nil
    for _, event in ipairs(events) do
      called = event.tid == track and event.name == "thread_name" and event.args.name or called
    end
    assert.equal("GET /page/7", called)
    find(events, { ph = "B", name = "the response of a fetch", cat = "io" })
    find(events, { ph = "B", name = "a promise", cat = "io" })
  end)

  it("is valid however long the names, the arguments and the errors are", function()
    local result, text = traced([[
      local long = ("\1"):rep(5000)
      local tasks, last = {}, nil
      for i = 1, 12 do
        local before = last
        last = long .. i
        tasks[last] = before and function(self) allua.yield() return self[before] end
          or function() allua.sleep(0.001) error(long) end
      end
      pcall(all, tasks, { name = long })
      local deep = function() error(long) end
      for _ = 1, 12 do
        local inner = deep
        deep = function() all({ [long] = inner }) end
      end
      pcall(deep)
      allua.trace.span(long, allua.yield)
      local uv = require("luv")
      pcall(allua.promisify(uv.fs_rename), long:sub(1, 200), long:sub(1, 200))
    ]])
    assert.equal(0, result.code, result.err)
    find(events_of(text), { ph = "i", cat = "error" })
  end)

  it("begins and ends from within, more than once", function()
    local first, second = os.tmpname(), os.tmpname()
    local result = host.eval(([[
      local other = allua.spawn(allua.sleep, 0.05)
      allua.sleep(0)
      allua.trace.start(%q)
      print(pcall(allua.trace.start, "x"))
      all({ a = function() allua.sleep(0.001) end })
      local late = allua.spawn(allua.sleep, 0.02)
      print(allua.trace.stop(), allua.trace.stop())
      allua.trace.start({ trace = %q })
      all({ b = allua.yield })
      allua.trace.span("open", function() allua.trace.stop() end)
    ]]):format(first, second))
    assert.equal(0, result.code, result.err)
    assert.matches("^false\t.*there is one already.*\ntrue\tfalse\n$", result.out)
    find(events_of(read(first)), { ph = "B", name = "a" })
    local events = events_of(read(second))
    find(events, { ph = "B", name = "b" })
    assert.is_false((pcall(find, events, { name = "a" })))
    os.remove(first)
    os.remove(second)
  end)

  it("is asked for by ALLUA_TRACE, which others do not inherit", function()
    local path = os.tmpname()
    local result = host.run({ "-e", 'print(os.getenv("ALLUA_TRACE"))' }, { env = { ALLUA_TRACE = path } })
    assert.equal("nil\n", result.out)
    find(events_of(read(path)), { ph = "B", name = "main" })
    os.remove(path)
  end)

  it("refuses what is wrong", function()
    local result = host.run({ "--trace", "/nowhere/x", "-e", "" })
    assert.equal(1, result.code)
    assert.matches("cannot write /nowhere/x: No such file", result.err, 1, true)
    assert.equal(2, host.run({ "--trace" }).code)
    assert.has_error(function()
      allua.trace.start({ trase = "x" })
    end, 'trace.start: unknown option "trase" (did you mean "trace"?)')
    assert.has_error(function()
      allua.trace.start()
    end, "trace.start: expected the path of a file (got nil)")
    assert.has_error(function()
      allua.trace.span("x")
    end, "trace.span: expected a function (got nil)")
  end)
end)
