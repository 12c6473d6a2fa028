-- allua.fetch: what is sent, what comes back, from Debian's nginx and from a server that tells what it got.

local allua = require("allua")
local errors = require("spec.support.errors")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local fetch = allua.fetch

-- A server that answers every request with an empty reply.
local function listener()
  return web.raw(function(client)
    client:write(web.reply("200 OK", {}, ""))
  end)
end

local function header(request, name)
  return request.head:lower():match("\r\n" .. name:lower():gsub("%-", "%%-") .. ": ?([^\r]*)\r\n")
end

describe("allua.fetch from nginx", function()
  local nginx

  setup(function()
    nginx = web.nginx(
      {
        ["user.json"] = '{"id":9007199254740993,"tags":[],"manager":null,"rate":0.5}',
        ["broken.json"] = '{"id":',
        ["text"] = "plain text",
        ["big.json"] = '["' .. ("x"):rep(100000) .. '"]',
      },
      [[
        gzip on; gzip_types application/json; gzip_min_length 1; gzip_proxied any;
        location /echo { return 200 "$request_method $request_uri $http_x_mine"; }
        location /hop { return 302 /text; }
        location /loop { return 302 /loop; }
        location /see { return 303 /echo; }
        location /keep { return 307 /echo; }
        location /ftp { return 302 ftp://127.0.0.1/x; }
        location /empty { return 204; }
        location /error { default_type application/json; return 422 '{"field":"name"}'; }
        location /problem { default_type "application/problem+json; charset=utf-8"; return 200 '{"a":1}'; }
        location /connection { return 200 $connection; }
        location /cookies { add_header Set-Cookie a=1; add_header Set-Cookie b=2; add_header X-One 1; return 200 ""; }
      ]]
    )
  end)

  teardown(function()
    nginx:__close()
  end)

  it("gives JSON as Lua values, integers as integers, null as allua.null", function()
    local user = fetch(nginx.url .. "/user.json")
    assert.equal(9007199254740993, user.id)
    assert.equal("integer", math.type(user.id))
    assert.equal(0.5, user.rate)
    assert.equal(allua.null, user.manager)
    assert.same({ a = 1 }, fetch(nginx.url .. "/problem"))
  end)

  it("keeps an empty list a list when it is sent again", function()
    local server <close> = listener()
    fetch(server.url, { body = { tags = fetch(nginx.url .. "/user.json").tags, none = {} } })
    local body = server.requests[1].body
    assert.truthy(body:find('"tags":[]', 1, true), body)
    assert.truthy(body:find('"none":{}', 1, true), body)
  end)

  it("gives anything else as a string", function()
    assert.equal("plain text", fetch(nginx.url .. "/text"))
    assert.equal("", fetch(nginx.url .. "/empty"))
    assert.equal("", fetch(nginx.url .. "/text", { method = "HEAD" }))
  end)

  it("raises for a status of 400 or more, with all that was said", function()
    local err = errors.raised(fetch, nginx.url .. "/error", { method = "post" })
    assert.is_true(allua.is_error(err, "FetchError"))
    assert.equal(422, err.status)
    assert.equal("POST", err.method)
    assert.equal(nginx.url .. "/error", err.url)
    assert.same({ field = "name" }, err.data)
    assert.equal("application/json", err.headers["Content-Type"])
    assert.equal(
      "FetchError: GET " .. nginx.url .. "/none: 404 Not Found",
      tostring(errors.raised(fetch, nginx.url .. "/none"))
    )
  end)

  it("raises for a body that is no JSON though it says so", function()
    local err = errors.raised(fetch, nginx.url .. "/broken.json")
    assert.equal("json", err.code)
    assert.equal('{"id":', err.data)
    assert.is_true(errors.says(err, "invalid JSON at byte 7"), err.message)
  end)

  it("sends a query in a stable order, lists repeated", function()
    local query = { b = { 1, 2.0, "3" }, ["a b"] = "x&y=ü", flag = true, none = {} }
    local uri = "/echo?z=1&a%20b=x%26y%3D%C3%BC&b=1&b=2&b=3&flag=true"
    assert.equal("GET " .. uri .. " ", fetch(nginx.url .. "/echo?z=1#part", { query = query }))
  end)

  it("asks for compressed bodies, and gives them as they were", function()
    local reply = fetch.raw(nginx.url .. "/big.json")
    assert.equal("gzip", reply.headers["content-encoding"])
    assert.equal("chunked", reply.headers["transfer-encoding"])
    assert.equal(100000, #reply.data[1])
  end)

  it("follows redirects, and tells where they ended", function()
    assert.equal("plain text", fetch(nginx.url .. "/hop"))
    assert.equal(nginx.url .. "/text", fetch.raw(nginx.url .. "/hop").url)
    assert.equal("GET /echo ", fetch(nginx.url .. "/see", { method = "PUT", body = "x" }))
    assert.equal("POST /echo ", fetch(nginx.url .. "/keep", { body = "x" }))
  end)

  it("follows as many redirects as it is told, or none", function()
    local err = errors.raised(fetch, nginx.url .. "/loop", { redirects = 3 })
    assert.equal("redirects", err.code)
    assert.is_true(errors.says(err, "more than 3 redirects"))
    assert.equal(302, fetch.raw(nginx.url .. "/hop", { redirects = false }).status)
    assert.equal("redirects", errors.raised(fetch, nginx.url .. "/hop", { redirects = 0 }).code)
  end)

  it("follows redirects to http and https only", function()
    local err = errors.raised(fetch, nginx.url .. "/ftp")
    assert.equal("redirects", err.code)
    assert.is_true(errors.says(err, "only http and https"), err.message)
  end)

  it("gives repeated headers each, and joined", function()
    local headers = fetch.raw(nginx.url .. "/cookies").headers
    assert.same({ "a=1", "b=2" }, { headers("Set-Cookie") })
    assert.equal("a=1, b=2", headers["set-cookie"])
    assert.equal("1", headers["X-ONE"])
    assert.is_nil(headers["x-two"])
    local names = {}
    for name in pairs(headers) do
      names[#names + 1] = name
    end
    assert.truthy(table.concat(names, " "):find("set%-cookie set%-cookie x%-one"))
  end)

  it("uses a connection again", function()
    local first = fetch(nginx.url .. "/connection")
    for _ = 1, 20 do
      assert.equal(first, fetch(nginx.url .. "/connection"))
    end
    fetch(nginx.url .. "/hop")
    assert.equal(first, fetch(nginx.url .. "/connection"))
  end)

  it("loads many at once", function()
    local list = {}
    for i = 1, 300 do
      list[i] = nginx.url .. "/echo?" .. i
    end
    local replies = allua.map(list, function(url)
      return fetch(url)
    end, { concurrency = 40 })
    for i = 1, 300 do
      assert.equal("GET /echo?" .. i .. " ", replies[i])
    end
  end)

  it("takes defaults: a base URL, headers, a query", function()
    local api = fetch.with({ base_url = nginx.url .. "/x/", headers = { ["X-Mine"] = "a" }, query = { k = 1 } })
    assert.equal("GET /echo?k=1 a", api("/echo"))
    assert.equal("GET /echo?k=2 b", api("../echo", { query = { k = 2 }, headers = { ["x-mine"] = "b" } }))
    assert.equal(
      "DELETE /echo?k=1&l=2 ",
      api.with({ method = "DELETE" })("/echo", { query = { l = 2 }, headers = { ["x-mine"] = false } })
    )
    assert.equal(200, api.raw("/echo").status)
  end)

  it("is waited for in a program of its own, and is a module", function()
    local code = ("print(require('allua.fetch') == allua.fetch, allua.fetch('%s/text'))"):format(nginx.url)
    local result = host.eval(code)
    assert.same({ "true\tplain text\n", "", 0 }, { result.out, result.err, result.code })
  end)

  it("tells of an error that nobody caught in one line that names the URL", function()
    local result = host.eval(("allua.fetch('%s/none')"):format(nginx.url:gsub("//", "//me:secret@")))
    assert.equal(1, result.code)
    assert.truthy(result.err:find("FetchError: GET " .. nginx.url .. "/none: 404 Not Found", 1, true), result.err)
    assert.is_nil(result.err:find("secret", 1, true))
  end)
end)

describe("allua.fetch sends", function()
  it("a table as JSON, a string as text", function()
    local server <close> = listener()
    fetch(server.url, { body = { 1, 2.5, "é\n", allua.null, { x = true } } })
    fetch(server.url, { body = "text" })
    fetch(server.url, { body = "<a/>", method = "PUT", headers = { ["Content-Type"] = "text/xml" } })
    fetch(server.url, { method = "POST" })
    local json, text, xml, none = table.unpack(server.requests)
    assert.equal('[1,2.5,"é\\n",null,{"x":true}]', json.body)
    assert.equal("application/json", header(json, "content-type"))
    assert.truthy(json.head:find("^POST / HTTP/1.1\r\n"))
    assert.equal("text/plain; charset=utf-8", header(text, "content-type"))
    assert.truthy(xml.head:find("^PUT "))
    assert.equal("text/xml", header(xml, "content-type"))
    assert.equal("0", header(none, "content-length"))
    assert.is_nil(header(none, "content-type"))
    assert.is_nil(header(json, "expect"))
  end)

  it("a form of fields as web pages do", function()
    local server <close> = listener()
    fetch(server.url, { form = { name = "Ann B", tags = { "x", "y&z" } } })
    assert.equal("name=Ann+B&tags=x&tags=y%26z", server.requests[1].body)
    assert.equal("application/x-www-form-urlencoded", header(server.requests[1], "content-type"))
  end)

  it("a form with files in parts", function()
    local server <close> = listener()
    local folder <close> = scratch.folder({ ["photo.png"] = "\137PNG\0bytes" })
    fetch(server.url, {
      form = {
        name = "Ann",
        photo = { file = folder:at("photo.png"), type = "image/png" },
        note = { data = "a\0b", name = "n.txt" },
      },
    })
    local request = server.requests[1]
    assert.truthy(header(request, "content-type"):find("^multipart/form%-data; boundary="))
    assert.truthy(request.body:find('name="name"\r\n\r\nAnn\r\n', 1, true))
    assert.truthy(
      request.body:find(
        'name="photo"; filename="photo.png"\r\nContent-Type: image/png\r\n\r\n\137PNG\0bytes\r\n',
        1,
        true
      ),
      request.body
    )
    assert.truthy(request.body:find('filename="n.txt"', 1, true))
    assert.truthy(request.body:find("a\0b", 1, true))
  end)

  it("a body and a form again where a redirect keeps the method", function()
    local server <close> = web.raw(function(client, _, _, count)
      client:write(web.reply(count % 2 == 1 and "308 Moved" or "200 OK", { "Location: /there" }, ""))
    end)
    fetch(server.url, { body = { 1 } })
    fetch(server.url, { form = { f = { data = "content" } } })
    assert.equal("[1]", server.requests[2].body)
    assert.truthy(server.requests[2].head:find("^POST /there "))
    assert.truthy(server.requests[4].body:find("content", 1, true))
  end)

  it("no body, and nothing of what it was, where a redirect makes it GET", function()
    for _, status in ipairs({ "301 Moved", "302 Found", "303 See Other" }) do
      local server <close> = web.raw(function(client, _, _, count)
        client:write(web.reply(count == 1 and status or "200 OK", { "Location: /there" }, ""))
      end)
      fetch(server.url, { body = { 1 }, headers = { ["Content-Type"] = "x/y", ["Content-Language"] = "en", X = "z" } })
      local head = server.requests[2].head
      assert.truthy(head:find("^GET /there "))
      assert.is_nil(head:lower():find("\r\ncontent-", 1, true), head)
      assert.same({ "z", "" }, { header(server.requests[2], "x"), server.requests[2].body })
    end
  end)

  it("headers, lists repeated, empty ones too", function()
    local server <close> = listener()
    fetch(
      server.url,
      { headers = { ["X-List"] = { "a", "b" }, ["X-Empty"] = "", ["User-Agent"] = "me", ["X-Not"] = false } }
    )
    local head = server.requests[1].head
    assert.truthy(head:find("\r\nX-List: a\r\nX-List: b\r\n", 1, true), head)
    assert.truthy(head:find("\r\nX-Empty:\r\n", 1, true), head)
    assert.truthy(head:find("\r\nUser-Agent: me\r\n", 1, true), head)
    assert.is_nil(head:find("X-Not", 1, true))
  end)

  it("its credentials to the server they are for, and no other", function()
    local other <close> = listener()
    local server <close> = web.raw(function(client, head)
      local to = head:find("^GET /here") and "/again" or head:find("^GET /away") and other.url .. "/x"
      client:write(to and web.reply("302 Found", { "Location: " .. to }, "") or web.reply("200 OK", {}, ""))
    end)
    local url = server.url:gsub("//", "//me:pass%%20word@")
    fetch(url .. "/here", { headers = { Cookie = "c=1", ["X-Other"] = "x" } })
    for i = 1, 2 do
      assert.equal("basic bwu6cgfzcyb3b3jk", header(server.requests[i], "authorization"))
      assert.equal("c=1", header(server.requests[i], "cookie"))
    end
    fetch(url .. "/away", { headers = { Cookie = "c=1", ["X-Other"] = "x" } })
    fetch(server.url .. "/away", { headers = { Authorization = "Bearer t" } })
    assert.equal("bearer t", header(server.requests[4], "authorization"))
    for _, request in ipairs(other.requests) do
      assert.is_nil(header(request, "authorization"))
      assert.is_nil(header(request, "cookie"))
    end
    assert.equal("x", header(other.requests[1], "x-other"))
  end)

  it("no secrets of its defaults to a server that base_url does not name", function()
    local mine <close> = listener()
    local other <close> = listener()
    local api = fetch.with({ base_url = mine.url, headers = { Authorization = "Bearer t" } })
    api("/a")
    api(other.url .. "/b")
    api(other.url .. "/c", { headers = { Authorization = "for you" } })
    assert.equal("bearer t", header(mine.requests[1], "authorization"))
    assert.is_nil(header(other.requests[1], "authorization"))
    assert.equal("for you", header(other.requests[2], "authorization"))
  end)

  it("its requests to a proxy, or to none", function()
    local proxy <close> = listener()
    fetch("http://example.invalid/page", { proxy = proxy.url })
    assert.truthy(proxy.requests[1].head:find("^GET http://example.invalid/page HTTP/1.1\r\n"))
    local code = [[print(pcall(allua.fetch, "http://127.0.0.1:1/", { proxy = false }))]]
    local result = host.eval(code, { env = { http_proxy = proxy.url, no_proxy = "" } })
    assert.truthy(result.out:find("Failed to connect", 1, true), result.out)
    assert.equal(1, #proxy.requests)
  end)
end)

describe("allua.fetch refuses", function()
  local cases = {
    { "no URL", "expected a URL (got nil)", nil },
    { "a URL without a scheme", '"example.com/x" is no URL', "example.com/x" },
    { "another scheme", "only http and https URLs are fetched (got ftp)", "ftp://h/x" },
    { "a line end in the URL", "control character", "http://127.0.0.1/\r\nX: y" },
    { "a NUL in the URL", "control character", "http://127.0.0.1/\0" },
    { "a misspelt option", 'unknown option "tiemout" (did you mean "timeout"?)', "http://h/", { tiemout = 1 } },
    {
      "a value of the wrong type",
      'option "timeout" must be a number of seconds, more than 0 (got -1)',
      "http://h/",
      { timeout = -1 },
    },
    { "a signal that is none", 'option "signal" must be a signal (got table)', "http://h/", { signal = {} } },
    {
      "a line end in a header",
      "the header X has a line end or a NUL in it",
      "http://h/",
      { headers = { X = "a\r\nY: b" } },
    },
    { "a NUL in a header", "the header X has a line end or a NUL in it", "http://h/", { headers = { X = { "a\0" } } } },
    { "a header's name with a colon", "is no name of a header", "http://h/", { headers = { ["X: y\r\nZ"] = "a" } } },
    {
      "a length of its own",
      "the header content-length follows from the body",
      "http://h/",
      { headers = { ["content-length"] = "5" } },
    },
    { "a line end in the method", "is no method", "http://h/", { method = "GET / HTTP/1.1\r\nX:" } },
    { "a proxy of another scheme", "a proxy's URL begins with http", "http://h/", { proxy = "ftp://h" } },
    { "a line end in a proxy", "the proxy has a control character", "http://h/", { proxy = "http://h\r\n" } },
    { "a proxy that is no URL", 'the proxy "[h" is no URL', "http://h/", { proxy = "[h" } },
    { "two bodies", "body and form cannot both be given", "http://h/", { body = "x", form = {} } },
    { "a body that is no JSON", "body: a function is no JSON", "http://h/", { body = { print } } },
    { "a query of tables", '"a" must be a string', "http://h/", { query = { a = { {} } } } },
    { "a line end in a part's name", "a line end or a NUL", "http://h/", { form = { ["a\r\n"] = { data = "" } } } },
    { "a part of nothing", "either file (a path) or data", "http://h/", { form = { f = { type = "x/y" } } } },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. ", and says so where the caller stands", function()
      local err = errors.raised(function()
        fetch(case[3], case[4])
      end)
      assert.truthy(err:find("fetch_spec.lua:", 1, true), err)
      assert.is_true(errors.says(err, case[2]), err)
    end)
  end

  it("to tell credentials in an error", function()
    for _, url in ipairs({ "http://me:secret@127.0.0.1:1/", "http://me:secret@[bad/", "gopher://me:secret@h/" }) do
      local err = errors.raised(fetch, url)
      assert.is_nil(tostring(err):find("secret", 1, true), tostring(err))
      assert.is_nil(type(err) == "table" and err.url:find("secret", 1, true) or nil)
    end
  end)
end)
