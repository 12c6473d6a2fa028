-- Requests to one server that differ in path, query, headers and body: most of each is kept ready.

local allua = require("allua")
local errors = require("spec.support.errors")
local server_of = require("spec.support.server")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local fetch = require("allua.fetch")

-- A server that notes what it is asked, and replies "well".
local function listening()
  return web.raw(function(client)
    client:write(web.reply("200 OK", {}, "well"))
  end)
end

-- The first line, the other lines in a stable order, and the body.
local function asked(server)
  local request = table.remove(server.requests)
  local first, rest = request.head:match("^(.-)\r\n(.*)$")
  local lines = {}
  for line in rest:gmatch("[^\r\n]+") do
    lines[#lines + 1] = line
  end
  table.sort(lines)
  return { first = first, lines = lines, body = request.body }
end

-- What is asked for with these options when all is made anew, as it is for a fetch that reports its progress.
local function asked_anew(server, api, url, given)
  local own = { on_progress = function() end }
  for name, value in pairs(given) do
    own[name] = value
  end
  assert.equal("well", api(url, own))
  return asked(server)
end

local shapes = {
  { query = { a = 1, b = { "x y", true, 2.5 }, ["ü&"] = "=" } },
  { query = {} },
  { query = { a = {} } },
  { headers = { ["X-A"] = "1", ["X-Empty"] = "", ["X-List"] = { "a", "b" }, ["X-Default"] = false } },
  { headers = { ["user-agent"] = "mine" } },
  { headers = { ["User-Agent"] = false } },
  { headers = { ["Accept-Encoding"] = "identity" } },
  { headers = { Accept = "text/plain", Host = "else.invalid" } },
  { headers = { ["Content-Type"] = "text/x" } },
  { body = { list = { 1, 2 } } },
  { body = "" },
  { body = "text", headers = { ["Content-Type"] = "text/x" } },
  { body = ("long"):rep(3000) },
  { body = ("too long to be copied"):rep(3000) },
  { method = "GET", body = "a GET" },
  { method = "DELETE", body = "a DELETE", query = { a = 1 } },
  { method = "PUT" },
  { method = "post" },
  { method = "DELETE" },
  { method = "OPTIONS", query = { q = "?" } },
  { method = "Odd", query = { a = 1 }, headers = { ["X-A"] = "1" } },
}

describe("requests that differ", function()
  it("are what they are when all of each is made anew", function()
    local server <close> = listening()
    for _, defaults in ipairs({
      {},
      { query = { a = "default", c = 3 } },
      { headers = { ["X-Default"] = "1", ["x-a"] = "default", Authorization = "secret" } },
      { headers = { ["User-Agent"] = "default", ["Accept-Encoding"] = "gzip" }, method = "PATCH" },
      { proxy = false, redirects = false, connect_timeout = 7, max_body = 100, verify = false },
    }) do
      defaults.base_url = server.url
      local api = fetch.with(defaults)
      for _, url in ipairs({ "/", "/path/?q=1&", "/a%20b?q", server.url .. "/c#fragment" }) do
        for i, shape in ipairs(shapes) do
          local expected = asked_anew(server, api, url, shape)
          for _ = 1, 2 do
            assert.equal("well", api(url, shape))
            assert.same(expected, asked(server), "shape " .. i .. " of " .. url)
          end
        end
        assert.equal("well", api(url)) -- one that is fetched for the first time
        assert.same(asked_anew(server, api, url, {}), asked(server))
      end
    end
  end)

  it("are refused as others are, where the call stands", function()
    for given, words in pairs({
      [{ query = { 1 } }] = "fetch: query: names are strings (got 1)",
      [{ query = { a = print } }] = 'fetch: query: "a" must be a string, a number or a boolean, or a list of such',
      [{ query = { a = { {} } } }] = 'fetch: query: "a" must be a string, a number or a boolean, or a list of such',
      [{ headers = { ["X-A"] = "a\r\nb" } }] = "fetch: the header X-A has a line end or a NUL in it",
      [{ headers = { ["X-A"] = true } }] = "fetch: the header X-A must be a string, or a list of strings",
      [{ headers = { ["X A"] = "" } }] = 'fetch: "X A" is no name of a header',
      [{ headers = { ["Content-Length"] = "1" } }] = "fetch: the header Content-Length follows from the body",
      [{ method = "CONNECT" }] = "fetch: CONNECT is the proxy's business",
      [{ method = "HEAD", body = "" }] = "fetch: a HEAD request has no body",
      [{ body = { print } }] = "fetch: body: ",
      [{ qurey = {} }] = 'fetch: unknown option "qurey" (did you mean "query"?)',
      [{ signal = allua.promise() }] = 'fetch: option "signal" must be a signal',
    }) do
      for _ = 1, 2 do
        local err = errors.raised(function()
          fetch("http://127.0.0.1:9/", given)
        end)
        assert.matches("^spec/fetch_varied_spec.lua:%d+: ", err)
        assert.is_true(errors.says(err, words), err)
      end
    end
  end)

  it("fail, lead on and are tried again as others are", function()
    local tries = 0
    server_of.with({
      routes = {
        ["/missing"] = function()
          allua.http_error(404, "nothing here")
        end,
        ["/later"] = function(event)
          tries = tries + 1
          if tries % 2 == 1 then
            allua.http_error(503, "later")
          end
          return event.query.n
        end,
        ["/slow"] = function()
          allua.sleep(60)
        end,
        ["/away"] = function(event)
          event:status(tonumber(event.query.status))
          event:header("Location", "/echo?from=away")
          return ""
        end,
        ["/echo"] = function(event)
          return { event.method, event.headers["x-a"] or "-", event:body(), event.query.from or "-" }
        end,
      },
    }, function(server)
      local api = fetch.with({ base_url = server.url })
      for i = 1, 2 do
        local err = errors.raised(api, "/missing", { query = { a = 1 } })
        assert.same({ 404, "GET", server.url .. "/missing?a=1" }, { err.status, err.method, err.url })
        err = errors.raised(api, "/slow", { query = { a = i }, timeout = 0.05 })
        assert.same({ "timeout", server.url .. "/slow?a=" .. i }, { err.code, err.url })
        assert.equal(tostring(i), api("/later", { query = { n = i }, retry = { attempts = 2, delay = 0 } }))
        assert.equal(503, errors.raised(api, "/later", { query = { n = i } }).status)
        tries = 0
        local given = { query = { status = 307 }, headers = { ["X-A"] = "a" }, body = "body" }
        assert.same({ "POST", "a", "body", "away" }, api("/away", given))
        given.query.status = 303
        assert.same({ "GET", "a", "", "away" }, api("/away", given))
      end
    end)
  end)

  it("do not get into each other's way", function()
    server_of.with({
      routes = {
        ["/echo/:i"] = function(event)
          allua.sleep(0)
          return { event.params.i, event.query.i, event.headers["x-i"], event:json().i }
        end,
        ["/never"] = function()
          allua.sleep(60)
        end,
      },
    }, function(server)
      local list = {}
      for i = 1, 300 do
        list[i] = i
      end
      allua.map(list, function(i)
        if i % 7 == 0 then -- dropped on its way
          pcall(fetch, server.url .. "/never", { query = { i = i }, headers = { ["X-I"] = "never" }, timeout = 0.01 })
        end
        local text = tostring(i)
        local given = { query = { i = i }, headers = { ["X-I"] = text }, body = { i = i } }
        assert.same({ text, text, text, i }, fetch(server.url .. "/echo/" .. i, given))
      end, { concurrency = 40 })
    end)
  end)

  it("to many servers, by many methods, are kept ready in bounds", function()
    local server <close> = listening()
    for i = 1, 150 do
      local method = "M" .. i
      assert.equal("well", fetch(server.url, { method = method }))
      assert.equal(method .. " / HTTP/1.1", asked(server).first)
    end
  end)

  it("go over HTTP/2 as well", function()
    local nginx <close> = web.nginx({}, 'location / { return 200 "$server_protocol $request_uri $http_x_a"; }')
    local api = fetch.with({ base_url = nginx.tls, ca = nginx.ca })
    for i = 1, 3 do
      local text = api("/a%20b", { query = { i = i }, headers = { ["X-A"] = "a" .. i } })
      assert.equal(("HTTP/2.0 /a%%20b?i=%d a%d"):format(i, i), text)
    end
  end)
end)
