-- allua.serve under clients that are slow, many, greedy or gone; and how it ends.

local allua = require("allua")
local core = require("allua.core")
local errors = require("spec.support.errors")
local free_port = require("spec.support.port")
local host = require("spec.support.host")
local server_of = require("spec.support.server")
local size = require("spec.support.size")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local get, status, body, talk, with = server_of.get, server_of.status, server_of.body, server_of.talk, server_of.with
local all, data, fetch = allua.all, server_of.data, allua.fetch

local routes = {
  ["/"] = function()
    return "ok"
  end,
  ["POST /body"] = function(event)
    return tostring(#event:body())
  end,
}

local function post(length)
  return ("POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"):format(length)
end

describe("a limit of serve", function()
  it("on a body is answered with 413, before any of it where its length is said", function()
    with({ routes = routes, limits = { body = 10 } }, function(server)
      assert.equal("10", body(talk(server, { post(10) .. "0123456789" })))
      assert.equal(413, status(talk(server, { post(11) })))
      local chunked = "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      assert.equal(413, status(talk(server, { chunked .. "b\r\n01234567890\r\n" })))
    end)
  end)

  it("on the time of a body gives 408 to one that drips", function()
    with({ routes = routes, limits = { body_time = 0.3 } }, function(server)
      local pieces = { post(1000) }
      for i = 2, 30 do
        pieces[i] = "x"
      end
      assert.equal(408, status(talk(server, pieces, 0.1)))
    end)
  end)

  it("on idle time closes a connection between two requests", function()
    with({ routes = routes, limits = { idle_time = 0.3 } }, function(server)
      local began = allua.now()
      local reply = talk(server, { "GET / HTTP/1.1\r\nHost: x\r\n\r\n" })
      assert.matches("ok$", reply)
      assert.is_true(allua.now() - began < 5)
    end)
  end)

  it("on the time of a write drops a client that takes nothing", function()
    local ended = allua.promise()
    with({
      limits = { write_time = 0.3 },
      routes = {
        ["/"] = function(event)
          return event:stream(function(write)
            local ok, err = pcall(function()
              while true do
                write(("x"):rep(65536))
              end
            end)
            ended:resolve(ok, err)
            error(err, 0)
          end)
        end,
      },
    }, function(server)
      local client = server_of.connect(server)
      client:send(get("/"))
      local ok = allua.timeout(10, ended.await, ended)
      assert.is_false(ok)
      client:close()
      client:wait()
    end)
  end)

  it("on connections lets the others wait their turn", function()
    with({ routes = routes, limits = { connections = 2, idle_time = 0.3 } }, function(server)
      local replies = allua.map({ 1, 2, 3, 4, 5, 6 }, function()
        return talk(server, { "GET / HTTP/1.1\r\nHost: x\r\n\r\n" })
      end)
      for i = 1, 6 do
        assert.equal(200, status(replies[i]))
      end
    end)
  end)

  it("is checked", function()
    local function refused(limits)
      return errors.raised(allua.serve, { routes = {}, limits = limits })
    end
    assert.matches('unknown limit "bdy" %(did you mean "body"%?%)', refused({ bdy = 1 }))
    assert.matches('limit "body" must be a number above 0, and at most 1000000000000 %(got 0%)', refused({ body = 0 }))
    assert.matches('limit "uri" must be a number above 0, and at most 1073741824', refused({ uri = 1 << 31 }))
    assert.matches("got inf", refused({ idle_time = math.huge }))
    assert.matches("got nan", (refused({ idle_time = 0 / 0 }):gsub("-nan", "nan")))
  end)
end)

describe("the limits of serve", function()
  it("are what the reference tells, by default and at most", function()
    local file <close> = assert(io.open("docs/reference.md"))
    local listen, seen = core.serve_listen, nil
    local restored <close> = setmetatable({}, { -- luacheck: ignore
      __close = function()
        core.serve_listen = listen
      end,
    })
    core.serve_listen = function(address, port, limits)
      seen = limits
      return listen(address, port, limits)
    end
    with({ routes = {} }, function() end)
    local told = 0
    for name, value, base, power in file:read("a"):gmatch("\n| `([%l_]+)` | (%d+)[^|]*| (%d+)^(%d+) |") do
      assert.equal(name:find("_time$") and value * 1000 or tonumber(value), seen[name], name)
      local most = math.tointeger(tonumber(base) ^ tonumber(power))
      with({ routes = {}, limits = { [name] = most } }, function() end)
      assert.matches("at most " .. most, errors.raised(allua.serve, { routes = {}, limits = { [name] = most + 1 } }))
      told, seen[name] = told + 1, nil
    end
    assert.equal(9, told)
  end)
end)

describe("allua.serve", function()
  it("asks for the body of a client that waits to be asked, and not where it is too long", function()
    with({ routes = routes, limits = { body = 10 } }, function(server)
      local client = server_of.connect(server)
      client:read()
      client:send((post(3):gsub("\r\n\r\n$", "\r\nExpect: 100-continue\r\n\r\n")))
      web.wait_until(function()
        return client:all():find("100 Continue\r\n\r\n", 1, true)
      end)
      client:send("abc")
      assert.matches("HTTP/1.1 200 OK\r\n.*\r\n\r\n3$", client:wait())
      local long = post(11):gsub("\r\n\r\n$", "\r\nExpect: 100-continue\r\n\r\n")
      assert.equal(413, status(talk(server, { long })))
    end)
  end)

  it("ends the tasks of a thousand clients that vanish, and goes on", function()
    local running, most = 0, 0
    with({
      limits = { connections = 2000 },
      routes = {
        ["/"] = routes["/"],
        ["/wait"] = function()
          running = running + 1
          most = math.max(most, running)
          local _ <close> = setmetatable({}, {
            __close = function()
              running = running - 1
            end,
          })
          allua.sleep(60)
        end,
      },
    }, function(server)
      for round = 1, 4 do
        local clients = {}
        for i = 1, 250 do
          clients[i] = server_of.connect(server)
          clients[i]:send(get("/wait"))
        end
        web.wait_until(function()
          return running == 250
        end)
        for i, client in ipairs(clients) do
          -- Some vanish politely, the others with a reset.
          if (i + round) % 2 == 0 then
            client.tcp:close_reset(function()
              client.done:resolve()
            end)
          else
            client:close()
          end
        end
        for _, client in ipairs(clients) do
          client:wait()
        end
        web.wait_until(function()
          return running == 0
        end)
      end
      assert.equal(250, most)
      assert.equal("ok", body(talk(server, { get("/") })))
    end)
  end)

  it("keeps little of a gigabyte in memory that a client does not take", function()
    local child <close> = host.start({
      "-e",
      [[local server = allua.serve({
        limits = { write_time = 60 },
        routes = {
          ["/"] = function(event)
            return event:stream(function(write)
              local piece = ("x"):rep(1048576)
              for _ = 1, 1024 do
                write(piece)
              end
            end)
          end,
        },
      })
      print("at " .. server.port .. "!")]],
    })
    child:wait_for("!")
    local client = server_of.connect({ port = tonumber(child.out:match("%d+")) })
    client:send(get("/"))
    allua.sleep(1)
    local resident
    for line in io.lines(("/proc/%d/status"):format(child.process:get_pid())) do
      resident = resident or tonumber(line:match("^VmRSS:%s*(%d+)"))
    end
    client:close()
    client:wait()
    -- Sanitizers and valgrind have memory of their own.
    local plain = not (os.getenv("ASAN_OPTIONS") or os.getenv("VALGRIND_OPTS"))
    assert.is_true(resident < (plain and 64 or 640) * 1024, resident .. " KiB")
  end)

  it("lets middleware answer, change and refuse", function()
    local order = {}
    with({
      use = {
        function(event, next)
          order[#order + 1] = "first"
          event.context.auth = { user_id = event.headers["x-user"] }
          local reply = next()
          order[#order + 1] = "last"
          event:header("X-Seen", "yes")
          return reply
        end,
        function(event, next)
          order[#order + 1] = "second"
          if not event.context.auth.user_id then
            allua.http_error(401, "who are you?", { login = "/login" })
          end
          return next()
        end,
      },
      routes = {
        ["/me"] = function(event)
          return { id = event.context.auth.user_id }
        end,
      },
    }, function(server)
      local reply = talk(server, { get("/me", "X-User: 7\r\n") })
      assert.matches('{"id":"7"}$', reply)
      assert.matches("\r\nX%-Seen: yes\r\n", reply)
      assert.same({ "first", "second", "last" }, order)
      local refused = talk(server, { get("/me") })
      assert.equal(401, status(refused))
      assert.same({ data = { login = "/login" }, error = "who are you?" }, data(refused))
    end)
  end)

  it("tells the client nothing of an error, and standard error all, and goes on", function()
    local child <close> = host.start({
      "-e",
      [[local server = allua.serve({ routes = {
        ["/bad"] = function(event)
          event:header("X-Secret", "1")
          event:header("Content-Type", "text/plain")
          allua.all({ inner = function() error("the secret reason") end })
        end,
        ["/teapot"] = function()
          allua.all({ deep = function() allua.http_error(418, "short and stout") end })
        end,
        ["/late"] = function(event)
          return event:stream(function(write) write("begun") error("late") end)
        end,
        ["/wrong"] = function() return 7 end,
        ["/good"] = function() return "good" end,
      } })
      print("at " .. server.port .. "!")]],
    })
    child:wait_for("!")
    local server = { port = tonumber(child.out:match("%d+")) }
    local reply = talk(server, { get("/bad") })
    assert.equal(500, status(reply))
    assert.equal('{"error":"Internal Server Error"}', body(reply))
    assert.matches("Content%-Type: application/json\r\n", reply)
    assert.is_nil(reply:find("X-Secret", 1, true))
    child:wait_for("the secret reason")
    child:wait_for('task "inner"')
    assert.equal('{"error":"short and stout"}', body(talk(server, { get("/teapot") })))
    local late = talk(server, { get("/late") })
    assert.is_nil(late:find("0\r\n\r\n$")) -- it must not look complete
    assert.equal(500, status(talk(server, { get("/wrong") })))
    child:wait_for("a handler must return a table, a string or nil (got number)")
    assert.equal("good", body(talk(server, { get("/good") })))
  end)

  it("sets cookies that cannot be split", function()
    local caught = {}
    with({
      routes = {
        ["/"] = function(event)
          event:cookie("a", "1", { max_age = 60, secure = true, same_site = "strict", domain = "x.org", path = "/p" })
          caught.value = errors.raised(event.cookie, event, "a", "x; y")
          caught.path = errors.raised(event.cookie, event, "a", "x", { path = "/; Domain=evil" })
          caught.option = errors.raised(event.cookie, event, "a", "x", { maxage = 1 })
          caught.site = errors.raised(event.cookie, event, "a", "x", { same_site = "any" })
          return "<!doctype html><p>hi</p>"
        end,
      },
    }, function(server)
      local reply = talk(server, { get("/") })
      assert.matches(
        "\r\nSet%-Cookie: a=1; Path=/p; Domain=x.org; Max%-Age=60; HttpOnly; Secure; SameSite=Strict\r\n",
        reply
      )
      assert.matches("\r\nContent%-Type: text/html; charset=utf%-8\r\n", reply)
      assert.matches("no cookie may hold", caught.value)
      assert.matches('"path" holds a character', caught.path)
      assert.matches('unknown option "maxage" %(did you mean "max_age"%?%)', caught.option)
      assert.matches('must be "strict", "lax" or "none" %(got "any"%)', caught.site)
    end)
  end)

  it("sends events, and no chunks to HTTP/1.0", function()
    with({
      routes = {
        ["/"] = function(event)
          return event:events(function(send)
            send({ n = 1 }, "tick")
            send("two\nlines")
          end)
        end,
      },
    }, function(server)
      local reply = talk(server, { "GET / HTTP/1.0\r\n\r\n" })
      assert.matches('\r\n\r\nevent: tick\ndata: {"n":1}\n\ndata: two\ndata: lines\n\n$', reply)
      assert.is_nil(reply:find("chunked", 1, true))
      assert.matches("text/event%-stream", talk(server, { get("/") }))
    end)
  end)

  it("works behind nginx over HTTP/2 as the reference shows", function()
    local file <close> = assert(io.open("docs/reference.md"))
    local shown = file:read("a"):match("```nginx\n(.-)```")
    with({
      routes = {
        ["/"] = function(event)
          local headers = event.headers
          return { proto = headers["x-forwarded-proto"], from = headers["x-forwarded-for"], host = headers.host }
        end,
        ["/events"] = function(event)
          return event:events(function(send)
            send("first")
            allua.sleep(60)
          end)
        end,
      },
    }, function(server)
      local port = free_port()
      local beside = shown
        :gsub("listen 443", "listen 127.0.0.1:" .. port)
        :gsub(":8080", ":" .. server.port)
        :gsub("/etc/ssl/certs/app", "FOLDER/certificate")
        :gsub("/etc/ssl/private/app.key", "FOLDER/key.pem")
      local nginx <close> = web.nginx({}, "", beside)
      local api = fetch.with({ base_url = "https://127.0.0.1:" .. port, ca = nginx.ca })
      assert.same({ proto = "https", from = "127.0.0.1", host = "127.0.0.1" }, api("/"))
      local response <close> = api.raw("/events")
      assert.equal("2", response.http_version)
      assert.equal("data: first\n\n", response:chunks()())
    end)
  end)

  it("listens at a name, and says which one it does not know", function()
    with({ routes = routes, host = "localhost" }, function(server)
      assert.matches("^http://localhost:%d+$", server.url)
      assert.equal("ok", fetch(server.url))
    end)
    assert.matches(
      'host "no%.such%.invalid" is not known',
      errors.raised(allua.serve, { routes = {}, host = "no.such.invalid" })
    )
  end)

  it("close lets what runs finish within the grace, refuses new clients, and cancels the rest", function()
    local cancelled, begun, closes = allua.promise(), allua.promise(), allua.promise()
    local server = allua.serve({
      routes = {
        ["/short"] = function()
          begun:await()
          closes:await()
          return "done"
        end,
        ["/long"] = function()
          begun:resolve()
          local _, err = pcall(allua.sleep, 60)
          cancelled:resolve(err)
          error(err, 0)
        end,
      },
    })
    local idle, short, long = server_of.connect(server), server_of.connect(server), server_of.connect(server)
    for _, client in ipairs({ idle, short, long }) do
      client:read()
    end
    short:send("GET /short HTTP/1.1\r\nHost: x\r\n\r\n")
    long:send("GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
    begun:await()
    local closing = allua.spawn(server.close, server, size.full and 1 or 10)
    assert.equal("", idle:wait())
    closes:resolve()
    assert.equal("done", body(short:wait()))
    assert.is_false((pcall(server_of.connect, server)))
    assert.equal("pending", cancelled.status)
    closing:await()
    assert.is_true(allua.is_error(cancelled:await(), "CancelledError"))
    long:wait()
    server:close()
  end)

  it("is closed where its task is cancelled before it has begun to accept", function()
    local port
    errors.raised(all, {
      function()
        port = allua.serve({ routes = routes }).port
        error("no more", 0)
      end,
    })
    with({ routes = routes, port = port }, function(server)
      assert.equal("ok", fetch(server.url))
    end)
  end)

  it("ends the program at a Ctrl-C that comes while it begins", function()
    local result = host.eval(
      [[
      local uv = require("luv")
      allua.serve({ routes = {} })
      uv.kill(uv.os_getpid(), "sigint")
    ]],
      { timeout = 60 }
    )
    assert.same({ 130, "" }, { result.code, result.err })
  end)

  it("drains at SIGTERM in the program, and exits 0", function()
    local child <close> = host.start({
      "-e",
      [[local server = allua.serve({ grace = 5, routes = {
        ["/"] = function() print("begun") allua.sleep(0.3) return "done" end,
      } })
      print("at " .. server.port .. "!")
      allua.sleep(60)]],
    })
    child:wait_for("!")
    local client = server_of.connect({ port = tonumber(child.out:match("%d+")) })
    client:read()
    client:send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    child:wait_for("begun")
    child:kill("sigterm")
    local result = child:wait()
    assert.same({ 0, 0, "" }, { result.code, result.signal, result.err })
    assert.equal("done", body(client:wait()))
  end)

  it("leaves SIGTERM alone where it does not run any more", function()
    local child <close> = host.start({
      "-e",
      [[local server = allua.serve({ routes = {} })
      server:close()
      print("closed")
      allua.sleep(60)]],
    })
    child:wait_for("closed")
    child:kill("sigterm")
    assert.equal(15, child:wait().signal)
  end)
end)
