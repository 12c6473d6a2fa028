-- allua.fetch where things go wrong: cut off, slow, too long, cancelled, tried again.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local size = require("spec.support.size")
local uv = require("luv")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local fetch = allua.fetch

local function silent()
  return web.raw(function() end)
end

describe("a failed transfer", function()
  local cases = {
    { "with no reply", "", "closed", "Empty reply" },
    { "cut off in the head", "HTTP/1.1 200 OK\r\nContent-Le", "closed" },
    { "cut off in the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "closed", "7 bytes remaining" },
    { "cut off in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "closed" },
    { "with no HTTP", "220 hello, I speak SMTP\r\n", "protocol" },
    { "with a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab", "closed" },
    { "with a bad gzip", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd", "protocol" },
    {
      "with a head without end",
      "HTTP/1.1 200 OK\r\n" .. ("X: " .. ("y"):rep(8000) .. "\r\n"):rep(60),
      "too_large",
      "256 KiB",
    },
    {
      "with a line of the head that has no end",
      "HTTP/1.1 200 OK\r\nX: " .. ("y"):rep(110000),
      "memory",
      "a line of the head is longer than 100 KiB",
    },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. " raises what happened", function()
      local server <close> = web.cut(case[2])
      local err = errors.raised(fetch, server.url)
      assert.is_true(allua.is_error(err, "FetchError"), tostring(err))
      assert.equal(case[3], err.code, tostring(err))
      assert.is_nil(err.status)
      assert.equal(server.url .. "/", err.url)
      assert.is_true(errors.says(err, "GET " .. server.url .. "/: "), err.message)
      assert.is_true(errors.says(err, case[4] or ""), err.message)
    end)
  end

  it("tells of a name that nobody has, and of a server that is not there", function()
    assert.equal("resolve", errors.raised(fetch, "http://nobody.invalid/").code)
    assert.equal("connect", errors.raised(fetch, "http://127.0.0.1:1/").code)
  end)

  it("tells at once of a server that switches to another protocol, asked to or not", function()
    local switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    local interim, last = "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"
    for _, bytes in ipairs({ switch, interim .. switch, switch .. last }) do
      local server <close> = web.raw(function(client)
        client:write(bytes)
      end)
      local asked = { headers = { Upgrade = "websocket", Connection = "Upgrade" } }
      for _, options in ipairs({ asked, { to = function() end }, { retry = 0 }, { method = "POST", body = "x" } }) do
        local err = errors.raised(fetch, server.url, options)
        assert.same({ "protocol" }, { err.code, err.status })
        assert.is_true(errors.says(err, "the server switches to another protocol (status 101)"), err.message)
      end
      assert.equal("protocol", errors.raised(fetch, server.url).code)
      assert.equal("protocol", errors.raised(fetch.raw, server.url).code)
    end
  end)

  it("tells of a file that cannot be read", function()
    local err = errors.raised(fetch, "http://127.0.0.1:1/", { form = { f = { file = "/no/such" } } })
    assert.is_true(errors.says(err, 'cannot read the file "/no/such"'), tostring(err))
  end)

  it("ends with the group that it belongs to", function()
    local server <close> = silent()
    local err = errors.raised(allua.all, {
      slow = function()
        fetch(server.url)
      end,
      wrong = function()
        web.wait_until(function()
          return #server.requests == 1
        end)
        fetch("http://127.0.0.1:1/")
      end,
    })
    assert.equal("connect", err.code)
    web.wait_until(function()
      return server.closed == 1
    end)
  end)
end)

describe("max_body", function()
  it("stops a body that is too long, with and without a length", function()
    local long <close> = web.cut("HTTP/1.1 200 OK\r\n\r\n" .. ("x"):rep(5000))
    local told <close> = web.raw(function(client)
      client:write(web.reply("200 OK", {}, ("x"):rep(5000)))
    end)
    for _, server in ipairs({ long, told }) do
      local err = errors.raised(fetch, server.url, { max_body = 4999 })
      assert.equal("too_large", err.code)
      assert.equal(5000, #fetch(server.url, { max_body = 5000 }))
    end
  end)

  it("counts what a compressed body becomes", function()
    local nginx <close> = web.nginx({ ["zeros.txt"] = ("0"):rep(1000000) }, "gzip on; gzip_types text/plain;")
    assert.equal("too_large", errors.raised(fetch, nginx.url .. "/zeros.txt", { max_body = 100000 }).code)
  end)

  it("holds for the body of an error, too, however the reply is taken", function()
    local server <close> = web.raw(function(client)
      client:write(web.reply("404 Not Found", {}, ("x"):rep(1000)))
    end)
    assert.equal("too_large", errors.raised(fetch, server.url, { max_body = 100 }).code)
    local err = errors.raised(fetch, server.url, { max_body = 100, to = print })
    assert.same({ 404, "" }, { err.status, err.data })
  end)

  it("may be without end", function()
    local server <close> = web.raw(function(client)
      client:write(web.reply("200 OK", {}, ("x"):rep(5000)))
    end)
    local api = fetch.with({ max_body = 4000 })
    assert.equal("too_large", errors.raised(api, server.url).code)
    assert.equal(5000, #api(server.url, { max_body = math.huge }))
    assert.equal(5000, #api(server.url, { max_body = math.huge, on_progress = function() end }))
  end)

  it("is 64 MiB unless told", function()
    local server <close> = web.raw(function(client)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 67108865\r\n\r\n")
      local block = ("x"):rep(1048576)
      for _ = 1, 64 do
        client:write(block)
      end
      client:write("x")
    end)
    local err = errors.raised(fetch, server.url)
    assert.equal("too_large", err.code)
  end)
end)

describe("timeout", function()
  it("covers the wait for a reply, and for a body", function()
    local server <close> = silent()
    local drip <close> = web.raw(function(client)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    end)
    for _, url in ipairs({ server.url, drip.url }) do
      local start = allua.now()
      local err = errors.raised(fetch, url, { timeout = 0.1 })
      assert.equal("timeout", err.code)
      assert.is_true(allua.now() - start >= 0.09 and allua.now() - start < 30)
    end
    local reply = fetch.raw(drip.url, { timeout = 0.5 })
    assert.equal(
      "timeout",
      errors.raised(function()
        return reply.body
      end).code
    )
  end)

  it("covers all redirects together", function()
    local timer = uv.new_timer()
    local server <close> = web.raw(function(client)
      timer:start(30, 0, function()
        client:write(web.reply("302 Found", { "Location: /" }, ""))
      end)
    end)
    local start = allua.now()
    assert.equal("timeout", errors.raised(fetch, server.url, { timeout = 0.2, redirects = 1000 }).code)
    timer:close()
    assert.is_true(allua.now() - start < 30)
  end)

  it("of allua's own drops the transfer", function()
    local server <close> = silent()
    local err = errors.raised(allua.timeout, 0.05, fetch, server.url)
    assert.is_true(allua.is_error(err, "TimeoutError"))
    web.wait_until(function()
      return server.closed == 1
    end)
  end)
end)

describe("cancelling", function()
  it("drops the transfer: the server sees the client go", function()
    collectgarbage("stop") -- which would drop it too, later
    local going <close> = setmetatable({}, { -- luacheck: ignore
      __close = function()
        collectgarbage("restart")
      end,
    })
    for _, case in ipairs({ { fetch }, { fetch, { method = "PUT" } }, { fetch, { to = print } }, { fetch.raw } }) do
      local server <close> = silent()
      local promise = allua.spawn(case[1], server.url, case[2])
      web.wait_until(function()
        return #server.requests == 1
      end)
      promise:cancel()
      assert.is_true(allua.is_error(errors.raised(promise.await, promise), "CancelledError"))
      web.wait_until(function()
        return server.closed == 1
      end)
    end
  end)

  it("drops hundreds of transfers", function()
    local server <close> = silent()
    local promises = {}
    for i = 1, 200 do
      promises[i] = allua.spawn(fetch, server.url .. "/" .. i)
    end
    web.wait_until(function()
      return #server.requests == 200
    end)
    for _, promise in ipairs(promises) do
      promise:cancel()
      pcall(promise.await, promise)
    end
    web.wait_until(function()
      return server.closed == server.accepted
    end)
  end)

  it("ends a lookup and a connecting too, at once", function()
    local start = allua.now()
    pcall(allua.timeout, 0.02, fetch, "http://10.255.255.1:81/")
    pcall(allua.timeout, 0.001, fetch, "http://nobody.invalid/")
    assert.is_true(allua.now() - start < 5)
  end)

  -- libcurl closes the descriptor of a connection that is not there yet without a word.
  it("at any moment spoils no transfer that comes after it, nor the loop", function()
    local server <close> = web.raw(function(client)
      client:write(web.reply("200 OK", {}, "x"))
    end)
    local turns = {}
    for i = 1, size.of(2000) do
      turns[i] = i % 13
    end
    local failed = {}
    allua.map(turns, function(count)
      local ok, err = pcall(allua.race, {
        fetch = function()
          return fetch(server.url)
        end,
        other = function()
          for _ = 1, count do
            allua.sleep(0)
          end
        end,
      })
      if not ok then
        failed[#failed + 1] = tostring(err)
      end
    end, { concurrency = 40 })
    assert.same({}, failed)
    assert.equal("x", fetch(server.url))
  end)

  it("by a signal raises its reason, in each phase", function()
    local server <close> = web.raw(function(client, head)
      if head:find("^GET /body") then
        client:write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
      elseif head:find("^GET /again") then
        client:write(web.reply("503 No", {}, ""))
      end
    end)
    for _, path in ipairs({ "/silent", "/body", "/again" }) do
      local controller = allua.abort_controller()
      local task = allua.spawn(function()
        fetch(
          server.url .. path,
          { signal = controller.signal, retry = { attempts = 2, delay = 1000, max_delay = 2000, jitter = false } }
        )
      end)
      local before = #server.requests
      web.wait_until(function()
        return #server.requests > before
      end)
      allua.sleep(0.02)
      controller:abort("enough")
      assert.equal("enough", errors.raised(task.await, task))
    end
    local controller = allua.abort_controller()
    controller:abort("before")
    assert.equal("before", errors.raised(fetch, server.url, { signal = controller.signal }))
  end)

  it("by Ctrl-C ends a program", function()
    local server <close> = silent()
    local child <close> = host.start({ "-e", ("io.stderr:write('ready\\n') allua.fetch('%s')"):format(server.url) })
    child:wait_for("ready")
    web.wait_until(function()
      return #server.requests == 1
    end)
    child:kill("sigint")
    assert.equal(130, child:wait().code)
  end)

  it("takes a response that nobody reads with it", function()
    local server <close> = web.raw(function(client)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    end)
    do
      local reply = fetch.raw(server.url)
      assert.equal(200, reply.status)
    end
    web.wait_until(function()
      collectgarbage()
      return server.closed == 1
    end)
    do
      local reply <close> = fetch.raw(server.url)
      assert.equal(200, reply.status)
    end
    web.wait_until(function()
      return server.closed == 2
    end)
  end)

  it("a program that ends leaves nothing behind, under way or not", function()
    local server <close> = web.raw(function(client)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    end)
    local result = host.eval(([[
      reply = allua.fetch.raw("%s")
      print(reply.status)
      os.exit(3, true)
    ]]):format(server.url))
    assert.same({ "200\n", "", 3 }, { result.out, result.err, result.code })
  end)
end)

describe("retry", function()
  -- Fails n - 1 times.
  local function until_the(n, failure)
    return web.raw(function(client, _, _, count)
      client:write(count < n and failure or web.reply("200 OK", {}, "done"))
    end)
  end

  local quick = { attempts = 4, delay = 0.001 }

  it("tries again what may go better, as often as it is told", function()
    local server <close> = until_the(3, web.reply("503 Not now", {}, ""))
    assert.equal("done", fetch(server.url, { retry = quick }))
    assert.equal(3, #server.requests)
    local never <close> = until_the(99, web.reply("500 Never", {}, ""))
    assert.equal(500, errors.raised(fetch, never.url, { retry = quick }).status)
    assert.equal(4, #never.requests)
    local twice <close> = until_the(99, web.reply("502 Never", { "Retry-After: 0" }, ""))
    assert.equal(502, errors.raised(fetch, twice.url, { retry = 1 }).status)
    assert.equal(2, #twice.requests)
  end)

  it("does not try again what will not, nor what may have been done", function()
    local missing <close> = until_the(99, web.reply("404 Not Found", {}, ""))
    errors.raised(fetch, missing.url, { retry = quick })
    assert.equal(1, #missing.requests)
    local server <close> = until_the(99, web.reply("503 Not now", {}, ""))
    errors.raised(fetch, server.url, { retry = quick, body = "x" })
    assert.equal(1, #server.requests)
  end)

  it("does, where `when` says so", function()
    local server <close> = until_the(3, web.reply("409 Conflict", {}, ""))
    local seen = {}
    local retry = {
      attempts = 4,
      delay = 0.001,
      when = function(err, attempt)
        seen[attempt] = err.status
        return true
      end,
    }
    assert.equal("done", fetch(server.url, { retry = retry, body = "x" }))
    assert.same({ 409, 409 }, seen)
  end)

  it("waits as long as the server asks, but not longer than it may", function()
    local server <close> = until_the(2, web.reply("429 Slow down", { "Retry-After: 1" }, ""))
    local start = allua.now()
    assert.equal("done", fetch(server.url, { retry = quick }))
    assert.is_true(allua.now() - start >= 0.99)
    local date = os.date("!%a, %d %b %Y %H:%M:%S GMT", os.time() + 3600)
    for _, asked in ipairs({ "3600", date }) do
      local busy <close> = until_the(99, web.reply("503 Busy", { "Retry-After: " .. asked }, ""))
      assert.equal(503, errors.raised(fetch, busy.url, { retry = quick }).status)
      assert.equal(1, #busy.requests)
    end
    local soon <close> = until_the(99, web.reply("503 Busy", { "Retry-After: 5" }, ""))
    assert.equal(503, errors.raised(fetch, soon.url, { retry = quick, timeout = 1 }).status)
  end)

  it("does not, once a function has got a part of the reply, which would come twice", function()
    local server <close> = web.cut("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    local got = {}
    local err = errors.raised(fetch, server.url, {
      retry = quick,
      to = function(chunk)
        got[#got + 1] = chunk
      end,
    })
    assert.same({ "closed", { "half" } }, { err.code, got })
    assert.equal(1, server.accepted)
  end)

  it("tries a transfer that failed again", function()
    local server <close> = web.raw(function(client, _, _, count)
      if count < 3 then
        client:close_reset()
      else
        client:write(web.reply("200 OK", {}, "done"))
      end
    end)
    assert.equal("done", fetch(server.url, { retry = quick }))
  end)

  it("refuses what allua.retry refuses", function()
    local err = errors.raised(fetch, "http://127.0.0.1:1/", { retry = { atempts = 3 } })
    assert.is_true(errors.says(err, 'unknown option "atempts" (did you mean "attempts"?)'), tostring(err))
  end)
end)

describe("a file that a transfer was to fill", function()
  it("is not there, or is as it was, when the transfer failed", function()
    local server <close> = web.cut("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    local missing <close> = web.raw(function(client)
      client:write(web.reply("404 Not Found", { "Content-Type: application/json" }, '{"why":"gone"}'))
    end)
    local folder <close> = scratch.folder({ old = "as it was" })
    assert.equal("closed", errors.raised(fetch, server.url, { to = folder:at("new") }).code)
    assert.equal("closed", errors.raised(fetch, server.url, { to = folder:at("old") }).code)
    assert.equal("gone", errors.raised(fetch, missing.url, { to = folder:at("old") }).data.why)
    assert.is_nil(io.open(folder:at("new")))
    assert.is_nil(io.open(folder:at("new.part")))
    local file <close> = io.open(folder:at("old"))
    assert.equal("as it was", file:read("a"))
  end)

  it("that cannot be written says so", function()
    local server <close> = web.raw(function(client)
      client:write(web.reply("200 OK", {}, "x"))
    end)
    local err = errors.raised(fetch, server.url, { to = "/no/such/folder/file" })
    assert.is_true(errors.says(err, "cannot write /no/such/folder/file"), tostring(err))
  end)
end)
