-- Servers for specs, on ports that the system chooses.
--
--   local server <close> = web.nginx({ ["a.txt"] = "…" }, "location /x { … }")   -- Debian's, with TLS
--   server.url, server.tls (URLs without a path), server.ca (its certificate's path)
--
--   local server <close> = web.raw(function(client, head, body) client:write("HTTP/1.1 200 OK\r\n…") end)
--   server.url; server.requests[i].head, .body; server.closed (how many clients have gone)

local allua = require("allua")
local close = require("spec.support.close")
local free_port = require("spec.support.port")
local scratch = require("spec.support.scratch")
local uv = require("luv")

local web = {}

-- Far more than a slow machine needs; what never comes fails the spec, not the suite.
local timeout = 60

-- Waits until condition() holds.
function web.wait_until(condition)
  allua.timeout(timeout, function()
    while not condition() do
      allua.sleep(0.002)
    end
  end)
end

-- ── one of our own, which writes what it is told ──

local Raw = {}
Raw.__index = Raw

local function whole_request(text)
  local head, rest = text:match("^(.-\r\n\r\n)(.*)$")
  local length = head and tonumber(head:lower():match("\r\ncontent%-length: *(%d+)")) or 0
  if head and head:lower():find("\r\ntransfer-encoding: chunked", 1, true) then
    return rest:find("0\r\n\r\n", 1, true) and head, rest, ""
  elseif head and #rest >= length then
    return head, rest:sub(1, length), rest:sub(length + 1)
  end
end

local function serve(server, client, handler)
  local text = ""
  client:read_start(function(failure, data)
    if failure or not data then
      server.closed = server.closed + 1
      server.clients[client] = nil
      if not client:is_closing() then
        client:close()
      end
      return
    end
    text = text .. data
    local head, body, rest = whole_request(text)
    while head do
      text = rest
      table.insert(server.requests, { head = head, body = body })
      handler(client, head, body, #server.requests)
      head, body, rest = whole_request(text)
    end
  end)
end

function Raw:__close()
  allua.shield(function()
    for client in pairs(self.clients) do
      close(client)
    end
    close(self.listener)
  end)
end

-- Calls accepted(server, client) for each that connects; all of server.clients are closed with the server.
function web.listen(accepted)
  local server = setmetatable({ requests = {}, clients = {}, closed = 0, accepted = 0 }, Raw)
  server.listener = uv.new_tcp()
  assert(server.listener:bind("127.0.0.1", 0))
  assert(server.listener:listen(128, function()
    local client = uv.new_tcp()
    server.listener:accept(client)
    server.clients[client] = true
    server.accepted = server.accepted + 1
    accepted(server, client)
  end))
  server.port = server.listener:getsockname().port
  server.url = "http://127.0.0.1:" .. server.port
  return server
end

function web.raw(handler)
  return web.listen(function(server, client)
    serve(server, client, handler)
  end)
end

-- A whole reply.
function web.reply(status, headers, body)
  local lines = { "HTTP/1.1 " .. status }
  for _, line in ipairs(headers) do
    lines[#lines + 1] = line
  end
  lines[#lines + 1] = "Content-Length: " .. #body
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

-- ── Debian's nginx ──

local configuration = [[
user root root;
daemon off;
worker_processes 1;
pid FOLDER/pid;
error_log FOLDER/error.log;
events { worker_connections 512; }
http {
  access_log off;
  default_type text/plain;
  types { application/json json; text/html html; }
  client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
  keepalive_requests 100000;
  server {
    listen 127.0.0.1:PLAIN;
    listen 127.0.0.1:SECURE ssl http2;
    listen 127.0.0.2:SECURE ssl http2; # which the certificate does not name
    ssl_certificate FOLDER/certificate.pem;
    ssl_certificate_key FOLDER/key.pem;
    root FOLDER/root;
    LOCATIONS
  }
  BESIDE
}
]]

local Nginx = {}
Nginx.__index = Nginx

local function run(program, args, options)
  local ended = allua.promise()
  local process = assert(uv.spawn(program, { args = args, stdio = options }, function(code)
    ended:resolve(code)
  end))
  return process, ended
end

-- Whether something listens there.
function web.answers(port)
  local tcp, tried = uv.new_tcp(), allua.promise()
  tcp:connect("127.0.0.1", port, function(failure)
    tried:resolve(not failure)
  end)
  local ok = tried:await()
  close(tcp)
  return ok
end

-- A certificate for localhost and 127.0.0.1, signed by itself: certificate.pem and key.pem in the folder.
function web.certify(folder)
  local process, ended = run("openssl", {
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-days",
    "2",
    "-subj",
    "/CN=allua",
    "-addext",
    "subjectAltName=DNS:localhost,IP:127.0.0.1",
    "-keyout",
    folder:at("key.pem"),
    "-out",
    folder:at("certificate.pem"),
  })
  assert(ended:await() == 0, "openssl failed")
  close(process)
end

function Nginx:__close()
  allua.shield(function()
    if self.ended.status == "pending" then
      self.process:kill("sigterm")
      self.ended:await()
    end
    close(self.process)
    self.folder:__close()
  end)
end

-- `beside`: what stands beside its own server, where more is to be served.
function web.nginx(files, locations, beside)
  local folder = scratch.folder()
  folder:write("root/index.html", "<p>hello</p>")
  for name, text in pairs(files) do
    folder:write("root/" .. name, text)
  end
  web.certify(folder)
  local values = { FOLDER = folder.path, PLAIN = free_port(), SECURE = free_port() }
  folder:write(
    "nginx.conf",
    (
      configuration
        :gsub("LOCATIONS", { LOCATIONS = locations or "" })
        :gsub("BESIDE", { BESIDE = beside or "" })
        :gsub("%f[%w]%u%u+%f[%W]", values)
    )
  )
  local server = setmetatable({ folder = folder, ca = folder:at("certificate.pem") }, Nginx)
  server.url = "http://127.0.0.1:" .. values.PLAIN
  server.tls = "https://127.0.0.1:" .. values.SECURE
  server.process, server.ended =
    run("/usr/sbin/nginx", { "-p", folder.path, "-e", folder:at("error.log"), "-c", folder:at("nginx.conf") })
  local ok, problem = pcall(web.wait_until, function()
    if server.ended.status ~= "pending" then
      local log <close> = assert(io.open(folder:at("error.log")))
      error("nginx did not start: " .. log:read("a"), 0)
    end
    return web.answers(values.PLAIN) and web.answers(values.SECURE)
  end)
  if not ok then
    server:__close()
    error(problem, 0)
  end
  return server
end

-- A server that gives these bytes, then closes the connection.
function web.cut(bytes)
  return web.raw(function(client)
    client:write(bytes, function()
      client:shutdown(function()
        if not client:is_closing() then
          client:close()
        end
      end)
    end)
  end)
end

return web
