-- allua.fetch through proxies: Debian's tinyproxy and microsocks, and some of our own.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local proxies = require("spec.support.proxies")
local scratch = require("spec.support.scratch")
local web = require("spec.support.web")

require("spec.support.leftovers")()
require("spec.support.server") -- which loads what it takes before the first spec

local fetch = allua.fetch

-- Password and user need their escapes in a URL.
local USER <const>, PASSWORD <const> = "m@e", "p@ss:w%rd/?#"
local ESCAPED <const> = "m%40e:p%40ss%3Aw%25rd%2F%3F%23@"

local LOCATIONS <const> = [[
  location = /who { default_type text/plain; return 200 "$remote_addr $http_host $http_proxy_authorization"; }
  location = /moved { return 302 http://localhost:PLAIN/who; }
]]

-- What an error tells, in all of its fields.
local function told(err)
  local words = { tostring(err) }
  for _, value in pairs(type(err) == "table" and err or {}) do
    words[#words + 1] = tostring(value)
  end
  return table.concat(words, "\n")
end

local function keeps_secret(err)
  assert.is_nil(told(err):find("p@ss", 1, true), told(err))
  assert.is_nil(told(err):find("p%40ss", 1, true), told(err))
end

describe("a proxy", function()
  -- Tunnels to wherever it is asked to, and passes other requests to one place; or refuses with a status.
  local function proxy(refusal)
    local between
    between = web.raw(function(client, head)
      local port = head:match("^CONNECT [%w.]+:(%d+) ")
      if refusal then
        client:write(web.reply(refusal, {}, ""))
      elseif not port then
        client:write(web.reply("200 OK", {}, "through the proxy"))
      else
        local granted = "HTTP/1.1 200 Connection established\r\n\r\n"
        proxies.connect(between, client, "127.0.0.1", tonumber(port), granted, web.reply("502 Bad Gateway", {}, ""))
      end
    end)
    return between
  end

  it("makes a tunnel for https, and is told the credentials for it, which the server is not", function()
    local nginx <close> =
      web.nginx({ ["a.txt"] = "secret" }, "location /head { return 200 $http_proxy_authorization; }")
    local between <close> = proxy()
    local url = between.url:gsub("//", "//me:pass@")
    local api = fetch.with({ base_url = nginx.tls, ca = nginx.ca, proxy = url })
    assert.equal("secret", api("/a.txt"))
    assert.equal("", api("/head"))
    assert.equal(1, #between.requests)
    assert.matches("^CONNECT 127.0.0.1:%d+ HTTP/1.1\r\n", between.requests[1].head)
    assert.matches("\r\nProxy%-Authorization: Basic bWU6cGFzcw==\r\n", between.requests[1].head)
    assert.equal("through the proxy", fetch("http://nobody.invalid/", { proxy = url }))
    assert.matches("\r\nProxy%-Authorization: Basic bWU6cGFzcw==\r\n", between.requests[2].head)
    assert.equal("through the proxy", fetch("http://nobody.invalid/", { proxy = url:gsub("^http://", "") }))
  end)

  it("comes from the environment, with exceptions", function()
    local between <close> = proxy()
    local function from_environment(env, url, options)
      local code = ("print(pcall(allua.fetch, %q, %s))"):format(url, options or "{}")
      return host.eval(code, { env = env }).out
    end
    local env = { http_proxy = between.url, no_proxy = "" }
    assert.equal("true\tthrough the proxy\n", from_environment(env, "http://nobody.invalid/"))
    env.no_proxy = "nobody.invalid"
    assert.matches("Could not resolve host", from_environment(env, "http://nobody.invalid/"))
    env.no_proxy = ""
    assert.matches("Could not resolve host", from_environment(env, "http://nobody.invalid/", "{ proxy = false }"))
  end)

  it("that the environment gets, or loses, is that of the next request to a URL", function()
    local between <close> = proxy()
    local direct <close> = web.raw(function(client)
      client:write(web.reply("200 OK", {}, "direct"))
    end)
    local code = ([[
      local uv, url = require("luv"), %q
      local function both(given) -- as it is, and with a query
        return allua.fetch(url, given) .. ", " .. allua.fetch(url, { query = { a = 1 }, proxy = given and given.proxy })
      end
      print(both())
      uv.os_setenv("http_proxy", %q)
      print(both(), both({ proxy = false }))
      uv.os_unsetenv("http_proxy")
      print(both())
    ]]):format(direct.url, between.url)
    local result = host.eval(code, { env = { no_proxy = "" } })
    local direct_twice, through = "direct, direct", "through the proxy, through the proxy"
    local expected = ("%s\n%s\t%s\n%s\n"):format(direct_twice, through, direct_twice, direct_twice)
    assert.equal(expected, result.out, result.err)
    local heads = {}
    for _, request in ipairs(between.requests) do
      heads[#heads + 1] = request.head:match("^[^\r\n]*")
    end
    assert.same({ ("GET %s/ HTTP/1.1"):format(direct.url), ("GET %s/?a=1 HTTP/1.1"):format(direct.url) }, heads)
  end)

  it("that is not there, or refuses, is told apart from the server", function()
    assert.equal("proxy", errors.raised(fetch, "http://h.invalid/", { proxy = "http://nobody.invalid:1" }).code)
    assert.equal("connect", errors.raised(fetch, "http://h.invalid/", { proxy = "http://127.0.0.1:9" }).code)
    for _, refusal in ipairs({ "407 Proxy Authentication Required", "502 Bad Gateway" }) do
      local between <close> = proxy(refusal)
      local err = errors.raised(fetch, "https://h.invalid/", { proxy = between.url })
      assert.equal("proxy", err.code)
      assert.is_true(errors.says(err, "response " .. refusal:sub(1, 3)), err.message)
    end
  end)
end)

describe("a real proxy", function()
  local nginx, plain_at, secure_at

  setup(function()
    nginx = web.nginx({ ["a.txt"] = ("a"):rep(30000) }, LOCATIONS)
    plain_at, secure_at = nginx.url:match("//(.*)$"), nginx.tls:match("//(.*)$")
  end)

  teardown(function()
    nginx:__close()
  end)

  -- From 127.0.0.2, as from nobody but the proxy; with no credentials of the proxy's, by each kind of URL.
  local function carries(proxy)
    local api = fetch.with({ proxy = proxy, ca = nginx.ca })
    assert.equal("127.0.0.2 " .. plain_at .. " ", api(nginx.url .. "/who"))
    assert.equal("127.0.0.2 " .. secure_at .. " ", api(nginx.tls .. "/who"))
    local moved = api.raw(nginx.url .. "/moved")
    assert.equal((nginx.url:gsub("127.0.0.1", "localhost")) .. "/who", moved.url)
    assert.matches("^127.0.0.2 localhost", moved.body)
    assert.equal("2", api.raw(nginx.tls .. "/a.txt").http_version)
    local list = {}
    for i = 1, 20 do
      list[i] = (i % 2 == 0 and nginx.url or nginx.tls) .. "/a.txt"
    end
    for _, body in
      ipairs(allua.map(list, function(url)
        return api(url)
      end))
    do
      assert.equal(30000, #body)
    end
    return api
  end

  it("of HTTP carries requests, and makes tunnels, for who may", function()
    local open <close> = proxies.http()
    local closed <close> = proxies.http({ user = "me", password = "secret" })
    carries("http://" .. open.place)
    carries("http://me:secret@" .. closed.place)
    for _, who in ipairs({ "", "me:wrongsecret@", "you:secret@" }) do
      local err =
        errors.raised(fetch, nginx.tls .. "/who", { proxy = "http://" .. who .. closed.place, verify = false })
      assert.equal("proxy", err.code)
      assert.is_nil(told(err):find("secret", 1, true), told(err))
      err = errors.raised(fetch, nginx.url .. "/who", { proxy = "http://" .. who .. closed.place })
      assert.is_true(err.status == 407 or err.status == 401, told(err))
      assert.is_nil(told(err):find("secret", 1, true), told(err))
    end
  end)

  it("of SOCKS 5 carries them, asked for addresses or for names", function()
    local open <close> = proxies.socks()
    local closed <close> = proxies.socks({ user = USER, password = PASSWORD })
    carries("socks5://" .. open.place)
    carries("socks5h://" .. ESCAPED .. closed.place)
    -- Who looks a name up says that there is none.
    for scheme, code in pairs({ socks5 = "resolve", socks5h = "proxy" }) do
      local err = errors.raised(fetch, "http://nobody.invalid/", { proxy = scheme .. "://" .. open.place })
      assert.equal(code, err.code, told(err))
    end
  end)

  it("of SOCKS 4 and 4a does, and is told the user", function()
    local proxy <close> = proxies.socks4()
    carries("socks4://me@" .. proxy.place)
    assert.equal("me " .. plain_at, proxy.requests[1])
    proxy.requests = {}
    carries("SOCKS4A://" .. proxy.place)
    assert.equal(" " .. plain_at, proxy.requests[1])
    assert.equal(" localhost:" .. plain_at:match("%d+$"), proxy.requests[3])
  end)

  it("that refuses, or fails, is told from a server that does, and its password is not told", function()
    local closed <close> = proxies.socks({ user = USER, password = PASSWORD })
    local socks4 <close> = proxies.socks4()
    local http <close> = proxies.http()
    for _, case in ipairs({
      { "proxy", "socks5://" .. closed.place },
      { "proxy", "socks5h://m%40e:p%40ss@" .. closed.place },
      { "proxy", "socks5h://" .. ESCAPED .. closed.place, "http://127.0.0.1:1/" },
      { "proxy", "socks4://p%40ss@" .. socks4.place, "http://127.0.0.1:1/" },
      { "proxy", "http://" .. ESCAPED .. http.place, "https://127.0.0.1:1/" },
      { "connect", "socks5://" .. ESCAPED .. "127.0.0.1:1" },
      { "proxy", "socks5h://" .. ESCAPED .. "nobody.invalid:1" },
      { "proxy", "socks5://" .. ESCAPED .. plain_at }, -- no SOCKS at all
    }) do
      local err = errors.raised(fetch, case[3] or nginx.url .. "/who", { proxy = case[2] })
      assert.equal(case[1], err.code, told(err))
      keeps_secret(err)
    end
  end)

  it("whose name nobody knows is not taken for the server that was asked before, and told its password", function()
    local server <close> = web.raw(function(client)
      client:write(web.reply("200 OK", {}, "well"))
    end)
    local function check()
      for _, scheme in ipairs({ "socks4", "socks4a", "socks5", "socks5h", "http" }) do
        local proxy = ("%s://%snobody.invalid:%d"):format(scheme, ESCAPED, server.port)
        local err = errors.raised(fetch, server.url, { proxy = proxy })
        assert.equal("proxy", err.code, scheme .. ": " .. told(err))
        keeps_secret(err)
      end
    end
    check()
    assert.equal("well", fetch(server.url)) -- libcurl remembers where that is
    check()
    assert.equal(1, server.accepted)
  end)

  it("that says nothing is waited for no longer than for a connection; one that is killed breaks off", function()
    local silent <close> = web.listen(function() end)
    for _, scheme in ipairs({ "http", "https", "socks4", "socks4a", "socks5", "socks5h" }) do
      local proxy = scheme .. "://127.0.0.1:" .. silent.port
      local err = errors.raised(fetch, nginx.tls, { proxy = proxy, connect_timeout = 0.05 })
      assert.equal("timeout", err.code, scheme .. ": " .. told(err))
    end
    local slow <close> = web.raw(function(client)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    end)
    for _, kind in ipairs({ "socks", "http" }) do
      local proxy <close> = proxies[kind]()
      local scheme = kind == "socks" and "socks5h" or kind
      local response <close> = fetch.raw(slow.url, { proxy = scheme .. "://" .. proxy.place })
      local next_chunk = response:chunks()
      assert.equal("half", next_chunk())
      proxy:kill("sigkill")
      assert.equal("closed", errors.raised(next_chunk).code)
    end
  end)

  it("is spoken to by TLS, with a certificate that `ca` vouches for", function()
    local folder <close> = scratch.folder()
    web.certify(folder)
    local seen
    local proxy = allua.serve({
      tls = { cert = folder:at("certificate.pem"), key = folder:at("key.pem") },
      routes = {
        ["/*path"] = function(event)
          seen = event.headers["proxy-authorization"]
          return fetch(event.target)
        end,
      },
    })
    local url = proxy.url:gsub("//", "//me:secret@")
    for _, options in ipairs({ { ca = folder:at("certificate.pem") }, { verify = false } }) do
      options.proxy = url
      assert.equal("127.0.0.1 " .. plain_at .. " ", fetch(nginx.url .. "/who", options))
      assert.equal("Basic bWU6c2VjcmV0", seen)
    end
    local err = errors.raised(fetch, nginx.url .. "/who", { proxy = url })
    assert.equal("tls", err.code)
    assert.is_nil(told(err):find("secret", 1, true), told(err))
    proxy:close()
  end)

  it("is spoken to by TLS for a tunnel, too, in which https goes by a TLS of its own", function()
    local inside <close> = proxies.http({ user = "me", password = "secret" })
    local secure <close> = proxies.tls(inside.place, nginx.folder)
    local url = "https://me:secret@" .. secure.place
    carries(url)
    -- Of either, the certificate must be trusted.
    local folder <close> = scratch.folder()
    web.certify(folder)
    local other <close> = proxies.tls(inside.place, folder)
    for _, case in ipairs({
      { "tls", url },
      { "tls", "https://me:secret@" .. other.place, ca = nginx.ca },
      { "tls", "https://me:secret@" .. other.place, ca = folder:at("certificate.pem") },
      { "proxy", "https://me:wrongsecret@" .. secure.place, ca = nginx.ca },
    }) do
      local err = errors.raised(fetch, nginx.tls .. "/who", { proxy = case[2], ca = case.ca })
      assert.equal(case[1], err.code, told(err))
      assert.is_nil(told(err):find("secret", 1, true), told(err))
    end
    local both = { proxy = "https://me:secret@" .. other.place, verify = false }
    assert.equal("127.0.0.2 " .. secure_at .. " ", fetch(nginx.tls .. "/who", both))
  end)
end)
