-- What a peer sends is read in time that grows with its length, and no faster, whatever it is.

local allua = require("allua")
local core = require("allua.core")
local server_of = require("spec.support.server")
local size = require("spec.support.size")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local response = core.load("allua.fetch_response")

local LENGTH = 200000

-- What takes milliseconds where it is linear took seconds to minutes where it was not.
local function briefly(what, fn)
  local began = os.clock()
  fn()
  local took = os.clock() - began
  assert.is_true(took < size.seconds(1), ("%s: %.1f s"):format(what, took))
end

-- Lines of a head that a pattern may stumble over.
local values = {}
for name, text in pairs({
  ["spaces within"] = "a" .. (" "):rep(LENGTH) .. "b",
  ["one word"] = ("a"):rep(LENGTH),
  ["equals signs"] = ("="):rep(LENGTH),
  ["semicolons"] = ("; "):rep(LENGTH // 2),
  ["quotes"] = ('"'):rep(LENGTH),
  ["open quotes"] = ('" '):rep(LENGTH // 2),
  ["weak tags"] = ("W/"):rep(LENGTH // 2),
  ["commas"] = (", "):rep(LENGTH // 2),
  ["digits"] = "bytes=" .. ("1"):rep(LENGTH),
  ["backslashes"] = '; name="' .. ("\\"):rep(LENGTH),
}) do
  values[#values + 1] = { name, text }
end

describe("a head", function()
  it("of a request costs no more than its length", function()
    server_of.with({
      limits = { head = 10 * LENGTH, uri = 2 * LENGTH, body = 10 * LENGTH },
      routes = {
        ["/cookies"] = function(event)
          return event.cookies and "ok"
        end,
        ["/form"] = function(event)
          return event:form() and "ok"
        end,
        ["/files/*path"] = allua.serve.files("spec"),
        ["/*rest"] = function(event)
          return event.query and "ok"
        end,
      },
    }, function(server)
      for _, case in ipairs(values) do
        local what, text = case[1], case[2]
        for _, line in ipairs({ "Cookie", "If-None-Match", "If-Match", "Range", "If-Range", "If-Modified-Since" }) do
          local path = line == "Cookie" and "/cookies" or "/files/http_linear_spec.lua"
          briefly(line .. ": " .. what, function()
            local reply = server_of.talk(server, { server_of.get(path, line .. ": " .. text .. "\r\n") })
            assert.is_true(server_of.status(reply) < 500)
          end)
        end
        briefly("content type: " .. what, function()
          local more = ("Content-Type: multipart/form-data; boundary=%s\r\nContent-Length: 1\r\n"):format(text)
          server_of.talk(server, { (server_of.get("/form", more):gsub("^GET", "POST")) .. "x" })
        end)
        local parts = {}
        for i = 1, 20 do
          local head = i % 2 == 0 and "Content-Disposition: form-data; " .. text:sub(1, 8000) or text:sub(1, 8000)
          parts[i] = "--b\r\n" .. head .. "\r\n\r\n\r\n"
        end
        briefly("parts: " .. what, function()
          local form = table.concat(parts) .. "--b--"
          local more = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: " .. #form .. "\r\n"
          server_of.talk(server, { (server_of.get("/form", more):gsub("^GET", "POST")) .. form })
        end)
      end
      for _, target in ipairs({ "/", "%2e", "a=&", "&", "=", "+", "?" }) do
        briefly("target: " .. target, function()
          local path = "/x" .. (target == "/" and "" or "?") .. target:rep(LENGTH // #target)
          assert.equal(200, server_of.status(server_of.talk(server, { server_of.get(path) })))
        end)
      end
    end)
  end)

  it("of a reply that is folded into many lines costs no more than its length", function()
    briefly("folded", function()
      local headers = response.headers("HTTP/1.1 200 OK\r\nX: y" .. ("\r\n a"):rep(LENGTH) .. "\r\n\r\n")
      assert.equal("y" .. (" a"):rep(LENGTH), headers.x)
    end)
  end)

  it("of a reply costs no more than its length", function()
    for _, case in ipairs(values) do
      local what, text = case[1], case[2]
      local lines = { "X: %s", "Content-Type: %s", "Retry-After: %s", "Content-Range: bytes %s", "X: y\r\n %s" }
      for _, line in ipairs(lines) do
        local server <close> = web.raw(function(client)
          client:write(web.reply("429 No", { (line:gsub("%%s", { ["%s"] = text:sub(1, 90000) })) }, ""))
        end)
        briefly(line .. what, function()
          local ok, err = pcall(allua.fetch, server.url, {
            retry = {
              attempts = 2,
              delay = 0.001,
              when = function(e)
                return e.headers["retry-after"] == nil
              end,
            },
          })
          assert.is_false(ok)
          assert.equal(429, err.status, tostring(err))
          assert.equal("0", err.headers["content-length"])
        end)
      end
    end
  end)
end)
