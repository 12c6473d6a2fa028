-- Clients that take their replies slowly, or not at all: nothing is cut off, and nothing piles up.

local allua = require("allua")
local server_of = require("spec.support.server")
local uv = require("luv")

require("spec.support.leftovers")()

local function resident()
  return uv.resident_set_memory() / 1024 / 1024
end

-- Reads on only when told, a piece at a time; the kernel holds little in between.
local function take_slowly(talk, pause)
  local function on_data(_, data)
    if data then
      talk.length = talk.length + #data
      talk.tcp:read_stop()
    else
      talk:close()
    end
  end
  while talk.done.status == "pending" do
    if not talk.tcp:is_closing() then
      talk.tcp:read_start(on_data)
    end
    allua.sleep(pause)
  end
  return talk.length
end

local size = 16 * 1024 * 1024

local routes = {
  ["GET /big"] = function()
    return ("x"):rep(size)
  end,
  ["GET /part"] = function()
    return ("x"):rep(200000)
  end,
}

local function ask(server, path, more)
  local talk = server_of.connect(server)
  talk.tcp:recv_buffer_size(65536)
  talk:send(("GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n"):format(path, more or ""))
  return talk
end

describe("a slow client", function()
  it("gets the whole of the last reply, though that takes longer than the server waits for the end", function()
    server_of.with({ routes = routes }, function(server)
      local talk = ask(server, "/big", "Connection: close\r\n")
      allua.sleep(2.6)
      assert.is_true(take_slowly(talk, 0) > size)
    end)
  end)

  it("gets the whole of the reply that was under way when the server closed", function()
    server_of.with({ routes = routes }, function(server)
      local talk = ask(server, "/big")
      allua.sleep(0.1)
      local closed = allua.spawn(server.close, server, 30)
      allua.sleep(0.1)
      assert.equal("pending", closed.status)
      assert.is_true(take_slowly(talk, 0) > size)
      closed:await()
    end)
  end)

  it("makes a server that closes wait no longer than its grace", function()
    server_of.with({ routes = routes }, function(server)
      local talk = ask(server, "/big")
      allua.sleep(0.1)
      allua.timeout(10, server.close, server, 0.2)
      assert.is_true(take_slowly(talk, 0) < size)
    end)
  end)

  it("that pipelines and reads nothing gets no more replies made for it", function()
    server_of.with({ routes = routes }, function(server)
      local talk, before = server_of.connect(server), resident()
      for _ = 1, 20 do
        talk:send(("GET /part HTTP/1.1\r\nHost: x\r\n\r\n"):rep(100))
        allua.sleep(0.01)
      end
      assert.is_true(resident() - before < 64)
      talk:close()
      talk:wait()
    end)
  end)

  it("gets all replies in order once it reads", function()
    server_of.with({ routes = routes }, function(server)
      local talk = server_of.connect(server)
      local one = "GET /part HTTP/1.1\r\nHost: x\r\n"
      talk:send((one .. "\r\n"):rep(49) .. one .. "Connection: close\r\n\r\n")
      allua.sleep(0.1)
      talk:read()
      local _, replies = talk:wait():gsub("HTTP/1.1 200", "")
      assert.equal(50, replies)
      assert.is_true(talk.length > 50 * 200000)
    end)
  end)
end)
