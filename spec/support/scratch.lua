-- A folder of one spec's own, gone when the spec ends.
--
--   local folder <close> = scratch.folder({ ["app.lua"] = "print(1)", ["lib/x.lua"] = "return 2" })
--   folder.path, folder:at("app.lua")

local uv = require("luv")

local scratch = {}

local Folder = {}
Folder.__index = Folder

local function remove(path)
  local entries = uv.fs_scandir(path)
  local name, kind = uv.fs_scandir_next(entries)
  while name do
    local entry = path .. "/" .. name
    if kind == "directory" then
      remove(entry)
    else
      uv.fs_unlink(entry)
    end
    name, kind = uv.fs_scandir_next(entries)
  end
  uv.fs_rmdir(path)
end

function Folder:__close()
  remove(self.path)
end

function Folder:at(name)
  return self.path .. "/" .. name
end

function Folder:write(name, text)
  local parent = name:match("^(.*)/")
  if parent then
    uv.fs_mkdir(self:at(parent), tonumber("700", 8))
  end
  local file <close> = assert(io.open(self:at(name), "wb"))
  file:write(text)
end

-- All of a file.
function scratch.content(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

function scratch.folder(files)
  local folder = setmetatable({ path = assert(uv.fs_mkdtemp(uv.os_tmpdir() .. "/allua-spec-XXXXXX")) }, Folder)
  for name, text in pairs(files or {}) do
    folder:write(name, text)
  end
  return folder
end

return scratch
