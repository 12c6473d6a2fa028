-- A file that is written: it is there when it is complete, and not otherwise.
local core = require("allua.core")
local in_thread = core.load("allua.serve_thread")
local uv = require("luv")

local open, write, rename = in_thread(uv.fs_open), in_thread(uv.fs_write), in_thread(uv.fs_rename)
local MODE = tonumber("666", 8)

local output = {}

local File = {}
File.__index = File

--- A file beside that path, under a name of its own until it is finished.
function output.open(path)
  if type(path) ~= "string" or path == "" or path:find("\0", 1, true) then
    error(
      "save: expected a path (got " .. (type(path) == "string" and "one with a NUL, or none" or type(path)) .. ")",
      3
    )
  end
  local part = ("%s.%x.part"):format(path, uv.hrtime())
  local file = setmetatable({ path = path, part = part, length = 0 }, File)
  file.fd = open(part, "wx", MODE)
  return file
end

function File:write(data)
  while #data > 0 do
    local written = write(self.fd, data, self.length)
    self.length = self.length + written
    data = data:sub(written + 1)
  end
end

function File:finish()
  rename(self.part, self.path)
  self.part = nil
end

function File:__close()
  uv.fs_close(self.fd)
  if self.part then
    uv.fs_unlink(self.part)
  end
end

return output
