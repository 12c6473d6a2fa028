-- allua.fetch with peers as they are: cut off anywhere, killed, expired; and what it never tells.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local terminals = require("spec.support.terminal")
local uv = require("luv")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local fetch = allua.fetch

local block = ("0123456789abcdef"):rep(4096) -- 64 KiB

describe("a reply that is cut off", function()
  local replies = {
    ["with a length"] = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"a":[1]}',
    ["in chunks"] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "4\r\nabcd\r\n5;x=y\r\nefghi\r\n0\r\nX: y\r\n\r\n",
    ["behind an interim one"] = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    ["an error"] = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone",
    ["a redirect"] = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 4\r\n\r\nhere",
  }
  for name, reply in pairs(replies) do
    it(name .. " raises wherever that is", function()
      -- The last line feed is one that libcurl does not wait for.
      for length = 0, #(reply:gsub("\n$", "")) - 1 do
        local server <close> = web.cut(reply:sub(1, length))
        local err = errors.raised(fetch, server.url, { redirects = false })
        assert.is_true(allua.is_error(err, "FetchError"), length)
        assert.is_nil(err.status, length)
        assert.is_true(err.code == "closed" or length < 9 and err.code == "protocol", length .. tostring(err))
        local raw <close> = (function()
          local ok, response = pcall(fetch.raw, server.url, { redirects = false })
          return ok and response or nil
        end)()
        if raw then -- its head was there
          local body_err = errors.raised(function()
            return raw.body
          end)
          assert.equal("closed", body_err.code)
        end
      end
    end)
  end
end)

describe("a reply that a reset follows", function()
  -- As from a server that has closed its connection before it had read all of the request.
  local function resets(bytes)
    return web.raw(function(client)
      client:write(bytes, function()
        client:close_reset()
      end)
    end)
  end

  it("is taken when it is whole, and else raises", function()
    for _, options in ipairs({ {}, { body = "x" }, { retry = 0 } }) do
      local whole <close> = resets(web.reply("413 Content Too Large", {}, "too much"))
      local err = errors.raised(fetch, whole.url, options)
      assert.same({ 413, "too much" }, { err.status, err.data }, tostring(err))
      local cut <close> = resets("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
      err = errors.raised(fetch, cut.url, options)
      assert.equal("closed", err.code)
      assert.is_true(errors.says(err, "reset by peer"), tostring(err))
    end
    local stream <close> = resets("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    local response <close> = fetch.raw(stream.url)
    local next_chunk = response:chunks()
    assert.equal("half", next_chunk())
    assert.equal("closed", errors.raised(next_chunk).code)
  end)
end)

describe("an nginx that is killed", function()
  for _, version in ipairs({ "1.1", "2" }) do
    it("in the middle of a body over HTTP/" .. version .. " breaks it off", function()
      local nginx <close> = web.nginx({ big = block:rep(64) }, "limit_rate 200k;")
      local api = fetch.with({ base_url = version == "2" and nginx.tls or nginx.url, ca = nginx.ca })
      local reply = api.raw("/big")
      assert.equal(version, reply.http_version)
      local chunks = reply:chunks()
      assert.is_true(#chunks() > 0)
      -- The workers, its children, too; it first, for it would start others.
      local workers = host.run({ "-o", "pid=", "--ppid", nginx.process:get_pid() }, { program = "ps" }).out
      nginx.process:kill("sigkill")
      nginx.ended:await()
      for worker in workers:gmatch("%d+") do
        uv.kill(tonumber(worker), "sigkill")
      end
      local err = errors.raised(function()
        while chunks() do
        end
      end)
      assert.equal("closed", err.code, tostring(err))
      -- As long as the socket that listened is not gone, a handshake may break off too.
      local after = errors.raised(api, "/big").code
      assert.is_true(after == "connect" or after == "closed" or after == "tls", after)
    end)
  end
end)

describe("an nginx that closes connections", function()
  it("after a few requests, or a while, is connected to again", function()
    local nginx <close> = web.nginx(
      {},
      [[
      location /few { keepalive_requests 3; return 200 $connection; }
      location /brief { keepalive_timeout 1; return 200 $connection; }
      location /none { keepalive_timeout 0; return 200 $connection; }
    ]]
    )
    local seen, count = {}, 0
    for _ = 1, 12 do
      local connection = fetch(nginx.url .. "/few")
      count = count + (seen[connection] and 0 or 1)
      seen[connection] = true
    end
    assert.is_true(count >= 4, count)
    local before = fetch(nginx.url .. "/brief")
    allua.sleep(1.3)
    assert.not_equal(before, fetch(nginx.url .. "/brief"))
    assert.not_equal(fetch(nginx.url .. "/none"), fetch(nginx.url .. "/none"))
  end)

  it("is slow, and is waited for", function()
    local nginx <close> = web.nginx({ slow = block:rep(4) }, "limit_rate 256k;")
    local start = allua.now()
    assert.is_true(fetch(nginx.url .. "/slow") == block:rep(4))
    assert.is_true(allua.now() - start > 0.3)
  end)
end)

describe("over TLS", function()
  -- Signs a certificate of that many days; a negative number has ended already.
  local function certificates(folder, days)
    local function openssl(...)
      local result = host.run({ ... }, { program = "openssl" })
      assert.equal(0, result.code, result.err)
    end
    local key = { "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes" }
    local function request(name, more, ...)
      openssl("req", key[1], key[2], key[3], key[4], key[5], "-subj", "/CN=" .. name, "-keyout", folder:at(more), ...)
    end
    request("the authority", "ca.key", "-x509", "-days", "9", "-out", folder:at("ca.pem"))
    request("localhost", "key.pem", "-out", folder:at("request.pem"))
    folder:write("names", "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    folder:write("index.txt", "")
    folder:write("serial", "01\n")
    folder:write(
      "ca.conf",
      ([[
        [ca]
        default_ca = own
        [own]
        database = %s/index.txt
        serial = %s/serial
        new_certs_dir = %s
        default_md = sha256
        policy = any
        [any]
        commonName = supplied
      ]]):gsub("%%s", folder.path)
    )
    local from, to = os.date("!%Y%m%d%H%M%SZ", os.time() - 864000), os.date("!%Y%m%d%H%M%SZ", os.time() + days * 86400)
    local own = { "-cert", folder:at("ca.pem"), "-keyfile", folder:at("ca.key"), "-in", folder:at("request.pem") }
    openssl(
      "ca",
      "-batch",
      "-notext",
      "-config",
      folder:at("ca.conf"),
      "-startdate",
      from,
      "-enddate",
      to,
      "-extfile",
      folder:at("names"),
      "-out",
      folder:at("certificate.pem"),
      table.unpack(own)
    )
  end

  local function with(days, fn)
    local folder <close> = scratch.folder()
    certificates(folder, days)
    local server = allua.serve({
      tls = { cert = folder:at("certificate.pem"), key = folder:at("key.pem") },
      routes = {
        ["/"] = function()
          return "secret"
        end,
      },
    })
    local ok, err = pcall(fn, server, folder)
    server:close()
    if not ok then
      error(err, 0)
    end
  end

  it("a certificate that an authority has signed is trusted with it: a file, a folder, the text", function()
    with(2, function(server, folder)
      local text = assert(io.open(folder:at("ca.pem"))):read("a")
      assert.equal("secret", fetch(server.url, { ca = folder:at("ca.pem") }))
      assert.equal("secret", fetch(server.url, { ca = text }))
      folder:write("trusted/ca.pem", text)
      assert.equal("tls", errors.raised(fetch, server.url, { ca = folder:at("trusted") }).code)
      assert.equal(0, host.run({ "rehash", folder:at("trusted") }, { program = "openssl" }).code)
      assert.equal("secret", fetch(server.url, { ca = folder:at("trusted") }))
      local err = errors.raised(fetch, server.url)
      assert.equal("tls", err.code)
      assert.is_true(errors.says(err, "unable to get local issuer certificate"), err.message)
      assert.equal("tls", errors.raised(fetch, server.url, { ca = "-----BEGIN nonsense" }).code)
    end)
  end)

  it("one that has expired is not", function()
    with(-1, function(server, folder)
      local err = errors.raised(fetch, server.url, { ca = folder:at("ca.pem") })
      assert.equal("tls", err.code)
      assert.is_true(errors.says(err, "certificate has expired"), err.message)
      assert.equal("secret", fetch(server.url, { ca = folder:at("ca.pem"), verify = false }))
    end)
  end)

  it("a server that does not speak it says so, and one that goes in the handshake", function()
    for greeting, codes in pairs({
      ["220 hello, I speak SMTP\r\n"] = { tls = true },
      [""] = { tls = true, closed = true },
    }) do
      local listener, client, gone = uv.new_tcp(), uv.new_tcp(), allua.promise()
      assert(listener:bind("127.0.0.1", 0))
      assert(listener:listen(1, function()
        listener:accept(client)
        client:write(greeting)
        client:read_start(function()
          client:read_stop()
          client:close(function()
            gone:resolve()
          end)
        end)
      end))
      local err = errors.raised(fetch, "https://127.0.0.1:" .. listener:getsockname().port)
      listener:close()
      gone:await()
      assert.is_true(codes[err.code], tostring(err))
    end
  end)
end)

describe("credentials", function()
  it("in a URL, of the server, a redirect or a proxy, stand in no error", function()
    local bad <close> = web.raw(function(client, head)
      local to = head:find("^GET /relative") and "//me:secret@[bad/" or "http://me:secret@127.0.0.1:9/x"
      client:write(web.reply("302 Found", { "Location: " .. to }, ""))
    end)
    for _, case in ipairs({
      { "http://me:secret@127.0.0.1:9/" },
      { "http://me:secret@[bad/" },
      { "gopher://me:secret@h/" },
      { "me:secret@h/path" },
      { "secret:@h/path" },
      { "//me:secret@[bad/", { base_url = "http://h/" } },
      { "/x", { base_url = "http://me:secret@[bad/" } },
      { "http://me:sec/secret@h:1/" },
      { "http://me:sec?secret@h:1/" },
      { "http:\\\\me:secret@h:1/" },
      { " http://me:secret@h/" },
      { "http://me:se cret@secret@127.0.0.1:9/" },
      { bad.url .. "/" },
      { bad.url .. "/relative" },
      { "http://h.invalid/", { proxy = "http://me:secret@[bad" } },
      { "http://h.invalid/", { proxy = "foo://me:secret@h" } },
      { "http://h.invalid/", { proxy = "me:secret@h:99999999" } },
      { "http://h.invalid/", { proxy = "http://me:secret@127.0.0.1:9" } },
      { "http://h.invalid/", { proxy = "http://me:secret@nobody.invalid" } },
      { "http://h.invalid/", { proxy = "http://me:secret@h\r\nX: y" } },
    }) do
      local err = errors.raised(fetch, case[1], case[2])
      local told = { tostring(err) }
      for name, value in pairs(type(err) == "table" and err or {}) do
        told[#told + 1] = name ~= "headers" and tostring(value) or nil
      end
      assert.is_nil(table.concat(told, "\n"):find("secret", 1, true), told[1])
    end
  end)

  it("stand in no report, trace or page either", function()
    local folder <close> = scratch.folder()
    local server <close> = web.raw(function(client)
      client:write(web.reply("404 Not Found", {}, ""))
    end)
    local url = server.url:gsub("//", "//me:secret@")
    local code = ([[
      local url, file = %q, %q
      pcall(allua.fetch, url .. "/pcall")
      pcall(allua.fetch.raw, url .. "/raw")
      pcall(allua.fetch.download, url .. "/file", file)
      all({ one = function() allua.fetch(url .. "/last") end, two = function(self) return self.one end })
    ]]):format(url, folder:at("file"))
    for _, option in ipairs({ "--trace", "--report", "--waterfall" }) do
      local path = folder:at("out" .. option)
      local args = option == "--waterfall" and { option, "-e", code } or { option, path, "-e", code }
      local result = host.run(args, { env = { http_proxy = "http://me:secret@[bad", no_proxy = "127.0.0.1" } })
      assert.equal(1, result.code, result.err)
      assert.matches("404 Not Found", result.err)
      local written = option == "--waterfall" and "" or assert(io.open(path)):read("a")
      assert.is_nil((result.out .. result.err .. written):find("secret", 1, true), option)
    end
    local result = host.eval("allua.fetch('http://h.invalid/')", { env = { http_proxy = "http://me:secret@[bad" } })
    assert.matches("Unsupported proxy syntax", result.err)
    assert.is_nil(result.err:find("secret", 1, true))
  end)
end)

describe("fetch refuses", function()
  it("a body where the method has none", function()
    for _, options in ipairs({ { body = "x" }, { body = {} }, { form = { a = "1" } } }) do
      options.method = "head"
      assert.is_true(errors.says(errors.raised(fetch, "http://h/", options), "a HEAD request has no body"))
    end
  end)
end)

describe("a Retry-After", function()
  it("that is nonsense asks for nothing", function()
    for _, asked in ipairs({ "-5", "nan", "0x7", "junk", "Thu, 99 Foo 2020", "\255\254", "" }) do
      local server <close> = web.raw(function(client, _, _, count)
        client:write(
          count < 2 and web.reply("503 No", { "Retry-After: " .. asked }, "") or web.reply("200 OK", {}, "x")
        )
      end)
      local start = allua.now()
      assert.equal("x", fetch(server.url, { retry = { attempts = 2, delay = 0.001 } }), asked)
      assert.is_true(allua.now() - start < 5, asked)
    end
    for _, asked in ipairs({ "1e999", "99999999999999999999" }) do
      local server <close> = web.raw(function(client)
        client:write(web.reply("503 No", { "Retry-After: " .. asked }, ""))
      end)
      assert.equal(503, errors.raised(fetch, server.url, { retry = { attempts = 2, delay = 0.001 } }).status)
    end
  end)
end)

describe("a download on a terminal", function()
  it("shows where it goes on, and what it cannot know", function()
    local folder <close> = scratch.folder({ ["half name"] = block })
    local server <close> = web.raw(function(client, head)
      if head:find("^GET /unknown") then
        client:write("HTTP/1.1 200 OK\r\n\r\n" .. block, function()
          client:shutdown()
        end)
      else
        local line = "206 Partial Content\r\nContent-Range: bytes 65536-131071/131072\r\nContent-Length: 65536"
        client:write("HTTP/1.1 " .. line .. "\r\n\r\n" .. block:sub(1, 32768))
        client:write(block:sub(32769))
      end
    end)
    local code = "allua.fetch.download('%s/%s', '%s')"
    local half <close> = terminals.start({ "-e", code:format(server.url, "half", folder:at("half name")) })
    half:wait_for("half name [##############################] 100%  131.1 kB of 131.1 kB")
    assert.equal(0, half:wait())
    assert.is_true(assert(io.open(folder:at("half name"))):read("a") == block .. block)
    local unknown <close> = terminals.start({ "-e", code:format(server.url, "unknown", folder:at("unknown")) })
    unknown:wait_for("unknown  ")
    unknown:wait_for("B/s")
    assert.equal(0, unknown:wait())
  end)
end)
