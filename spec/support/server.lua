-- allua.serve for the length of a function, and raw connections to it.
--
--   server.with({ routes = … }, function(server) … end)
--   server.talk(server, { "GET / …", "the rest" } [, pause])  -- all that comes until the end
--   server.get("/path" [, "Header: value\r\n"])  -- a request that ends its connection
--   server.status(reply), server.body(reply)

local allua = require("allua")
local uv = require("luv")

-- Loaded here, so that the memory they take is not the first spec's.
require("allua.serve")
require("allua.fetch")

local server = {}

-- Connects; the connection has the data that came in .got, joined by :all(); .done when it is over.
local Talk = {}
Talk.__index = Talk

function server.connect(to)
  local talk = setmetatable({ tcp = uv.new_tcp(), got = {}, length = 0, done = allua.promise() }, Talk)
  local connected = allua.promise()
  talk.tcp:connect("127.0.0.1", to.port, function(failure)
    if failure then
      connected:reject(failure)
    else
      connected:resolve()
    end
  end)
  connected:await()
  return talk
end

function Talk:read()
  self.tcp:read_start(function(_, data)
    if data then
      self.got[#self.got + 1] = data
      self.length = self.length + #data
    else
      self:close()
    end
  end)
end

function Talk:all()
  return table.concat(self.got)
end

function Talk:close()
  if not self.tcp:is_closing() then
    self.tcp:close(function()
      self.done:resolve(self:all())
    end)
  end
end

function Talk:send(data)
  if not self.tcp:is_closing() then
    self.tcp:write(data)
  end
end

-- What came in all, when the server has closed the connection.
function Talk:wait()
  return allua.timeout(30, self.done.await, self.done)
end

function server.talk(to, pieces, pause)
  local talk = server.connect(to)
  talk:read()
  for _, piece in ipairs(pieces) do
    talk:send(piece)
    if pause then
      allua.sleep(pause)
    end
  end
  return talk:wait()
end

function server.get(path, more)
  return ("GET %s HTTP/1.1\r\nHost: x\r\n%sConnection: close\r\n\r\n"):format(path, more or "")
end

function server.with(options, fn)
  local made = allua.serve(options)
  local ok, err = pcall(fn, made)
  allua.shield(made.close, made)
  if not ok then
    error(err, 0)
  end
end

function server.status(reply)
  return tonumber(reply:match("^HTTP/1.1 (%d+)"))
end

function server.body(reply)
  return reply:match("\r\n\r\n(.*)$")
end

-- The body, decoded; the order of its names is any.
function server.data(reply)
  return require("cjson").decode(server.body(reply))
end

return server
