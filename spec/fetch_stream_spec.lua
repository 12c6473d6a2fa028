-- allua.fetch piece by piece: responses, chunks, files, downloads that go on, progress; TLS and HTTP/2.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local size = require("spec.support.size")
local terminals = require("spec.support.terminal")
local uv = require("luv")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local fetch = allua.fetch

local block = ("0123456789abcdef"):rep(4096) -- 64 KiB

describe("a response", function()
  local nginx

  setup(function()
    nginx = web.nginx(
      { big = block:rep(32), ["a.json"] = '{"a":[1]}', small = "small" },
      [[
        gzip on; gzip_types application/json; gzip_min_length 1;
        location /slow/ { alias FOLDER/root/; limit_rate 400k; }
        location /connection { return 200 $connection; }
      ]]
    )
  end)

  teardown(function()
    nginx:__close()
  end)

  it("has a status, headers, a URL and a version; a body when it is asked for", function()
    local reply = fetch.raw(nginx.url .. "/a.json")
    assert.same(
      { 200, "OK", nginx.url .. "/a.json", "1.1" },
      { reply.status, reply.reason, reply.url, reply.http_version }
    )
    assert.equal('{"a":[1]}', reply.body)
    assert.equal('{"a":[1]}', reply.body)
    assert.same({ a = { 1 } }, reply.data)
    assert.equal(404, fetch.raw(nginx.url .. "/none").status)
  end)

  it("comes in chunks", function()
    local chunks = {}
    for chunk in fetch.raw(nginx.url .. "/big"):chunks() do
      chunks[#chunks + 1] = chunk
    end
    assert.is_true(#chunks > 1)
    assert.is_true(table.concat(chunks) == block:rep(32))
  end)

  it("in chunks is given once", function()
    local reply = fetch.raw(nginx.url .. "/small")
    for _ in reply:chunks() do
      assert.is_true(errors.says(errors.raised(reply.chunks, reply), "taken already"))
    end
    assert.is_true(errors.says(
      errors.raised(function()
        return reply.body
      end),
      "went through chunks()"
    ))
  end)

  it("of which a part is enough drops the rest", function()
    local server <close> = web.raw(function(client)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
    end)
    for chunk in fetch.raw(server.url):chunks() do
      assert.equal("abc", chunk)
      break
    end
    web.wait_until(function()
      return server.closed == 1
    end)
  end)

  it("goes through a function, which may wait", function()
    local got, most = {}, 0
    local bytes = fetch(nginx.url .. "/big", {
      to = function(chunk)
        got[#got + 1] = chunk
        most = math.max(most, #chunk)
        allua.sleep(0.001)
      end,
    })
    assert.equal(32 * #block, bytes)
    assert.is_true(table.concat(got) == block:rep(32))
    assert.is_true(most <= 300 * 1024)
  end)

  it("ends with the error of that function", function()
    local mine = { "mine" }
    assert.equal(
      mine,
      errors.raised(fetch, nginx.url .. "/big", {
        to = function()
          error(mine)
        end,
      })
    )
  end)

  it("goes into a file", function()
    local folder <close> = scratch.folder()
    assert.equal(32 * #block, fetch(nginx.url .. "/big", { to = folder:at("big") }))
    assert.is_true(scratch.content(folder:at("big")) == block:rep(32))
  end)

  it("tells how far it is", function()
    local steps, total = {}, nil
    local body = fetch(nginx.url .. "/big", {
      on_progress = function(received, of)
        steps[#steps + 1], total = received, of
      end,
    })
    assert.equal(32 * #block, #body)
    assert.equal(32 * #block, total)
    assert.equal(total, steps[#steps])
    for i = 2, #steps do
      assert.is_true(steps[i] > steps[i - 1])
    end
    fetch(nginx.url .. "/a.json", {
      on_progress = function(received, of)
        assert.equal(9, received)
        assert.is_nil(of) -- compressed
      end,
    })
  end)

  it("that nobody takes does not fill the memory", function()
    local sent, done = 0, false
    local server <close> = web.raw(function(client)
      client:write("HTTP/1.1 200 OK\r\n\r\n")
      local function more()
        if not done and not client:is_closing() then
          sent = sent + #block
          client:write(block, more)
        end
      end
      more()
    end)
    local reply <close> = fetch.raw(server.url)
    local before
    repeat
      before = sent
      allua.sleep(0.2)
    until sent == before
    assert.is_true(sent < 16 * 1024 * 1024, sent)
    local chunks, received = reply:chunks(), 0
    while received < 32 * 1024 * 1024 do
      received = received + #chunks()
    end
    done = true
  end)

  it("in chunks keeps its connection for the next", function()
    local first = fetch(nginx.url .. "/connection")
    for _ in fetch.raw(nginx.url .. "/big"):chunks() do
    end
    assert.equal(first, fetch(nginx.url .. "/connection"))
  end)

  it("ends with its signal", function()
    local server <close> = web.raw(function(client)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    end)
    local controller = allua.abort_controller()
    local replies = {}
    for i = 1, 2 do
      replies[i] = fetch.raw(server.url, { signal = controller.signal })
    end
    local chunk = allua.spawn(replies[1]:chunks())
    local body = allua.spawn(function()
      return replies[2].body
    end)
    allua.sleep(0.01)
    controller:abort("enough")
    assert.equal("enough", errors.raised(chunk.await, chunk))
    assert.equal("enough", errors.raised(body.await, body))
    web.wait_until(function()
      return server.closed == 2
    end)
  end)

  it("with progress is kept within max_body all the same", function()
    local function nothing() end
    local err = errors.raised(fetch, nginx.url .. "/big", { max_body = 100000, on_progress = nothing })
    assert.equal("too_large", err.code)
    assert.equal("too_large", errors.raised(fetch, nginx.url .. "/big", { max_body = 100000, to = nothing }).code)
  end)

  it("is waited for by one task at a time", function()
    local server <close> = web.raw(function(client)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    end)
    local reply <close> = fetch.raw(server.url)
    local chunks = reply:chunks()
    local task = allua.spawn(chunks)
    allua.sleep(0.01)
    assert.is_true(errors.says(errors.raised(chunks), "another task waits"))
    reply:close()
    assert.equal("dropped", errors.raised(task.await, task).code)
  end)
end)

describe("fetch.download", function()
  local nginx

  setup(function()
    nginx = web.nginx(
      { big = block:rep(32), other = ("x"):rep(1000) },
      [[
        location /slow/ { alias FOLDER/root/; limit_rate 300k; }
        location /plain/ { alias FOLDER/root/; max_ranges 0; }
        location /length { alias FOLDER/root/other; add_header X-Range $http_range; }
      ]]
    )
    -- as if they had been there for a while
    for _, name in ipairs({ "big", "other" }) do
      uv.fs_utime(nginx.folder:at("root/" .. name), os.time() - 1000, os.time() - 1000)
    end
  end)

  teardown(function()
    nginx:__close()
  end)

  it("gives a file, and its size", function()
    local folder <close> = scratch.folder()
    assert.equal(32 * #block, fetch.download(nginx.url .. "/big", folder:at("big")))
    assert.is_true(scratch.content(folder:at("big")) == block:rep(32))
  end)

  it("goes on where it stopped", function()
    local folder <close> = scratch.folder()
    local path = folder:at("big")
    errors.raised(fetch.download, nginx.url .. "/slow/big", path, { timeout = 1 })
    local there = #scratch.content(path)
    assert.is_true(there > 0 and there < 32 * #block, there)
    local first
    fetch.download(nginx.url .. "/big", path, {
      on_progress = function(received, total)
        first = first or received
        assert.equal(32 * #block, total)
      end,
    })
    assert.is_true(first > there)
    assert.is_true(scratch.content(path) == block:rep(32))
    assert.equal(32 * #block, fetch.download(nginx.url .. "/big", path)) -- nothing more to do
  end)

  it("begins again where the file is another, or cannot go on", function()
    local folder <close> = scratch.folder({ changed = ("y"):rep(10), long = ("y"):rep(2000), plain = ("y"):rep(10) })
    uv.fs_utime(folder:at("changed"), 1000, 1000)
    fetch.download(nginx.url .. "/other", folder:at("changed"))
    fetch.download(nginx.url .. "/other", folder:at("long"))
    fetch.download(nginx.url .. "/plain/other", folder:at("plain"))
    for _, name in ipairs({ "changed", "long", "plain" }) do
      assert.equal(("x"):rep(1000), scratch.content(folder:at(name)), name)
    end
  end)

  it("goes on when it is tried again", function()
    local folder <close> = scratch.folder()
    local server <close> = web.raw(function(client, head)
      local from = tonumber(head:match("\r\nRange: bytes=(%d+)%-")) or 0
      local text = ("0123456789"):sub(from + 1, from + 3)
      local line = from == 0 and "200 OK\r\nContent-Length: 10"
        or ("206 Partial\r\nContent-Range: bytes %d-9/10\r\nContent-Length: %d"):format(from, 10 - from)
      client:write("HTTP/1.1 " .. line .. "\r\n\r\n" .. text, function()
        client:shutdown()
      end)
    end)
    assert.equal(10, fetch.download(server.url, folder:at("f"), { retry = { attempts = 5, delay = 0.001 } }))
    assert.equal("0123456789", scratch.content(folder:at("f")))
    assert.equal(4, #server.requests)
  end)

  it("loads nothing again where all is there", function()
    local folder <close> = scratch.folder({ f = "0123456789" })
    local server <close> = web.raw(function(client)
      client:write(web.reply("416 Range Not Satisfiable", { "Content-Range: bytes */10" }, ""))
    end)
    assert.equal(10, fetch.download(server.url, folder:at("f")))
    assert.equal("0123456789", scratch.content(folder:at("f")))
    assert.equal(1, #server.requests)
  end)

  it("raises for an error, and leaves the file alone", function()
    local folder <close> = scratch.folder({ f = "" })
    assert.equal(404, errors.raised(fetch.download, nginx.url .. "/none", folder:at("f")).status)
    assert.equal("", scratch.content(folder:at("f")))
    assert.is_true(errors.says(errors.raised(fetch.download, nginx.url), "expected the path of a file"))
  end)

  it("shows a bar on a terminal, and nothing elsewhere", function()
    local folder <close> = scratch.folder()
    local code = ("allua.fetch.download('%s/big', '%s')"):format(nginx.url, folder:at("big"))
    assert.equal("", host.eval(code).err)
    os.remove(folder:at("big"))
    local terminal <close> = terminals.start({ "-e", code })
    terminal:wait_for("big [##############################] 100%  2.1 MB of 2.1 MB")
    assert.equal(0, terminal:wait())
  end)
end)

describe("over TLS", function()
  local nginx

  setup(function()
    nginx = web.nginx(
      { ["a.txt"] = "secret", big = block:rep(32) },
      [[
      location /connection { return 200 "$connection $server_protocol"; }
    ]]
    )
  end)

  teardown(function()
    nginx:__close()
  end)

  it("a certificate that nobody vouches for is refused", function()
    local err = errors.raised(fetch, nginx.tls .. "/a.txt")
    assert.equal("tls", err.code)
    assert.is_true(errors.says(err, "self-signed certificate"), err.message)
  end)

  it("`ca` vouches for it: a file, or the text", function()
    assert.equal("secret", fetch(nginx.tls .. "/a.txt", { ca = nginx.ca }))
    assert.equal("secret", fetch(nginx.tls .. "/a.txt", { ca = scratch.content(nginx.ca) }))
    assert.equal("tls", errors.raised(fetch, nginx.tls .. "/a.txt", { ca = "/no/such" }).code)
  end)

  it("a certificate for another name is refused", function()
    local port = nginx.tls:match("%d+$")
    local err = errors.raised(fetch, "https://127.0.0.2:" .. port, { ca = nginx.ca, proxy = false })
    assert.equal("tls", err.code)
    assert.is_true(errors.says(err, "127.0.0.2"), err.message)
    assert.equal("secret", fetch("https://localhost:" .. port .. "/a.txt", { ca = nginx.ca }))
  end)

  it("`verify = false` trusts anyone, for that call alone", function()
    assert.equal("secret", fetch(nginx.tls .. "/a.txt", { verify = false }))
    assert.equal("tls", errors.raised(fetch, nginx.tls .. "/a.txt").code)
  end)

  it("HTTP/2 carries many transfers on one connection, which the others wait for", function()
    local result = host.eval(([[
      local api = allua.fetch.with({ base_url = "%s", ca = "%s" })
      local urls, seen = {}, {}
      for i = 1, 50 do
        urls[i] = "/connection?" .. i
      end
      for _, reply in ipairs(allua.map(urls, function(url) return api(url) end)) do
        seen[reply] = true
      end
      for reply in pairs(seen) do
        print(reply)
      end
    ]]):format(nginx.tls, nginx.ca)) -- where there is no connection to begin with
    assert.matches("^[^\n]*HTTP/2.0[^\n]*\n$", result.out)
    assert.equal("", result.err)
    assert.equal("2", fetch.raw(nginx.tls .. "/a.txt", { ca = nginx.ca }).http_version)
  end)

  it("HTTP/2 streams that wait do not hold up the others", function()
    local api = fetch.with({ base_url = nginx.tls, ca = nginx.ca })
    local waiting <close> = api.raw("/big")
    allua.sleep(0.05)
    for _ = 1, 5 do
      assert.equal("secret", api("/a.txt"))
    end
    local results = allua.all({
      function()
        return #waiting.body
      end,
      function()
        local bytes = 0
        for chunk in api.raw("/big"):chunks() do
          bytes = bytes + #chunk
          allua.sleep(0.002)
        end
        return bytes
      end,
    })
    assert.same({ 32 * #block, 32 * #block }, results)
  end)

  it("HTTP/2 streams are dropped one by one", function()
    local api = fetch.with({ base_url = nginx.tls, ca = nginx.ca })
    local before = api("/connection")
    for _ = 1, size.of(40) do
      for _ in api.raw("/big"):chunks() do
        break
      end
    end
    assert.equal(before, api("/connection"))
  end)
end)
