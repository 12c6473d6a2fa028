-- allua.serve: what a client gets, and what it does not.

local allua = require("allua")
local errors = require("spec.support.errors")
local server_of = require("spec.support.server")
local uv = require("luv")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local get, status, talk, with = server_of.get, server_of.status, server_of.talk, server_of.with

describe("allua.serve", function()
  it("answers by what the handler returns", function()
    with({
      routes = {
        ["GET /json"] = function()
          return { a = 1 }
        end,
        ["GET /none"] = function() end,
        ["GET /u/:id/*rest"] = function(event)
          return event.params.id .. "," .. event.params.rest .. "," .. event.query.q
        end,
        ["POST /echo"] = function(event)
          return event:body()
        end,
      },
    }, function(server)
      assert.matches('\r\n\r\n{"a":1}$', talk(server, { get("/json") }))
      assert.equal(204, status(talk(server, { get("/none") })))
      assert.matches("\r\n\r\n7,a/b,x y$", talk(server, { get("/u/7/a/b?q=x+y") }))
      local post = "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
      assert.matches("\r\n\r\nabcde$", talk(server, { post, "3\r\nab", "c\r\n2\r\nde\r\n0\r\n\r\n" }, 0.01))
      assert.equal(404, status(talk(server, { get("/nowhere") })))
      local wrong = talk(server, { get("/echo") })
      assert.equal(405, status(wrong))
      assert.matches("Allow: POST, OPTIONS\r\n", wrong)
      assert.matches("\r\n\r\n$", talk(server, { (get("/json"):gsub("^GET", "HEAD")) }))
    end)
  end)

  it("answers pipelined requests in order", function()
    with({
      routes = {
        ["/:n"] = function(event)
          allua.sleep(event.params.n == "1" and 0.02 or 0)
          return "<" .. event.params.n .. ">"
        end,
      },
    }, function(server)
      local one = "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
      local reply = talk(server, { one:format(1) .. one:format(2) .. get("/3") })
      assert.matches("<1>.*<2>.*<3>$", reply)
    end)
  end)

  it("takes a request byte by byte", function()
    with({
      routes = {
        ["/"] = function()
          return "ok"
        end,
      },
    }, function(server)
      local bytes = {}
      for c in get("/"):gmatch(".") do
        bytes[#bytes + 1] = c
      end
      assert.matches("ok$", talk(server, bytes, 0))
    end)
  end)

  local refused = {
    { "two Content-Lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400 },
    {
      "two framings",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      400,
    },
    { "no Host", "GET / HTTP/1.1\r\n\r\n", 400 },
    { "two Hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400 },
    { "a folded field", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400 },
    { "a space before the colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400 },
    { "a bare line feed", "GET / HTTP/1.1\nHost: x\n\n", 400 },
    { "a bare carriage return", "GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400 },
    { "a NUL", "GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 400 },
    { "an unknown coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501 },
    { "chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400 },
    { "a bad chunk", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n", 400 },
    {
      "an extension of a chunk that is none",
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\255\r\na\r\n0\r\n\r\n",
      400,
    },
    {
      "a length in a trailer",
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
      400,
    },
    { "a long target", "GET /" .. ("a"):rep(9000) .. " HTTP/1.1\r\n", 414 },
    { "a long head", "GET / HTTP/1.1\r\nHost: x\r\nA: " .. ("a"):rep(17000), 431 },
    { "many fields", "GET / HTTP/1.1\r\nHost: x\r\n" .. ("A: b\r\n"):rep(101) .. "\r\n", 431 },
    { "a long body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n", 413 },
    { "HTTP/2", "GET / HTTP/2.0\r\n\r\n", 505 },
  }
  it("refuses what is not to the letter", function()
    with({
      routes = {
        ["/"] = function(event)
          event:body()
          return "taken"
        end,
      },
    }, function(server)
      for _, case in ipairs(refused) do
        assert.equal(case[3], status(talk(server, { case[2] })), case[1])
      end
    end)
  end)

  it("cancels the tasks of a request whose client leaves", function()
    local begun, ended = allua.promise(), allua.promise()
    with({
      routes = {
        ["/"] = function()
          allua.all({
            function()
              begun:resolve()
              local _, err = pcall(allua.sleep, 60)
              ended:resolve(err)
              error(err, 0)
            end,
          })
        end,
      },
    }, function(server)
      local tcp = uv.new_tcp()
      tcp:connect("127.0.0.1", server.port, function()
        tcp:write(get("/"))
      end)
      allua.timeout(60, begun.await, begun)
      tcp:close()
      assert.is_true(allua.is_error(allua.timeout(60, ended.await, ended), "CancelledError"))
    end)
  end)

  it("suspends the writer to a client that does not read", function()
    local written = 0
    with({
      routes = {
        ["/"] = function(event)
          return event:stream(function(write)
            for _ = 1, 4096 do
              write(("x"):rep(65536))
              written = written + 65536
            end
          end)
        end,
      },
    }, function(server)
      local tcp = uv.new_tcp()
      tcp:connect("127.0.0.1", server.port, function()
        tcp:write(get("/"))
      end)
      web.wait_until(function()
        return written > 0
      end)
      allua.sleep(0.3)
      tcp:close()
      assert.is_true(written < 32 * 1024 * 1024, written)
    end)
  end)

  it("gives 408 to a head that does not come, and refuses a header that is two", function()
    local caught
    with({
      limits = { head_time = 0.2 },
      routes = {
        ["/"] = function(event)
          caught = errors.raised(event.header, event, "A", "b\r\nC: d")
        end,
      },
    }, function(server)
      assert.equal(408, status(talk(server, { "GET / HT" })))
      talk(server, { get("/") })
      assert.matches("control character", caught)
    end)
  end)

  it("refuses an option that it does not know", function()
    assert.matches('unknown option "prot" %(did you mean "port"%?%)', errors.raised(allua.serve, { prot = 1 }))
  end)
end)
