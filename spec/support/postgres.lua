-- A PostgreSQL server of one's own, on loopback, with a data folder that goes with it.
--
--   local server <close> = postgres.start()
--   server.url; server:stop(), server:start()
--   server:use_tls(): from then on only TLS, to localhost, with passwords; server.ca, server.other_ca
--
-- The server refuses to run as root: as root it is run as the user that Debian's package makes.

local allua = require("allua")
local free_port = require("spec.support.port")
local scratch = require("spec.support.scratch")
local uv = require("luv")

local postgres = {}

local Server = {}
Server.__index = Server

local function run(command)
  local done = allua.promise()
  local output, text = uv.new_pipe(), {}
  local handle
  handle = assert(uv.spawn("/bin/sh", { args = { "-c", command }, stdio = { nil, output } }, function(code)
    handle:close()
    done:resolve(code)
  end))
  local read = allua.promise()
  output:read_start(function(_, data)
    text[#text + 1] = data
    if not data then
      output:close(function()
        read:resolve()
      end)
    end
  end)
  local code = done:await()
  read:await()
  return code == 0, table.concat(text)
end

local bin

-- Where the newest version's programs are.
local function programs()
  if not bin then
    local ok, found = run("ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1")
    bin = assert(ok and found:match("%S+"), "PostgreSQL is not installed: make deps-test")
  end
  return bin
end

local function as_owner(command)
  if uv.getuid() == 0 then
    return "su postgres -c '" .. command .. "'"
  end
  return command
end

local function check(ok, output)
  if not ok then
    error("PostgreSQL: " .. output, 0)
  end
end

function Server:start()
  local options = ("-p %d -k %s -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=40"):format(
    self.port,
    self.path
  )
  check(
    run(
      as_owner(
        ('%s/pg_ctl -D %s/data -l %s/log -o "%s" -w start >/dev/null 2>&1'):format(
          programs(),
          self.path,
          self.path,
          options
        )
      )
    )
  )
end

function Server:stop(mode)
  check(
    run(as_owner(("%s/pg_ctl -D %s/data -m %s -w stop >/dev/null 2>&1"):format(programs(), self.path, mode or "fast")))
  )
end

-- Makes an authority NAME.pem, and with it a certificate for localhost, server-NAME.pem.
local CERTIFY = [[
  cd %s && umask 077 &&
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=%s \
    -keyout %s.key -out %s.pem &&
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
    -keyout server-%s.key -out server-%s.csr &&
  echo subjectAltName=DNS:localhost >names &&
  openssl x509 -req -in server-%s.csr -CA %s.pem -CAkey %s.key -CAcreateserial -days 2 -extfile names \
    -out server-%s.pem]]

function Server:use_tls()
  for _, name in ipairs({ "ca", "other" }) do
    check(run("( " .. CERTIFY:gsub("%%s", name):gsub("cd " .. name, "cd " .. self.path, 1) .. " ) 2>&1"))
  end
  self.ca, self.other_ca = self.path .. "/ca.pem", self.path .. "/other.pem"
  local settings = "ssl = on\nssl_cert_file = '%s/server-ca.pem'\nssl_key_file = '%s/server-ca.key'\n"
  self.folder:write("tls.conf", settings:gsub("%%s", self.path))
  self.folder:write("hba.conf", "local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
  check(
    run(
      ("cd %s && cat tls.conf >>data/postgresql.conf && cat hba.conf >data/pg_hba.conf"):format(self.path)
        .. (uv.getuid() == 0 and (" && chown postgres %s/*.pem %s/*.key"):format(self.path, self.path) or "")
    )
  )
  self:stop()
  self:start()
end

function Server:__close()
  allua.shield(function()
    pcall(self.stop, self, "immediate")
    self.folder:__close()
  end)
end

function postgres.start()
  local folder = scratch.folder()
  local path = folder:at("")
  path = path:gsub("/$", "")
  local server = setmetatable({ folder = folder, path = path, port = free_port() }, Server)
  if uv.getuid() == 0 then
    check(run("chown postgres " .. path))
  end
  check(run(as_owner(("%s/initdb -D %s/data -A trust -U postgres -N >/dev/null 2>&1"):format(programs(), path))))
  server:start()
  server.url = ("postgres://postgres@127.0.0.1:%d/postgres"):format(server.port)
  return server
end

return postgres
