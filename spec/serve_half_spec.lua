-- Clients that close their sending half behind a request, and clients that are gone: both send the same.

local allua = require("allua")
local host = require("spec.support.host")
local server_of = require("spec.support.server")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local get, body, with = server_of.get, server_of.body, server_of.with

local BIG = 8 * 1024 * 1024

-- What the handlers of requests under way were told, in the end.
local function routes(ends)
  ends.begun = 0
  return {
    ["GET /"] = function()
      return "now"
    end,
    ["GET /later"] = function(event)
      local seconds = tonumber(event.query.seconds)
      ends.begun = ends.begun + 1
      local ok, err = pcall(allua.sleep, seconds)
      ends[#ends + 1] = ok and "slept" or err.name
      if not ok then
        error(err, 0)
      end
      return "later"
    end,
    ["GET /stream"] = function(event)
      return event:stream(function(write)
        write("begun")
        ends.begun = ends.begun + 1
        local ok, err = pcall(allua.sleep, 60)
        ends[#ends + 1] = ok and "slept" or err.name
        error(err, 0)
      end)
    end,
    ["GET /steady"] = function(event)
      return event:stream(function(write)
        for i = 1, 5 do
          write(i .. ";")
          allua.sleep(0.25)
        end
      end)
    end,
    ["POST /echo"] = function(event)
      return event:body()
    end,
    ["GET /big"] = function()
      return ("x"):rep(BIG)
    end,
  }
end

-- Sends that, and that nothing more comes.
local function half(server, text)
  local talk = server_of.connect(server)
  talk.tcp:recv_buffer_size(65536)
  talk.tcp:write(text)
  talk.tcp:shutdown()
  return talk
end

local function ask(path)
  return ("GET %s HTTP/1.1\r\nHost: x\r\n\r\n"):format(path)
end

local function read(talk)
  talk:read()
  return talk:wait()
end

describe("a client that closes its sending half behind its request", function()
  local ends = {}

  it("gets its reply", function()
    with({ routes = routes(ends) }, function(server)
      assert.equal("now", body(read(half(server, ask("/")))))
      assert.equal("now", body(read(half(server, get("/")))))
      assert.equal("now", body(read(half(server, "GET / HTTP/1.0\r\n\r\n"))))
    end)
  end)

  it("gets it also when it comes later, behind an interim one that shows whether anybody is there", function()
    with({ routes = routes(ends) }, function(server)
      local reply = read(half(server, ask("/later?seconds=1.3")))
      assert.equal("later", reply:match("^HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n.*\r\n\r\n(.*)$"), reply)
      assert.equal("slept", table.remove(ends))
      local quick = read(half(server, ask("/later?seconds=0.05")))
      assert.matches("^HTTP/1.1 200 OK\r\n.*later$", quick)
      assert.equal("slept", table.remove(ends))
    end)
  end)

  it("gets the whole of a long one, however slowly it takes it", function()
    with({ routes = routes(ends) }, function(server)
      for _, request in ipairs({ ask("/big"), get("/big") }) do
        local talk = half(server, request)
        allua.sleep(0.6)
        assert.equal(BIG, #body(read(talk)))
      end
    end)
  end)

  it("gets all of what is streamed to it, as long as something comes", function()
    with({ routes = routes(ends) }, function(server)
      local reply = read(half(server, ask("/steady")))
      assert.matches("5;\r\n0\r\n\r\n$", reply)
    end)
  end)

  it("gets the replies to all requests that it sent before", function()
    with({ routes = routes(ends) }, function(server)
      local pipelined = ask("/later?seconds=0.1"):rep(5) .. ask("/")
      local _, replies = read(half(server, pipelined)):gsub("HTTP/1.1 200 OK", "")
      assert.equal(6, replies)
      local talk = half(server, ask("/big"):rep(3))
      allua.sleep(0.1)
      _, replies = read(talk):gsub("HTTP/1.1 200 OK", "")
      assert.equal(3, replies)
      ends = {}
    end)
  end)

  it("gets nothing for a request that it did not complete", function()
    with({ routes = routes(ends) }, function(server)
      assert.equal("", read(half(server, "GET / HTTP/1.1\r\nHost:")))
      assert.equal("", read(half(server, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc")))
    end)
  end)
end)

describe("a client that is gone", function()
  it("is told from it within a second or so, and its tasks are cancelled", function()
    local ends = {}
    with({ routes = routes(ends) }, function(server)
      local requests = {
        ask("/later?seconds=60"),
        get("/later?seconds=60"),
        "GET /later?seconds=60 HTTP/1.0\r\n\r\n",
        ask("/stream"),
        ask("/later?seconds=60"):rep(3),
      }
      for i, request in ipairs(requests) do
        local talk = server_of.connect(server)
        talk:send(request)
        web.wait_until(function()
          return ends.begun == i
        end)
        talk:close()
        talk:wait()
      end
      web.wait_until(function()
        return #ends == #requests
      end)
      allua.sleep(0.1)
      assert.equal(("CancelledError "):rep(#requests), table.concat(ends, " ") .. " ")
    end)
  end)

  it("does not end the program that writes to it", function()
    local child <close> = host.start({
      "-e",
      [[local server = allua.serve({ routes = { ["/"] = function(event)
        return event:stream(function(write)
          write("begun")
          os.execute("sleep 0.3") -- the loop does not see the client go
          print(pcall(function()
            for _ = 1, 20 do
              write("more")
              os.execute("sleep 0.01")
            end
          end))
        end)
      end } })
      print("at " .. server.port .. "!")]],
    })
    child:wait_for("!")
    local talk = server_of.connect({ port = tonumber(child.out:match("%d+")) })
    talk:read()
    talk:send(ask("/"))
    web.wait_until(function()
      return talk.length > 0
    end)
    talk:close()
    child:wait_for("ClientLeftError")
    child:kill("sigterm")
    assert.same({ 0, 0 }, { child:wait().code, child:wait().signal })
  end)

  it("leaves no connection behind", function()
    with({ routes = routes({}), limits = { connections = 3 } }, function(server)
      for _ = 1, 3 do
        local talk = half(server, ask("/later?seconds=60"))
        talk:close()
        talk:wait()
      end
      assert.equal("now", body(server_of.talk(server, { get("/") })))
      web.wait_until(function()
        return server.listener:active() == 0
      end)
    end)
  end)
end)
