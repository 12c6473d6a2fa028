-- allua.serve where the system has no more descriptors: it waits until there are some, and goes on.

local allua = require("allua")
local host = require("spec.support.host")
local server_of = require("spec.support.server")
local web = require("spec.support.web")

require("spec.support.leftovers")()

local get, body = server_of.get, server_of.body

-- A server that may have 64 descriptors, and whose handler opens a file.
local function start()
  return host.start({
    "-c",
    ('ulimit -n 64; exec %s -e "$0"'):format(host.program),
    [[local server = allua.serve({ routes = {
      ["GET /"] = function()
        local file <close> = assert(io.open("/dev/null"))
        return "ok"
      end,
      ["GET /time"] = function()
        return { cpu = os.clock() }
      end,
    } })
    print("at " .. server.port .. "!")]],
  }, { program = "/bin/sh" })
end

describe("allua.serve without descriptors", function()
  it("lets further clients wait, keeps some for its handlers, does not spin, and goes on", function()
    local child <close> = start()
    child:wait_for("!")
    local server = { port = tonumber(child.out:match("%d+")) }
    local clients = {}
    for i = 1, 100 do
      clients[i] = server_of.connect(server)
      clients[i]:read()
      clients[i]:send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    end
    local function answered()
      local count = 0
      for _, client in ipairs(clients) do
        count = count + (client.length > 0 and 1 or 0)
        assert.equal("pending", client.done.status, "a client was dropped")
      end
      return count
    end
    web.wait_until(function()
      return answered() >= 20
    end)
    -- Processor time that the server has used.
    local function clock()
      local before = clients[1].length
      clients[1]:send("GET /time HTTP/1.1\r\nHost: x\r\n\r\n")
      web.wait_until(function()
        return clients[1].length > before
      end)
      return tonumber(clients[1]:all():match('.*"cpu":([%d.e-]+)'))
    end
    local before = clock()
    allua.sleep(1)
    assert.is_true(clock() - before < 0.5)
    assert.is_true(answered() < 64)
    for i, client in ipairs(clients) do
      web.wait_until(function()
        return client.length > 0
      end)
      assert.matches("\r\n\r\nok", client:all(), i)
      client:close()
      client:wait()
    end
    assert.equal("ok", body(server_of.talk(server, { get("/") })))
    assert.equal("", child.err)
  end)

  it("drops no client where a handler has taken the last of them, and lets all in once they are given back", function()
    local child <close> = host.start({
      "-c",
      ('ulimit -n 64; exec %s -e "$0"'):format(host.program),
      [[local taken = {}
      local server = allua.serve({ routes = {
        ["GET /take"] = function()
          repeat
            local file = io.open("/dev/null")
            taken[#taken + 1] = file
          until not file
          return "taken"
        end,
        ["GET /give"] = function()
          for _, file in ipairs(taken) do
            file:close()
          end
          taken = {}
          return "given"
        end,
        ["GET /"] = function()
          return "ok"
        end,
      } })
      print("at " .. server.port .. "!")]],
    }, { program = "/bin/sh" })
    child:wait_for("!")
    local server = { port = tonumber(child.out:match("%d+")) }
    local first = server_of.connect(server)
    first:read()
    local function ask(path, answer)
      local before = first.length
      first:send("GET " .. path .. " HTTP/1.1\r\nHost: x\r\n\r\n")
      web.wait_until(function()
        return first.length > before
      end)
      assert.matches(answer .. "$", first:all())
    end
    ask("/take", "taken")
    local clients = {}
    for i = 1, 20 do
      clients[i] = server_of.connect(server)
      clients[i]:read()
      clients[i]:send(get("/"))
    end
    ask("/take", "taken") -- the loop has seen them
    allua.sleep(0.6) -- and looked for room again
    ask("/", "ok")
    for _, client in ipairs(clients) do
      assert.same({ "pending", 0 }, { client.done.status, client.length })
    end
    ask("/give", "given")
    for _, client in ipairs(clients) do
      assert.equal("ok", body(client:wait()))
    end
    first:close()
    first:wait()
    assert.equal("", child.err)
  end)
end)
