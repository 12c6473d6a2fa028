-- What comes with a request: queries, forms, files, JSON, cookies.

local fetch = require("allua").fetch
local scratch = require("spec.support.scratch")
local server_of = require("spec.support.server")
local uv = require("luv")
local size = require("spec.support.size")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local get, status, body, data = server_of.get, server_of.status, server_of.body, server_of.data
local talk, with = server_of.talk, server_of.with

local routes = {
  ["POST /form"] = function(event)
    return event:form()
  end,
  ["POST /json"] = function(event)
    return { got = event:json() }
  end,
  ["GET /query"] = function(event)
    return event.query
  end,
  ["GET /cookies"] = function(event)
    return event.cookies
  end,
}

local function post(path, kind, text)
  local head = "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\n"
  return (head .. "Content-Length: %d\r\n\r\n%s"):format(path, kind, #text, text)
end

local function part(disposition, text, more)
  return ("--b\r\nContent-Disposition: form-data%s\r\n%s\r\n%s\r\n"):format(disposition, more or "", text)
end

describe("a request", function()
  it("has its query, with lists where a name is repeated", function()
    with({ routes = routes }, function(server)
      local reply = talk(server, { get("/query?a=1&b=x%20y+z&a=2&a=3&empty=&flag") })
      assert.same({ a = { "1", "2", "3" }, b = "x y z", empty = "", flag = "" }, data(reply))
    end)
  end)

  it("has its cookies", function()
    with({ routes = routes }, function(server)
      local reply = talk(server, { get("/cookies", 'Cookie: a=1; b="two"; c=x=y\r\n') })
      assert.same({ a = "1", b = "two", c = "x=y" }, data(reply))
    end)
  end)

  it("gives the fields of a plain form", function()
    with({ routes = routes }, function(server)
      local kind = "application/x-www-form-urlencoded; charset=utf-8"
      local reply = talk(server, { post("/form", kind, "a=1&b=%C3%A4+b&a=2") })
      assert.same({ a = { "1", "2" }, b = "ä b" }, data(reply))
      assert.equal(415, status(talk(server, { post("/form", "application/json", "{}") })))
    end)
  end)

  it("gives the fields and the files of a multipart form, as fetch and curl send them", function()
    with({ routes = routes }, function(server)
      local got = fetch(server.url .. "/form", {
        form = { text = "x", list = { "1", "2" }, file = { data = "a\r\n--b\0c", name = 'n"a.txt', type = "text/x" } },
      })
      assert.equal("x", got.text)
      assert.same({ "1", "2" }, { table.unpack(got.list) })
      assert.same({ filename = 'n"a.txt', type = "text/x", data = "a\r\n--b\0c" }, {
        filename = got.file.filename:gsub("\\", ""),
        type = got.file.type,
        data = got.file.data,
      })
    end)
  end)

  it("refuses a multipart form that is not to the letter", function()
    with({ routes = routes }, function(server)
      local good = part('; name="a"', "1") .. "--b--\r\n"
      local function try(text, kind)
        return status(talk(server, { post("/form", kind or "multipart/form-data; boundary=b", text) }))
      end
      assert.equal(200, try(good))
      assert.equal(200, try("--b--"))
      assert.equal(400, try(good, "multipart/form-data"))
      assert.equal(400, try(good, 'multipart/form-data; boundary="' .. ("b"):rep(71) .. '"'))
      assert.equal(400, try(""))
      assert.equal(400, try("--b\r\n"))
      assert.equal(400, try(good:sub(1, -5)))
      assert.equal(400, try("x" .. good))
      assert.equal(400, try(good .. "x"))
      assert.equal(400, try(part("", "1") .. "--b--"))
      assert.equal(400, try(part('; name="a"', "1", "Bare: a\nb\r\n") .. "--b--"))
      assert.equal(400, try((good:gsub("\r\n", "\n"))))
    end)
  end)

  it("has names and file names as each client writes them", function()
    with({ routes = routes }, function(server)
      for _, case in ipairs({
        { '; name="f"; filename="a%22b.txt"', 'a"b.txt' }, -- browsers
        { '; name="f"; filename="a\\"b.txt"', 'a"b.txt' }, -- Go
        { '; name="f"; filename="a\\\\b.txt"', "a\\b.txt" },
        { '; name="f"; filename="C:\\x\\y.txt"', "C:\\x\\y.txt" }, -- older browsers
        { "; filename=plain.txt; name=f", "plain.txt" },
        { '; filename="x; name=g"; NAME=f', "x; name=g" },
        { '; filename="x; name=\\"g\\""; name="f"', 'x; name="g"' },
        { ';name="f";filename=""', "" },
      }) do
        local text = part(case[1], "1") .. "--b--"
        local reply = talk(server, { post("/form", "multipart/form-data; boundary=b", text) })
        assert.same({ f = { filename = case[2], type = "text/plain", data = "1" } }, data(reply), case[1])
      end
      for _, broken in ipairs({ '; name="f', '; name="f\\"', "; name=", "; filename=x", ';;; name=""x' }) do
        local text = part(broken, "1") .. "--b--"
        local code = status(talk(server, { post("/form", "multipart/form-data; boundary=b", text) }))
        assert.is_true(code == 400 or broken:find('""', 1, true) and code == 200, broken)
      end
    end)
  end)

  it("gives the same form again", function()
    with({
      routes = {
        ["POST /"] = function(event)
          local first = event:form()
          assert(event:form() == first and event:body() ~= "")
          local names = {}
          for each in event:parts() do
            names[#names + 1] = each.name .. "=" .. each:body()
          end
          return names
        end,
      },
    }, function(server)
      local text = part('; name="a"', "1") .. part('; name="b"', "2") .. "--b--"
      local reply = talk(server, { post("/", "multipart/form-data; boundary=b", text) })
      assert.same({ "a=1", "b=2" }, data(reply))
    end)
  end)

  it("takes a form apart however its bytes come, and whatever looks like a boundary in it", function()
    with({ routes = routes }, function(server)
      local value = "\r\r\n\r\n-\r\n--\r\n--B\r\n--c--b\n--b\r--b"
      local text = part('; name="a"', value) .. part('; name="empty"', "") .. "--b--\r\n"
      local bytes, request = {}, post("/form", "multipart/form-data; boundary=b", text)
      local step = size.full and 1 or 13 -- in time for the server, where each piece costs a full collection
      for at = 1, #request, step do
        bytes[#bytes + 1] = request:sub(at, at + step - 1)
      end
      assert.same({ a = value, empty = "" }, data(talk(server, bytes, 0)))
    end)
  end)

  it("refuses a form with too much in it", function()
    with({ routes = routes }, function(server)
      local function try(text)
        return status(talk(server, { post("/form", "multipart/form-data; boundary=b", text) }))
      end
      local one = part('; name="a"', "")
      assert.equal(200, try(one:rep(1000) .. "--b--"))
      assert.equal(413, try(one:rep(1001) .. "--b--"))
      assert.equal(200, try(part('; name="a"', "", "X: " .. ("x"):rep(8000) .. "\r\n") .. "--b--"))
      assert.equal(413, try(part('; name="a"', "", "X: " .. ("x"):rep(8192) .. "\r\n") .. "--b--"))
      assert.equal(413, try(part('; name="a"', ("x"):rep(1048576)) .. "--b--"))
    end)
  end)

  it("gives JSON with its integers, its lists and its nulls", function()
    with({ routes = routes }, function(server)
      local reply = talk(server, { post("/json", "application/json", '{"list":[],"none":null,"n":1,"f":1.5}') })
      for _, pair in ipairs({ '"f":1.5', '"list":%[%]', '"n":1[,}]', '"none":null' }) do
        assert.matches(pair, body(reply))
      end
      local wrong = talk(server, { post("/json", "application/json", "{") })
      assert.equal(400, status(wrong))
      assert.matches("the body is not JSON: invalid JSON at byte 2", body(wrong))
    end)
  end)
end)

describe("event:parts", function()
  local function count(path)
    local entries, found = uv.fs_scandir(path), 0
    while uv.fs_scandir_next(entries) do
      found = found + 1
    end
    return found
  end

  local function uploads(folder, limits)
    return {
      limits = limits,
      routes = {
        ["POST /upload"] = function(event)
          local seen = {}
          for each in event:parts() do
            local about = { name = each.name, filename = each.filename, type = each.type }
            if each.name == "skipped" then
              about.length = 0
            elseif each.filename then
              about.length = each:save(folder:at("saved"))
            else
              about.body = each:body()
            end
            seen[#seen + 1] = about
          end
          return seen
        end,
      },
    }
  end

  it("saves files as they come, and passes over what nobody reads", function()
    local folder <close> = scratch.folder()
    local long = ("0123456789abcdef\r\n"):rep(1000000)
    with(uploads(folder, { body = 64 * 1024 * 1024 }), function(server)
      local got = fetch(server.url .. "/upload", {
        form = { skipped = long, a = "1", file = { data = long, name = "long.txt", type = "text/x" } },
      })
      local by_name = {}
      for _, about in ipairs(got) do
        by_name[about.name] = about
      end
      assert.equal("1", by_name.a.body)
      assert.equal("text/plain", by_name.a.type)
      assert.same({ name = "file", filename = "long.txt", type = "text/x", length = #long }, by_name.file)
      local file <close> = io.open(folder:at("saved"), "rb")
      assert.is_true(file:read("a") == long)
    end)
  end)

  it("leaves no file behind where the form breaks off", function()
    local folder <close> = scratch.folder()
    with(uploads(folder), function(server)
      local whole =
        post("/upload", "multipart/form-data; boundary=b", part('; name="f"; filename="f"', ("x"):rep(99999)))
      assert.equal(400, status(talk(server, { whole })))
      local leaving = server_of.connect(server)
      leaving:send(whole:sub(1, -1000))
      web.wait_until(function()
        return count(folder.path) == 1
      end)
      leaving:close()
      leaving:wait()
      web.wait_until(function()
        return count(folder.path) == 0
      end)
    end)
  end)

  it("refuses what is no multipart form", function()
    local folder <close> = scratch.folder()
    with(uploads(folder), function(server)
      assert.equal(415, status(talk(server, { post("/upload", "text/plain", "a=1") })))
      assert.equal(415, status(talk(server, { "POST /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" })))
    end)
  end)
end)
