-- What becomes of what a handler does: its reply, its errors, its routes; and what no client may see.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local server_of = require("spec.support.server")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local get, status, body, talk, with = server_of.get, server_of.status, server_of.body, server_of.talk, server_of.with

local function request(method, path, more)
  return ("%s %s HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n"):format(method, path, more or "")
end

local function header(reply, name)
  return reply:match("\r\n" .. name:gsub("%-", "%%-") .. ": ([^\r]*)\r\n")
end

-- A handler that says which route it is, and what it got.
local function named(name)
  return function(event)
    local params = {}
    for key, value in pairs(event.params) do
      params[#params + 1] = key .. "=" .. value
    end
    table.sort(params)
    return name .. "(" .. table.concat(params, ",") .. ")"
  end
end

describe("routes", function()
  local routes = {}
  for _, key in ipairs({
    "/",
    "GET /users",
    "POST /users",
    "GET /users/me",
    "GET /users/:id",
    "DELETE /users/:id",
    "GET /users/:id/posts/:post",
    "GET /users/:id/*rest",
    "GET /*rest",
    "/any/:thing",
    "PUT /any/:thing",
    "GET /a b/ü",
    "HEAD /own",
    "GET /own",
    "OPTIONS /own",
  }) do
    routes[key] = named(key)
  end

  it("take what is fixed before a parameter, and that before the rest; both are decoded once", function()
    with({ routes = routes }, function(server)
      for path, expected in pairs({
        ["GET /"] = "/()",
        ["PATCH /"] = "/()",
        ["GET /users"] = "GET /users()",
        ["GET /users?x=/users/me"] = "GET /users()",
        ["GET /users/me"] = "GET /users/me()",
        ["DELETE /users/me"] = "DELETE /users/:id(id=me)",
        ["GET /users/%6De"] = "GET /users/me()",
        ["GET /users/7"] = "GET /users/:id(id=7)",
        ["GET /users/a%2Fb"] = "GET /users/:id(id=a/b)",
        ["GET /users/a%252Fb"] = "GET /users/:id(id=a%2Fb)",
        ["GET /users/a+b"] = "GET /users/:id(id=a+b)",
        ["GET /users/"] = "GET /*rest(rest=users/)",
        ["GET /users/7/"] = "GET /users/:id/*rest(id=7,rest=)",
        ["GET /users/7/posts/8"] = "GET /users/:id/posts/:post(id=7,post=8)",
        ["GET /users/7/x/y"] = "GET /users/:id/*rest(id=7,rest=x/y)",
        ["GET /x/y/"] = "GET /*rest(rest=x/y/)",
        ["GET //"] = "GET /*rest(rest=/)",
        ["PUT /any/1"] = "PUT /any/:thing(thing=1)",
        ["BREW /any/1"] = "/any/:thing(thing=1)",
        ["GET /a%20b/%C3%BC"] = "GET /a b/ü()",
        ["GET http://elsewhere.example/users/7?q"] = "GET /users/:id(id=7)",
        ["GET http://elsewhere.example"] = "/()",
        ["OPTIONS /own"] = "OPTIONS /own()",
      }) do
        local method, target = path:match("^(%u+) (.*)$")
        assert.equal(expected, body(talk(server, { request(method, target) })), path)
      end
      assert.equal(
        #named("HEAD /own")({ params = {} }),
        tonumber(header(talk(server, { request("HEAD", "/own") }), "Content-Length"))
      )
    end)
  end)

  it("say with which methods a path is known, each once", function()
    with({ routes = routes }, function(server)
      local reply = talk(server, { request("DELETE", "/users") })
      assert.equal(405, status(reply))
      assert.equal("GET, HEAD, POST, OPTIONS", header(reply, "Allow"))
      local options = talk(server, { request("OPTIONS", "/users/7") })
      assert.equal(204, status(options))
      assert.equal("DELETE, GET, HEAD, OPTIONS", header(options, "Allow"))
      assert.equal(204, status(talk(server, { request("OPTIONS", "*") })))
      assert.equal(400, status(talk(server, { request("POST", "*") })))
    end)
  end)

  it("answer HEAD with GET's head, and no body, whatever kind of reply it is", function()
    with({
      routes = {
        ["GET /text"] = function()
          return "12345"
        end,
        ["GET /json"] = function()
          return { 1 }
        end,
        ["GET /none"] = function() end,
        ["GET /stream"] = function(event)
          return event:stream(function(write)
            write("x")
          end)
        end,
        ["GET /wrong"] = function()
          allua.http_error(409, "no")
        end,
      },
    }, function(server)
      for path, expected in pairs({ text = 200, json = 200, none = 204, stream = 200, wrong = 409, nowhere = 404 }) do
        local as_get, as_head = talk(server, { get("/" .. path) }), talk(server, { request("HEAD", "/" .. path) })
        assert.equal(expected, status(as_head), path)
        assert.equal("", body(as_head), path)
        local function without_date(reply)
          return (reply:match("^(.-\r\n\r\n)"):gsub("\r\nDate: [^\r]*", ""))
        end
        assert.equal(without_date(as_get), without_date(as_head))
      end
    end)
  end)

  it("that cannot be told apart, or never be taken, are refused", function()
    local function refused(more, options)
      options = options or {}
      options.routes = more
      return errors.raised(allua.serve, options)
    end
    local f = named("f")
    assert.matches(
      'routes "GET /:a/x" and "GET /:b/x" answer the same',
      refused({ ["GET /:a/x"] = f, ["GET /:b/x"] = f })
    )
    assert.matches('"%*a" takes all the rest', refused({ ["/*a/b"] = f }))
    assert.matches('route "get /x" must look like "GET /path" or "/path"', refused({ ["get /x"] = f }))
    assert.matches('route "x" must look like', refused({ x = f }))
    assert.matches('route "/x" is not a function %(got string%)', refused({ ["/x"] = "f" }))
    assert.matches("use%[2%] is not a function %(got table%)", refused({}, { use = { f, {} } }))
    assert.matches('use%["?x"?%] is not a function', refused({}, { use = { x = f } }))
  end)
end)

describe("a reply", function()
  it("has no body where its status has none", function()
    with({
      routes = {
        ["/:code/text"] = function(event)
          event:status(tonumber(event.params.code))
          return "body"
        end,
        ["/:code/stream"] = function(event)
          event:status(tonumber(event.params.code))
          return event:stream(function(write)
            write("body")
          end)
        end,
        ["/:code/file"] = function(event)
          event:status(tonumber(event.params.code))
          return event:file("/etc/hostname")
        end,
      },
    }, function(server)
      for _, kind in ipairs({ "text", "stream", "file" }) do
        for _, code in ipairs({ 204, 304 }) do
          local one = ("GET /%d/%s HTTP/1.1\r\nHost: x\r\n\r\n"):format(code, kind)
          local replies = talk(server, { one .. one .. get(("/%d/%s"):format(code, kind)) })
          assert.equal(3, select(2, replies:gsub("HTTP/1.1 " .. code, "")), replies)
          assert.is_nil(replies:find("body", 1, true))
          assert.is_nil(replies:find("Transfer-Encoding", 1, true))
          assert.is_nil(replies:find("Content-Length: [1-9]"))
          assert.equal("", replies:match(".*\r\n\r\n(.*)$"))
        end
      end
    end)
  end)

  it("holds no header that is two, by whichever way it comes", function()
    local said = {}
    local evil = { "a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\0b", "a\r\n\r\n<script>", "a\127" }
    with({
      routes = {
        ["/header/:i"] = function(event)
          event:header("X-Good", evil[tonumber(event.params.i)])
        end,
        ["/name/:i"] = function(event)
          event:header(evil[tonumber(event.params.i)], "x")
        end,
        ["/type/:i"] = function(event)
          event:header("Content-Type", evil[tonumber(event.params.i)])
          return "x"
        end,
        ["/redirect/:i"] = function(event)
          return event:redirect("/" .. evil[tonumber(event.params.i)])
        end,
        ["/cookie/:i"] = function(event)
          event:cookie("c", evil[tonumber(event.params.i)])
        end,
        ["/domain/:i"] = function(event)
          event:cookie("c", "v", { domain = evil[tonumber(event.params.i)] })
        end,
        ["/file/:i"] = function(event)
          return event:file("/etc/hostname", { type = evil[tonumber(event.params.i)] })
        end,
        ["/length"] = function(event)
          said[1] = errors.text(errors.raised(event.header, event, "content-LENGTH", "7"))
          said[2] = errors.text(errors.raised(event.header, event, "Transfer-Encoding", "chunked"))
        end,
        ["/error/:i"] = function(event)
          allua.http_error(400, evil[tonumber(event.params.i)])
        end,
        ["/event/:i"] = function(event)
          return event:events(function(send)
            send("x", evil[tonumber(event.params.i)])
          end)
        end,
      },
    }, function(server)
      local stderr = io.stderr
      io.stderr = assert(io.open("/dev/null", "w")) -- luacheck: ignore
      for i in ipairs(evil) do
        for _, kind in ipairs({ "header", "name", "type", "redirect", "cookie", "domain", "file" }) do
          local reply = talk(server, { get(("/%s/%d"):format(kind, i)) })
          assert.equal(500, status(reply), kind .. i)
          assert.is_nil(reply:find("Evil", 1, true))
        end
        local reply = talk(server, { get("/error/" .. i) })
        assert.equal(400, status(reply))
        assert.is_nil(reply:find("\r\nX-Evil", 1, true))
        assert.matches("\nevent: a[^\n]*\ndata: x\n\n", talk(server, { get("/event/" .. i) }))
      end
      io.stderr:close()
      io.stderr = stderr -- luacheck: ignore
      talk(server, { get("/length") })
      assert.matches("is set by the server", said[1])
      assert.matches("is set by the server", said[2])
    end)
  end)

  it("to HTTP/1.0 has no chunks, and keeps the connection only where it was asked to and can", function()
    with({
      routes = {
        ["/text"] = function()
          return "text"
        end,
        ["/stream"] = function(event)
          return event:stream(function(write)
            write("a")
            write("b")
          end)
        end,
      },
    }, function(server)
      local kept = talk(server, {
        "GET /text HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
          .. "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /text HTTP/1.0\r\n\r\n",
      })
      assert.equal(2, select(2, kept:gsub("HTTP/1.1 200", "")))
      assert.matches("Connection: keep%-alive\r\n", kept)
      assert.matches("Connection: close\r\n\r\nab$", kept)
      assert.is_nil(kept:find("chunked", 1, true))
      assert.matches("\r\nConnection: close\r\n\r\ntext$", talk(server, { "GET /text HTTP/1.0\r\nHost: x\r\n\r\n" }))
    end)
  end)

  it("goes out with its head and its first bytes in one write", function()
    local folder <close> = scratch.folder({ ["file.txt"] = "first" })
    with({
      routes = {
        ["/table"] = function()
          return { first = 1 }
        end,
        ["/text"] = function()
          return "first"
        end,
        ["/cookie"] = function(event)
          event:cookie("a", "b")
          return "first"
        end,
        ["/stream"] = function(event)
          return event:stream(function(write)
            write("first")
            allua.sleep(0.05)
            write("second")
          end)
        end,
        ["/file"] = function(event)
          return event:file(folder:at("file.txt"))
        end,
      },
    }, function(server)
      for _, path in ipairs({ "/table", "/text", "/cookie", "/stream", "/file" }) do
        local client = server_of.connect(server)
        client:read()
        client:send(get(path))
        client:wait()
        assert.matches("\r\n\r\n.*first", client.got[1], path)
      end
    end)
  end)

  it("of events begins at once, that of a stream when it is told to", function()
    with({
      routes = {
        ["/events"] = function(event)
          return event:events(function()
            allua.sleep(60)
          end)
        end,
        ["/stream"] = function(event)
          return event:stream(function(write)
            write("")
            allua.sleep(60)
          end)
        end,
      },
    }, function(server)
      for _, path in ipairs({ "/events", "/stream" }) do
        local client = server_of.connect(server)
        client:read()
        client:send(get(path))
        web.wait_until(function()
          return client:all():find("\r\n\r\n$")
        end)
        client.tcp:close_reset(function()
          client.done:resolve()
        end)
        client:wait()
      end
    end)
  end)
end)

describe("an error", function()
  it("of another task that was cancelled is one like others", function()
    local child <close> = host.start({
      "-e",
      [[local server = allua.serve({ routes = { ["/"] = function()
        local other = allua.spawn(allua.sleep, 60)
        other:cancel("not wanted")
        other:await()
      end } })
      print("at " .. server.port .. "!")]],
    })
    child:wait_for("!")
    local reply = talk({ port = tonumber(child.out:match("%d+")) }, { get("/") })
    assert.equal(500, status(reply))
    child:wait_for("not wanted")
  end)

  it("made by http_error is a reply from however deep it comes, with what the handler had set before", function()
    with({
      routes = {
        ["/deep"] = function(event)
          event:header("X-Before", "1")
          event:header("Content-Type", "text/csv")
          event:status(201)
          allua.all({
            outer = function()
              return allua.map({ 1, 2, 3 }, function(i)
                return allua.all({
                  inner = function()
                    allua.sleep(0.001 * i)
                    if i == 2 then
                      allua
                        .spawn(function()
                          allua.http_error(418, "short", { stout = true })
                        end)
                        :await()
                    end
                    allua.sleep(60)
                  end,
                  reader = function(self)
                    return self.inner
                  end,
                })
              end)
            end,
            other = function()
              allua.sleep(60)
            end,
          })
        end,
        ["/caught"] = function()
          local _, err = pcall(allua.http_error, 400, "caught")
          return { status = err.status, message = err.message }
        end,
      },
    }, function(server)
      local reply = talk(server, { get("/deep") })
      assert.equal(418, status(reply))
      assert.same({ "1", "application/json" }, { header(reply, "X-Before"), header(reply, "Content-Type") })
      assert.same({ error = "short", data = { stout = true } }, server_of.data(reply))
      assert.same({ status = 400, message = "caught" }, server_of.data(talk(server, { get("/caught") })))
      assert.matches("expected a status from 400 to 599 %(got 200%)", errors.raised(allua.http_error, 200))
    end)
  end)
end)

describe("cookies", function()
  it("are those of the longer path where two have one name", function()
    with({
      routes = {
        ["/"] = function(event)
          return event.cookies
        end,
      },
    }, function(server)
      local reply = talk(server, { get("/", 'Cookie: a=1; b="x y"; a=2; =none; c; d=\r\nCookie: e=3\r\n') })
      assert.same({ a = "1", b = "x y", d = "", e = "3" }, server_of.data(reply))
    end)
  end)
end)
