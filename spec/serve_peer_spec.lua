-- allua.serve with clients as they are: curl, wrk, h2load; thousands that send anything but HTTP.

local allua = require("allua")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local server_of = require("spec.support.server")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local get, status, body, talk, with = server_of.get, server_of.status, server_of.body, server_of.talk, server_of.with

-- The server in a process of its own, so that both sides have time.
local function start(more)
  local child = host.start({
    "-e",
    ([[local server = allua.serve({ %s routes = {
      ["GET /"] = function() return "hello" end,
      ["GET /json"] = function() return { message = "Hello, World!" } end,
      ["GET /later"] = function() allua.sleep(0.001) return "later" end,
      ["POST /echo"] = function(event) return event:body() end,
      ["GET /stream"] = function(event)
        return event:stream(function(write) for i = 1, 100 do write(i .. ";") end end)
      end,
      ["GET /files/*path"] = allua.serve.files("examples"),
    } })
    print("at " .. server.port .. "!")]]):format(more or ""),
  })
  child:wait_for("!")
  local port = tonumber(child.out:match("%d+"))
  return child, { port = port, url = "http://127.0.0.1:" .. port }
end

local function run(program, ...)
  return host.run({ ... }, { program = program })
end

-- Still there, and nothing said.
local function finish(child, server)
  assert.equal("hello", body(talk(server, { get("/") })))
  child:kill("sigterm")
  local result = child:wait()
  assert.same({ "", 0 }, { result.err, result.code })
end

describe("serve answers", function()
  it("curl: each method, ranges, uploads with 100-continue, HTTP/1.0, many on one connection", function()
    local child <close>, server = start("limits = { body = 4 * 1024 * 1024 },")
    local folder <close> = scratch.folder({ upload = ("0123456789"):rep(200000) })
    local function curl(...)
      local result = run("curl", "-sS", "--max-time", "60", ...)
      assert.equal(0, result.code, result.err)
      return result.out
    end
    assert.equal("hello", curl(server.url))
    assert.equal("hello", curl("--http1.0", server.url))
    assert.equal("hello200 text/plain; charset=utf-8", curl("-w", "%{http_code} %{content_type}", server.url))
    assert.matches("^HTTP/1.1 200 OK\r\n.*Content%-Length: 5\r\n\r\n$", curl("-I", server.url .. "/"))
    assert.matches("Allow: GET, HEAD, OPTIONS", curl("-i", "-X", "OPTIONS", server.url))
    assert.matches("^HTTP/1.1 405 ", curl("-i", "-X", "DELETE", server.url))
    assert.equal("-- l", curl("-r", "0-3", server.url .. "/files/load.lua"))
    assert.equal("a=1&b=%C3%BC", curl("-d", "a=1", "--data-urlencode", "b=ü", server.url .. "/echo"))
    local sent = assert(io.open(folder:at("upload"), "rb")):read("a")
    for _, more in ipairs({ "Expect: 100-continue", "Transfer-Encoding: chunked", "X-Other: y" }) do
      assert.is_true(sent == curl("--data-binary", "@" .. folder:at("upload"), "-H", more, server.url .. "/echo"), more)
    end
    local streamed = {}
    for i = 1, 100 do
      streamed[i] = i .. ";"
    end
    assert.equal(table.concat(streamed), curl(server.url .. "/stream"))
    assert.equal(table.concat(streamed), curl("--http1.0", server.url .. "/stream"))
    local many = curl("-w", "%{num_connects}\n", server.url .. "/files/load.lua?[1-50]", "-o", "/dev/null")
    assert.equal("1\n" .. ("0\n"):rep(49), many)
    finish(child, server)
  end)

  it("wrk: hundreds of connections, none of whose requests fails", function()
    local child <close>, server = start()
    for _, path in ipairs({ "/", "/json", "/later", "/stream" }) do
      local result = run("wrk", "-t", "1", "-c", "200", "-d", "1s", "--timeout", "60s", server.url .. path)
      assert.equal(0, result.code, result.err)
      assert.is_true(tonumber(result.out:match("(%d+) requests in")) > 0, result.out)
      assert.is_nil(result.out:find("Socket errors", 1, true), result.out)
      assert.is_nil(result.out:find("Non-2xx", 1, true), result.out)
    end
    finish(child, server)
  end)

  it("h2load: each of its requests, pipelined or not", function()
    local child <close>, server = start()
    local n = math.max(100, size.of(20000) // 100 * 100)
    for _, path in ipairs({ "/", "/later", "/files/load.lua" }) do
      local result = run("h2load", "--h1", "-n", tostring(n), "-c", "50", "-m", "10", server.url .. path)
      assert.equal(0, result.code, result.err)
      assert.matches(("%d succeeded, 0 failed, 0 errored, 0 timeout"):format(n), result.out)
      assert.matches(("status codes: %d 2xx, 0 3xx, 0 4xx, 0 5xx"):format(n), result.out)
    end
    finish(child, server)
  end)
end)

describe("serve survives", function()
  local seeds = {
    "GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nCookie: a=1; b=2\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789",
    "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n6;a=b\r\nefghij\r\n0\r\n\r\n",
    'GET /files/load.lua HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9\r\nIf-None-Match: "x"\r\n\r\n',
    "GET /files/%2e%2e/Makefile?a=%41&b HTTP/1.1\r\nHost: x\r\n\r\n",
  }
  local junk =
    { "\0", "\r", "\n", "\r\n", " ", "\t", ":", ";", "%", "\255", "0", "99999999999999999999", "chunked", "/../" }

  local function mutated(random)
    local text = seeds[random(#seeds)]:rep(random(3))
    for _ = 1, random(0, 4) do
      local at, kind = random(#text), random(4)
      if kind == 1 then
        text = text:sub(1, at - 1) .. junk[random(#junk)] .. text:sub(at)
      elseif kind == 2 then
        text = text:sub(1, at - 1) .. text:sub(at + random(8))
      elseif kind == 3 then
        text = text:sub(1, at - 1) .. string.char(random(0, 255)) .. text:sub(at + 1)
      else
        text = text .. text:sub(at)
      end
      text = text == "" and "G" or text
    end
    return text
  end

  it("thousands of requests that are mutated, cut, in pieces and pipelined", function()
    local child <close>, server = start("limits = { head_time = 5, body_time = 5, connections = 500 },")
    local list = {}
    for i = 1, size.of(4000) do
      list[i] = i
    end
    local codes = {}
    allua.map(list, function(i)
      local client = server_of.connect(server)
      client:read()
      local text = mutated(math.random)
      local cut = i % 3 == 0 and math.random(#text) or #text
      client:send(text:sub(1, cut))
      if i % 7 == 0 then
        allua.sleep(0.001)
      end
      -- It may have been answered and closed already: luv keeps for ever what it is then asked to call.
      if i % 5 == 0 and not client.tcp:is_closing() then
        client.tcp:close_reset(function()
          client.done:resolve("")
        end)
      elseif not client.tcp:is_closing() then
        client:send(text:sub(cut + 1))
        client.tcp:shutdown()
      end
      for code in client:wait():gmatch("HTTP/1%.1 (%d%d%d) ") do
        codes[code] = (codes[code] or 0) + 1
      end
    end, { concurrency = 100 })
    local known = { 100, 200, 206, 301, 304, 400, 404, 405, 408, 412, 413, 414, 416, 417, 431, 501, 505 }
    for _, code in ipairs(known) do
      codes[tostring(code)] = nil
    end
    assert.same({}, codes)
    finish(child, server)
  end)

  it("thousands of requests at once on one connection, answered in their order", function()
    local n = size.of(5000)
    with({
      routes = {
        ["/:n"] = function(event)
          local i = tonumber(event.params.n)
          if i % 10 == 0 then
            allua.sleep(0)
          end
          return ("<%d>"):format(i)
        end,
      },
    }, function(server)
      local requests = {}
      for i = 1, n do
        requests[i] = ("GET /%d HTTP/1.1\r\nHost: x\r\n%s\r\n"):format(i, i == n and "Connection: close\r\n" or "")
      end
      local reply, i = talk(server, { table.concat(requests) }), 0
      for found in reply:gmatch("<(%d+)>") do
        i = i + 1
        assert.equal(i, tonumber(found))
      end
      assert.equal(n, i)
    end)
  end)

  it("hundreds of slow ones, which it ends when their time is over, while it answers others", function()
    with({
      limits = { head_time = 0.5, body_time = 0.5 },
      routes = {
        ["/"] = function(event)
          return event:body()
        end,
      },
    }, function(server)
      local list = {}
      for i = 1, math.min(300, size.of(3000)) do
        list[i] = i
      end
      local codes = allua.map(list, function(i)
        local client = server_of.connect(server)
        client:read()
        local text = i % 2 == 0 and "GET / HTTP/1.1\r\nHost: x\r\nX: "
          or "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        client:send(text)
        while client.done.status == "pending" do
          client:send("y")
          allua.sleep(0.05)
        end
        return status(client:wait())
      end)
      for i = 1, #list do
        assert.equal(408, codes[i])
      end
      assert.equal(200, status(talk(server, { get("/") })))
    end)
  end)

  it("a gigabyte in a file for a client that does not take it, in little memory", function()
    local folder <close> = scratch.folder({ ["sparse.bin"] = "" })
    assert.equal(0, run("truncate", "-s", "1G", folder:at("sparse.bin")).code)
    local child <close> = host.start({
      "-e",
      ([[local server = allua.serve({ routes = { ["GET /*path"] = allua.serve.files(%q) } })
      print("at " .. server.port .. "!")]]):format(folder.path),
    })
    child:wait_for("!")
    local clients = {}
    for i = 1, 8 do
      clients[i] = server_of.connect({ port = tonumber(child.out:match("%d+")) })
      clients[i]:send(get("/sparse.bin"))
    end
    allua.sleep(1)
    local resident
    for line in io.lines(("/proc/%d/status"):format(child.process:get_pid())) do
      resident = resident or tonumber(line:match("^VmRSS:%s*(%d+)"))
    end
    for _, client in ipairs(clients) do
      client:close()
      client:wait()
    end
    -- Sanitizers and valgrind have memory of their own.
    local plain = not (os.getenv("ASAN_OPTIONS") or os.getenv("VALGRIND_OPTS"))
    assert.is_true(resident < (plain and 64 or 640) * 1024, resident .. " KiB")
  end)
end)
