-- The tasks of requests: one goes on with the next request where nothing of the last is left in it.

local allua = require("allua")
local host = require("spec.support.host")
local server_of = require("spec.support.server")

require("spec.support.leftovers")()

local connect, get, talk, with = server_of.connect, server_of.get, server_of.talk, server_of.with

local function ask(path)
  return "GET " .. path .. " HTTP/1.1\r\nHost: x\r\n\r\n"
end

local function nothing() end

describe("a request", function()
  it("that waits holds up no other, however they came and whatever they wait for", function()
    local gate = allua.promise()
    with({
      routes = {
        ["/wait"] = function()
          gate:await()
          return "late"
        end,
        ["/group"] = function()
          return allua.all({
            function()
              gate:await()
              return "late"
            end,
            nothing,
          })
        end,
        ["/now"] = function()
          return { now = allua.all({ a = nothing, b = nothing }) }
        end,
      },
    }, function(server)
      local slow, fast = {}, {}
      for i = 1, 20 do
        slow[i], fast[i] = connect(server), connect(server)
        slow[i]:read()
        fast[i]:read()
      end
      for i = 1, 20 do
        slow[i]:send(get(i % 2 == 0 and "/wait" or "/group"))
        fast[i]:send(get("/now"))
      end
      for i = 1, 20 do
        assert.matches('{"now":{}}$', fast[i]:wait())
        assert.equal("", slow[i]:all())
      end
      gate:resolve()
      for i = 1, 20 do
        assert.matches("late", slow[i]:wait())
      end
    end)
  end)

  it("leaves nothing to the next: no tasks, no task-local values, no cancelling", function()
    local ended, seen = {}, {}
    with({
      routes = {
        ["/spawn"] = function()
          allua.spawn(function()
            local _ <close> = setmetatable({}, {
              __close = function()
                ended[#ended + 1] = true
              end,
            })
            allua.sleep(60)
          end)
          allua.sleep(0)
          return ""
        end,
        ["/with"] = function()
          return allua.with({ user = "ann" }, function()
            return tostring(allua.context.user)
          end)
        end,
        ["/context"] = function()
          seen[#seen + 1] = tostring(allua.context.user)
          return ""
        end,
        ["/cancelled"] = function()
          local task
          task = allua.spawn(function()
            task:cancel()
            allua.sleep(0)
          end)
          pcall(task.await, task)
          return ""
        end,
      },
    }, function(server)
      for i = 1, 5 do
        talk(server, { ask("/spawn") .. ask("/with") .. ask("/context") .. ask("/cancelled") .. get("/context") })
        assert.equal(i, #ended)
      end
      assert.same(("nil"):rep(10, " "), table.concat(seen, " "))
    end)
  end)

  it("can be looked at when it is over, and not answered again", function()
    local kept
    with({
      routes = {
        ["/:what"] = function(event)
          local before = kept
          kept = event
          if not before then
            return "first"
          end
          local ok, err = pcall(before.send, before, "text/plain", "wrong")
          local raw_ok = pcall(before.request.write, before.request, "wrong")
          return {
            path = before.path,
            header = before.headers["x-a"],
            cookie = before.cookies.c,
            query = before.query.q,
            remote = before.remote,
            over = not ok and allua.is_error(err, "ClientLeftError") and not raw_ok,
          }
        end,
      },
    }, function(server)
      local first = "GET /a?q=1 HTTP/1.1\r\nHost: x\r\nX-A: \t 1 \r\nX-A:2\r\nX-A:\r\nCookie: c=d\r\n\r\n"
      local text = talk(server, { first .. get("/b") })
      assert.same({
        path = "/a",
        header = "1, 2, ",
        cookie = "d",
        query = "1",
        remote = "127.0.0.1",
        over = true,
      }, server_of.data(text:match("first(.*)$")))
      assert.is_nil(text:find("wrong", 1, true))
    end)
  end)

  it("has a path, whatever form its target has", function()
    with({
      routes = {
        ["/*path"] = function(event)
          return event.method .. " " .. event.path .. " " .. event.target
        end,
      },
    }, function(server)
      for target, path in pairs({
        ["/"] = "/",
        ["/?q"] = "/",
        ["/a?b?c"] = "/a",
        ["http://h"] = "/",
        ["http://h?q=/x"] = "/",
        ["https://h:1/a/b?q"] = "/a/b",
      }) do
        assert.matches(("GET %s %s"):format(path, target), talk(server, { get(target) }), 1, true)
      end
    end)
  end)

  it("is answered with what is long, too, and to HEAD with its head alone", function()
    local long = { text = ("x"):rep(300000) }
    with({
      routes = {
        ["/long"] = function()
          return long
        end,
      },
    }, function(server)
      local text = talk(server, { ask("/long") .. ask("/long"):gsub("GET", "HEAD") .. get("/long") })
      local head =
        "HTTP/1.1 200 OK\r\nContent%-Type: application/json\r\nDate: %a+, [%w :]+ GMT\r\nContent%-Length: 300011\r\n"
      assert.equal(3, select(2, text:gsub(head, "")))
      assert.equal(2, select(2, text:gsub('\r\n\r\n{"text":"x+"}', "")))
    end)
  end)

  it("that outlives its server is answered by nobody, and without a word", function()
    local result = host.run({
      "-e",
      [[
        local gate, served = allua.promise(), 0
        local function route(value)
          return function(event)
            served = served + 1
            allua.shield(gate.await, gate)
            return value(event)
          end
        end
        local server = allua.serve({ routes = {
          ["/table"] = route(function() return { a = 1 } end),
          ["/text"] = route(function() return "text" end),
          ["/code"] = route(function(event) event:status(201) return { a = 1 } end),
          ["/stream"] = route(function(event) return event:stream(function(write) write("a") end) end),
        } })
        local failed = 0
        for _, path in ipairs({ "/table", "/text", "/code", "/stream" }) do
          allua.spawn(function()
            assert(not pcall(allua.fetch, server.url .. path), "the server answered")
            failed = failed + 1
            if failed == 4 then
              gate:resolve()
            end
          end)
        end
        while served < 4 do
          allua.sleep(0.001)
        end
        server:close(0)
        gate:await()
        print("done")
      ]],
    })
    assert.same({ "done\n", "", 0 }, { result.out, result.err, result.code })
  end)
end)
