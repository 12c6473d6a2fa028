-- event:file and serve.files: what is in the folder, as the client asks for it, and nothing else.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local server_of = require("spec.support.server")
local uv = require("luv")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local get, status, body, talk, with = server_of.get, server_of.status, server_of.body, server_of.talk, server_of.with

local function with_files(fn)
  local folder <close> = scratch.folder()
  folder:write("secret.txt", "secret")
  folder:write("public/a.txt", "0123456789")
  folder:write("public/empty.css", "")
  folder:write("public/sub/index.html", "<p>index</p>")
  folder:write("public/with space.html", "<p>space</p>")
  folder:write("public/.hidden", "hidden")
  folder:write("public/big.bin", ("0123456789abcdef"):rep(20000))
  uv.fs_symlink(folder:at("secret.txt"), folder:at("public/out.txt"))
  uv.fs_symlink(folder:at("public/a.txt"), folder:at("public/in.txt"))
  with({
    routes = {
      ["GET /files/*path"] = allua.serve.files(folder:at("public")),
      ["GET /one"] = function(event)
        return event:file(folder:at("public/a.txt"), { type = "text/x-own" })
      end,
      ["GET /dated"] = function(event)
        event:header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
      end,
      ["GET /none"] = function(event)
        return event:file(folder:at("public/missing"))
      end,
    },
  }, function(server)
    fn(server, folder)
  end)
end

local function header(reply, name)
  return reply:match("\r\n" .. name:gsub("%-", "%%-") .. ": ([^\r]*)\r\n")
end

describe("serve.files", function()
  it("gives a file with its type, its length and what caches need", function()
    with_files(function(server)
      local reply = talk(server, { get("/files/a.txt") })
      assert.equal(200, status(reply))
      assert.equal("0123456789", body(reply))
      assert.equal("text/plain; charset=utf-8", header(reply, "Content-Type"))
      assert.equal("10", header(reply, "Content-Length"))
      assert.equal("bytes", header(reply, "Accept-Ranges"))
      assert.matches('^"[%x.-]+"$', header(reply, "ETag"))
      for _, name in ipairs({ "Date", "Last-Modified" }) do
        assert.matches("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", header(reply, name))
      end
      assert.equal("<p>space</p>", body(talk(server, { get("/files/with%20space.html") })))
      local empty = talk(server, { get("/files/empty.css") })
      assert.equal("text/css; charset=utf-8", header(empty, "Content-Type"))
      assert.equal("", body(empty))
      assert.equal(("0123456789abcdef"):rep(20000), body(talk(server, { get("/files/big.bin") })))
    end)
  end)

  it("gives a folder's index, after the slash that its links need", function()
    with_files(function(server)
      assert.equal("<p>index</p>", body(talk(server, { get("/files/sub/") })))
      local reply = talk(server, { get("/files/sub") })
      assert.equal(301, status(reply))
      assert.equal("/files/sub/", header(reply, "Location"))
      assert.equal(404, status(talk(server, { get("/files/") })))
      assert.equal(404, status(talk(server, { get("/files/a.txt/") })))
    end)
  end)

  it("has no way out: dots, encodings, links, NUL, backslashes", function()
    with_files(function(server)
      for _, path in ipairs({
        "../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "%2e%2e%2fsecret.txt",
        "sub/../../secret.txt",
        "sub/..%2f../secret.txt",
        "..%5csecret.txt",
        "a.txt%00.html",
        "out.txt",
        ".hidden",
        "/etc/passwd",
        "%2fetc/passwd",
        "%252e%252e/secret.txt",
        "....//secret.txt",
        "sub/%2e/../../secret.txt",
      }) do
        local reply = talk(server, { get("/files/" .. path) })
        assert.equal(404, status(reply), path)
        assert.is_nil(reply:find("secret\r?$") or reply:find("root:"), path)
      end
      assert.equal("0123456789", body(talk(server, { get("/files/in.txt") })))
    end)
  end)

  it("gives the ranges that are asked for", function()
    with_files(function(server)
      local function range(asked, more)
        local reply = talk(server, { get("/files/a.txt", "Range: " .. asked .. "\r\n" .. (more or "")) })
        return status(reply), body(reply), header(reply, "Content-Range")
      end
      assert.same({ 206, "234", "bytes 2-4/10" }, { range("bytes=2-4") })
      assert.same({ 206, "789", "bytes 7-9/10" }, { range("bytes=7-") })
      assert.same({ 206, "789", "bytes 7-9/10" }, { range("bytes=-3") })
      assert.same({ 206, "0123456789", "bytes 0-9/10" }, { range("bytes=-30") })
      assert.same({ 206, "9", "bytes 9-9/10" }, { range("bytes=9-99") })
      for _, whole in ipairs({ "bytes=4-2", "bytes=", "bytes=-", "lines=1-2", "bytes=0-1,3-4", "bytes=x-1" }) do
        assert.same({ 200, "0123456789" }, { range(whole) }, whole)
      end
      for _, none in ipairs({ "bytes=10-", "bytes=99-100", "bytes=-0" }) do
        local code, _, about = range(none)
        assert.same({ 416, "bytes */10" }, { code, about }, none)
      end
      local tag = header(talk(server, { get("/files/a.txt") }), "ETag")
      assert.equal(206, (range("bytes=0-1", "If-Range: " .. tag .. "\r\n")))
      assert.equal(200, (range("bytes=0-1", 'If-Range: "other"\r\n')))
    end)
  end)

  it("says when what the client has is still good", function()
    with_files(function(server)
      local first = talk(server, { get("/files/a.txt") })
      local tag, date = header(first, "ETag"), header(first, "Last-Modified")
      local function with_header(line)
        return status(talk(server, { get("/files/a.txt", line .. "\r\n") }))
      end
      assert.equal(304, with_header("If-None-Match: " .. tag))
      assert.equal(304, with_header('If-None-Match: "x", W/' .. tag))
      assert.equal(304, with_header("If-None-Match: *"))
      assert.equal(200, with_header('If-None-Match: "x"'))
      assert.equal(304, with_header("If-Modified-Since: " .. date))
      assert.equal(200, with_header("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"))
      assert.equal(200, with_header("If-Modified-Since: yesterday"))
      assert.equal(412, with_header('If-Match: "x"'))
      assert.equal(200, with_header("If-Match: " .. tag))
      assert.equal(412, with_header("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"))
      assert.equal("", body(talk(server, { get("/files/a.txt", "If-None-Match: *\r\n") })))
    end)
  end)

  it("understands the dates of older clients", function()
    with_files(function(server, folder)
      uv.fs_utime(folder:at("public/a.txt"), 784111777, 784111777)
      local function since(date)
        return status(talk(server, { get("/files/a.txt", "If-Modified-Since: " .. date .. "\r\n") }))
      end
      local reply = talk(server, { get("/files/a.txt") })
      assert.equal("Sun, 06 Nov 1994 08:49:37 GMT", header(reply, "Last-Modified"))
      assert.equal(304, since("Sun, 06 Nov 1994 08:49:37 GMT"))
      assert.equal(304, since("Sunday, 06-Nov-94 08:49:37 GMT"))
      assert.equal(304, since("Sun Nov  6 08:49:37 1994"))
      assert.equal(200, since("Sun, 06 Nov 1994 08:49:36 GMT"))
      assert.equal(200, since("Sun Nov  6 08:49:36 1994"))
      assert.equal(200, since("Sun, 06 Now 1994 08:49:37 GMT"))
      local dated = "Range: bytes=0-1\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
      assert.equal(206, status(talk(server, { get("/files/a.txt", dated) })))
    end)
  end)

  it("takes a weak tag for the file only where that is enough", function()
    with_files(function(server)
      local tag = header(talk(server, { get("/files/a.txt") }), "ETag")
      assert.equal(412, status(talk(server, { get("/files/a.txt", "If-Match: W/" .. tag .. "\r\n") })))
      assert.equal(200, status(talk(server, { get("/files/a.txt", 'If-Match: "x", ' .. tag .. "\r\n") })))
    end)
  end)

  it("keeps the query where it puts the slash, and leads to no other host", function()
    with_files(function(server)
      local function location(path)
        return header(talk(server, { get(path) }), "Location")
      end
      assert.equal("/files/sub/?a=1&b=/", location("/files/sub?a=1&b=/"))
      server_of.with({ routes = { ["/*path"] = allua.serve.files("/usr") } }, function(other)
        assert.equal("/share/", header(talk(other, { get("//share") }), "Location"))
      end)
    end)
  end)

  it("shows no folder and no pipe that is elsewhere, and waits for none", function()
    with_files(function(server, folder)
      uv.fs_symlink("/usr", folder:at("public/elsewhere"))
      local fifo = host.run({ folder:at("public/pipe") }, { program = "mkfifo" })
      assert.equal(0, fifo.code)
      assert.equal(404, status(talk(server, { get("/files/elsewhere") })))
      assert.equal(404, status(talk(server, { get("/files/elsewhere/") })))
      assert.equal(404, status(talk(server, { get("/files/elsewhere/bin/env") })))
      assert.equal(404, status(talk(server, { get("/files/pipe") })))
    end)
  end)

  it("takes GET and HEAD only, whatever the route says", function()
    with({ routes = { ["/*path"] = allua.serve.files("/usr") } }, function(server)
      local reply = talk(server, { (get("/bin/env"):gsub("^GET", "DELETE")) })
      assert.equal(405, status(reply))
      assert.equal("GET, HEAD", header(reply, "Allow"))
    end)
  end)

  it("leaves no file open", function()
    with_files(function(server, folder)
      folder:write("public/large.bin", ("x"):rep(8 * 1024 * 1024))
      local function opened()
        local count, entries = 0, uv.fs_scandir("/proc/self/fd")
        for name in uv.fs_scandir_next, entries do
          local place = uv.fs_readlink("/proc/self/fd/" .. name) or ""
          count = count + (place:sub(1, #folder.path) == folder.path and 1 or 0)
        end
        return count
      end
      for _, path in ipairs({ "a.txt", "sub", "sub/", "a.txt/", "out.txt", "missing" }) do
        talk(server, { get("/files/" .. path) })
      end
      for _ = 1, 5 do
        local leaving = server_of.connect(server)
        leaving:send(get("/files/large.bin"))
        web.wait_until(function()
          return opened() > 0
        end)
        leaving:close()
        leaving:wait()
      end
      web.wait_until(function()
        return opened() == 0
      end)
    end)
  end)

  it("answers HEAD with all but the body", function()
    with_files(function(server)
      local reply = talk(server, { (get("/files/a.txt"):gsub("^GET", "HEAD")) })
      assert.equal("10", header(reply, "Content-Length"))
      assert.equal("", body(reply))
    end)
  end)

  it("breaks off where a file is cut off while it is sent", function()
    with_files(function(server, folder)
      local path = folder:at("public/shrinking.bin")
      folder:write("public/shrinking.bin", ("x"):rep(8 * 1024 * 1024))
      local talk_ = server_of.connect(server)
      talk_:send("GET /files/shrinking.bin HTTP/1.1\r\nHost: x\r\n\r\n" .. get("/files/a.txt"))
      allua.sleep(0.2) -- the client takes nothing, and the server waits
      assert(io.open(path, "wb")):close()
      talk_:read()
      local reply = talk_:wait()
      assert.equal("8388608", header(reply, "Content-Length"))
      assert.is_true(#body(reply) < 8388608)
      assert.is_nil(reply:find("HTTP/1.1", 2, true)) -- no other reply, which would be taken for its rest
    end)
  end)

  it("refuses what is not a folder", function()
    assert.matches('"/nowhere" is not a folder', errors.raised(allua.serve.files, "/nowhere"))
    assert.matches("expected a folder's path %(got nil%)", errors.raised(allua.serve.files))
  end)
end)

describe("a reply", function()
  it("has a date, and the handler's where that gives one", function()
    with_files(function(server)
      local _, count = talk(server, { get("/dated") }):gsub("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT", "")
      assert.equal(1, count)
      assert.equal(1, select(2, talk(server, { get("/dated") }):gsub("\r\nDate: ", "")))
    end)
  end)
end)

describe("event:file", function()
  it("gives one file, or 404", function()
    with_files(function(server)
      local reply = talk(server, { get("/one") })
      assert.equal("text/x-own", header(reply, "Content-Type"))
      assert.equal("0123456789", body(reply))
      local none = talk(server, { get("/none") })
      assert.equal(404, status(none))
      assert.equal("application/json", header(none, "Content-Type"))
    end)
  end)

  it("raises where there is no file, so that a handler may give another", function()
    with_files(function(server, folder)
      with({
        routes = {
          ["/*page"] = function(event)
            local ok, err = pcall(event.file, event, folder:at("public/" .. event.params.page))
            if ok then
              return event:file(folder:at("public/" .. event.params.page))
            end
            event:status(err.status)
            return event:file(folder:at("public/sub/index.html"))
          end,
        },
      }, function(other)
        assert.equal("0123456789", body(talk(other, { get("/a.txt") })))
        local reply = talk(other, { get("/nowhere", "If-None-Match: *\r\nRange: bytes=0-1\r\n") })
        assert.equal(404, status(reply))
        assert.equal("<p>index</p>", body(reply))
        assert.equal(404, status(talk(other, { get("/a.txt%00.png") })))
        assert.equal(404, status(talk(other, { get("/sub") })))
      end)
      assert.equal(200, status(talk(server, { get("/one") })))
    end)
  end)

  it("refuses what it does not know", function()
    local said = {}
    with({
      routes = {
        ["/"] = function(event)
          said[1] = errors.text(errors.raised(event.file, event))
          said[2] = errors.text(errors.raised(event.file, event, "x", { tipe = "a/b" }))
          said[3] = errors.text(errors.raised(event.file, event, "x", { type = 1 }))
        end,
      },
    }, function(server)
      talk(server, { get("/") })
      assert.same({
        "file: expected a path (got nil)",
        'file: unknown option "tipe" (did you mean "type"?)',
        'file: option "type" must be a string (got number)',
      }, said)
    end)
  end)
end)
