-- allua.serve over TLS: curl's, fetch's and openssl's handshakes; certificates that change, or are wrong.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local server_of = require("spec.support.server")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local fetch = allua.fetch

local routes = {
  ["GET /"] = function()
    return "hello"
  end,
  ["POST /echo"] = function(event)
    return event:body()
  end,
  ["GET /big"] = function(event)
    return event:stream(function(write)
      for _ = 1, 64 do
        write(("x"):rep(65536))
      end
    end)
  end,
}

local function with(fn, options)
  local folder <close> = scratch.folder()
  web.certify(folder)
  local tls = { cert = folder:at("certificate.pem"), key = folder:at("key.pem") }
  options = options or {}
  options.routes, options.tls = options.routes or routes, tls
  server_of.with(options, function(server)
    fn(server, folder, tls)
  end)
end

local function run(program, args, stdin)
  return host.run(args, { program = program, stdin = stdin })
end

describe("serve with tls", function()
  it("answers fetch, which trusts its certificate", function()
    with(function(server, _, tls)
      assert.matches("^https://127%.0%.0%.1:%d+$", server.url)
      local api = fetch.with({ base_url = server.url, ca = tls.cert })
      assert.equal("hello", api("/"))
      local sent = ("0123456789"):rep(50000)
      assert.equal(sent, api("/echo", { method = "POST", body = sent }))
      assert.equal(64 * 65536, #api("/big"))
      assert.equal("tls", errors.raised(fetch, server.url).code)
    end)
  end)

  it("answers curl, several requests on one connection", function()
    with(function(server, _, tls)
      local url = server.url .. "/"
      local result = run("curl", { "-sS", "-w", "%{http_version} %{num_connects}\\n", "--cacert", tls.cert, url, url })
      assert.equal("hello1.1 1\nhello1.1 0\n", result.out)
      assert.equal(0, result.code)
    end)
  end)

  it("ends with close_notify, and speaks no old version and no other protocol", function()
    with(function(server)
      local connect = { "s_client", "-connect", "127.0.0.1:" .. server.port, "-ign_eof" }
      local function client(more, stdin)
        local args = table.move(more, 1, #more, #connect + 1, { table.unpack(connect) })
        return run("openssl", args, stdin)
      end
      local whole = client({ "-msg" }, server_of.get("/"))
      assert.matches("hello", whole.out)
      assert.matches("<<< TLS 1%.[23], Alert [^\n]*close_notify", whole.out)
      assert.matches("ALPN protocol: http/1%.1", client({ "-alpn", "h2,http/1.1" }, server_of.get("/")).out)
      assert.not_equal(0, client({ "-alpn", "h2" }, "").code)
      assert.not_equal(0, client({ "-tls1_1", "-cipher", "ALL:@SECLEVEL=0" }, "").code)
    end)
  end)

  it("closes a connection that does not speak TLS, or says nothing", function()
    with(function(server)
      assert.is_nil(server_of.talk(server, { server_of.get("/") }):find("HTTP/1.1 200", 1, true))
      local began = allua.now()
      assert.equal("", server_of.talk(server, {}))
      assert.is_true(allua.now() - began < 5)
    end, { limits = { head_time = 0.3 } })
  end)

  it("suspends the writer to a client that does not read", function()
    local written = 0
    with(function(server)
      local response <close> = fetch.raw(server.url .. "/", { verify = false }) -- luacheck: ignore
      allua.sleep(0.3)
      assert.is_true(written > 0 and written < 32 * 1024 * 1024, written)
    end, {
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
    })
  end)

  it("takes a new certificate for new connections, and keeps the old one where the new is wrong", function()
    with(function(server, folder, tls)
      local old = scratch.content(tls.cert)
      web.certify(folder)
      assert.equal("tls", errors.raised(fetch, server.url, { ca = tls.cert }).code)
      server:reload()
      assert.equal("hello", fetch(server.url, { ca = tls.cert }))
      folder:write("certificate.pem", old)
      assert.matches("cannot use the key", errors.raised(server.reload, server))
      folder:write("certificate.pem", "nonsense")
      assert.matches("cannot use the certificate", errors.raised(server.reload, server))
      assert.equal("hello", fetch(server.url, { verify = false }))
    end)
  end)

  it("reloads at SIGHUP in the program", function()
    local folder <close> = scratch.folder()
    web.certify(folder)
    local child <close> = host.start({
      "-e",
      ([[local dir = %q
      local server = allua.serve({
        tls = { cert = dir .. "/certificate.pem", key = dir .. "/key.pem" },
        routes = { ["/"] = function() return "hello" end },
      })
      print("at " .. server.url .. "/")]]):format(folder.path),
    })
    child:wait_for("/\n")
    local url = child.out:match("at (%S+)")
    local ca = folder:at("certificate.pem")
    assert.equal("hello", fetch(url, { ca = ca }))
    web.certify(folder)
    child:kill("sighup")
    web.wait_until(function()
      return (pcall(fetch, url, { ca = ca }))
    end)
    folder:write("key.pem", "nonsense")
    child:kill("sighup")
    child:wait_for("not reloaded")
    assert.equal("hello", fetch(url, { ca = ca }))
    child:kill("sigterm")
    assert.equal(0, child:wait().code)
  end)

  it("leaves SIGHUP what it is where no server has a certificate", function()
    local child <close> =
      host.start({ "-e", [[local server = allua.serve({ routes = {} }) print("at " .. server.url)]] })
    child:wait_for("\n")
    child:kill("sighup")
    assert.equal(1, child:wait().signal)
  end)

  it("refuses files that are missing or do not fit, and names them", function()
    local folder <close> = scratch.folder()
    web.certify(folder)
    local cert, key = folder:at("certificate.pem"), folder:at("key.pem")
    local function refused(tls)
      return errors.raised(allua.serve, { routes = {}, tls = tls })
    end
    assert.matches("tls%.cert must be the path of a file in PEM %(got nil%)", refused({ key = key }))
    assert.matches("tls%.key cannot be read: .*nowhere", refused({ cert = cert, key = folder:at("nowhere") }))
    assert.matches('unknown option of tls "crt" %(did you mean "cert"%?%)', refused({ crt = cert, key = key }))
    assert.matches("cannot use the certificate .*key.pem", refused({ cert = key, key = key }))
    assert.matches("cannot use the key .*certificate.pem", refused({ cert = cert, key = cert }))
  end)
end)
