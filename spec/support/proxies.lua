-- Proxies for specs: Debian's microsocks and tinyproxy, on ports that the system chooses. What goes through them
-- comes from 127.0.0.2, by which a server can tell.
--
--   local proxy <close> = proxies.socks({ user = "me", password = "secret" })   -- SOCKS 5; both may be left out
--   local proxy <close> = proxies.http({ user = "me", password = "secret" })    -- HTTP, tunnels too
--   local secure <close> = proxies.tls(proxy.place, folder)    -- the same by TLS, with a certificate of web.certify's
--   proxy.place ("127.0.0.1:1080"); proxy.err, proxy.out (what it says); proxy:kill("sigkill")
--
--   local proxy <close> = proxies.socks4()    -- SOCKS 4 and 4a, of our own; proxy.requests[i]: "user host:port"

local free_port = require("spec.support.port")
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local uv = require("luv")
local web = require("spec.support.web")

local proxies = {}

local function start(program, args, port)
  local child = host.start(args, { program = program })
  local ok, problem = pcall(web.wait_until, function()
    assert(child.ended.exit.status == "pending", program .. " did not start: " .. child.out .. child.err)
    return web.answers(port)
  end)
  if not ok then
    child:close()
    error(problem, 0)
  end
  child.place = "127.0.0.1:" .. port
  return child
end

function proxies.socks(options)
  local port = free_port()
  local args = { "-i", "127.0.0.1", "-p", tostring(port), "-b", "127.0.0.2" }
  if options and options.user then
    table.move({ "-u", options.user, "-P", options.password }, 1, 4, #args + 1, args)
  end
  return start("microsocks", args, port)
end

function proxies.http(options)
  local port = free_port()
  local lines = { "Port " .. port, "Listen 127.0.0.1", "Bind 127.0.0.2", "Allow 127.0.0.1", "MaxClients 100" }
  if options and options.user then
    lines[#lines + 1] = ("BasicAuth %s %s"):format(options.user, options.password)
  end
  local folder <close> = scratch.folder({ conf = table.concat(lines, "\n") .. "\n" })
  return start("tinyproxy", { "-d", "-c", folder:at("conf") }, port)
end

local TLS <const> = [[
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root root;
daemon off;
master_process off;
pid FOLDER/tls.pid;
error_log stderr;
events { worker_connections 128; }
stream {
  server {
    listen 127.0.0.1:PORT ssl;
    ssl_certificate FOLDER/certificate.pem;
    ssl_certificate_key FOLDER/key.pem;
    proxy_pass PLACE;
  }
}
]]

function proxies.tls(place, folder)
  local port = free_port()
  local values = { FOLDER = folder.path, PORT = port, PLACE = place }
  folder:write("tls.conf", (TLS:gsub("%f[%w]%u%u+%f[%W]", values)))
  return start("/usr/sbin/nginx", { "-p", folder.path, "-e", "stderr", "-c", folder:at("tls.conf") }, port)
end

-- ── our own ──

-- Passes on what comes from each to the other, until one of them ends.
local function join(client, server)
  local function pass(from, to)
    from:read_start(function(_, data)
      if data and not to:is_closing() then
        to:write(data)
      elseif not data then
        for _, each in ipairs({ from, to }) do
          if not each:is_closing() then
            each:close()
          end
        end
      end
    end)
  end
  pass(client, server)
  pass(server, client)
end

--- Connects a client of `proxy`'s (of web.listen, or web.raw) to where it wants to; `granted` and `refused` are what
--- it is told then. `rest` is what it has sent already.
function proxies.connect(proxy, client, address, port, granted, refused, rest)
  local server = uv.new_tcp()
  proxy.clients[server] = true
  client:read_stop()
  assert(server:bind("127.0.0.2", 0))
  server:connect(address, port, function(failure)
    if client:is_closing() then
      return
    end
    client:write(failure and refused or granted)
    if failure then
      client:shutdown(function()
        client:close()
      end)
    else
      server:write(rest or "")
      join(client, server)
    end
  end)
end

-- Version, command, port, address, user; and the name of a host, where the address is 0.0.0.x.
local REQUEST <const> = ">BBI2c4z"

local function read_request(text)
  local version, command, port, address, user, at = string.unpack(REQUEST, text)
  assert(version == 4 and command == 1)
  if address:find("^\0\0\0[^\0]") then
    local name
    name, at = string.unpack("z", text, at)
    return port, address, user, name, text:sub(at)
  end
  return port, address, user, nil, text:sub(at)
end

function proxies.socks4()
  local proxy = web.listen(function(self, client)
    local text = ""
    client:read_start(function(_, data)
      text = text .. (data or "")
      local ok, port, address, user, name, rest = pcall(read_request, text)
      if not data then
        client:close()
      elseif ok then
        local place = table.concat({ address:byte(1, 4) }, ".")
        table.insert(self.requests, ("%s %s:%d"):format(user, name or place, port))
        local answer = string.pack(">I2c4", port, address)
        local known = name == "localhost" and "127.0.0.1" or name or place
        proxies.connect(self, client, known, port, "\0\x5a" .. answer, "\0\x5b" .. answer, rest)
      end
    end)
  end)
  proxy.place = "127.0.0.1:" .. proxy.port
  return proxy
end

return proxies
