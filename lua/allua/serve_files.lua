-- Files as replies: one (event:file), or those of a folder (serve.files).
local allua = require("allua")
local core = require("allua.core")
local dates = core.load("allua.serve_date")
local in_thread = core.load("allua.serve_thread")
local uv = require("luv")

local TYPES = {
  avif = "image/avif",
  bin = "application/octet-stream",
  css = "text/css; charset=utf-8",
  csv = "text/csv; charset=utf-8",
  gif = "image/gif",
  gz = "application/gzip",
  htm = "text/html; charset=utf-8",
  html = "text/html; charset=utf-8",
  ico = "image/x-icon",
  jpeg = "image/jpeg",
  jpg = "image/jpeg",
  js = "text/javascript; charset=utf-8",
  json = "application/json",
  lua = "text/plain; charset=utf-8",
  map = "application/json",
  md = "text/markdown; charset=utf-8",
  mjs = "text/javascript; charset=utf-8",
  mp3 = "audio/mpeg",
  mp4 = "video/mp4",
  ogg = "audio/ogg",
  otf = "font/otf",
  pdf = "application/pdf",
  png = "image/png",
  svg = "image/svg+xml",
  tar = "application/x-tar",
  ttf = "font/ttf",
  txt = "text/plain; charset=utf-8",
  wasm = "application/wasm",
  wav = "audio/wav",
  webm = "video/webm",
  webmanifest = "application/manifest+json",
  webp = "image/webp",
  woff = "font/woff",
  woff2 = "font/woff2",
  xml = "application/xml",
  zip = "application/zip",
}
local PIECE = 65536 -- bytes read at once
-- What may be a pipe, or a device, is not waited for.
local FLAGS = uv.constants.O_RDONLY | uv.constants.O_NONBLOCK
local OPTIONS = { "type" }
-- The failures of open that are no failures of the server.
local MISSING = { ENOENT = true, ENOTDIR = true, ENAMETOOLONG = true, ELOOP = true, ENXIO = true }
local FORBIDDEN = { EACCES = true, EPERM = true }

local files = {}

local open = in_thread(uv.fs_open)

-- An open file, closed after the reply, or by the collector where there is none.
local File = {}
File.__index = File

function File:close()
  local fd = self.fd
  self.fd = nil
  if fd then
    uv.fs_close(fd)
  end
end

File.__close = File.close
File.__gc = File.close

local function not_found()
  allua.http_error(404, "not found")
end

-- Where an open file really is, every link on the way to it followed. No one can put another in its place.
-- The kernel has it at hand: no thread is needed.
local function place(fd)
  return assert(uv.fs_readlink("/proc/self/fd/" .. fd))
end

-- `inside`: a folder's path with a slash at its end, or nil; what is elsewhere is not found.
local function open_at(path, inside)
  if path:find("\0", 1, true) then
    not_found()
  end
  local ok, fd = pcall(open, path, FLAGS, 0)
  if not ok then
    local code = type(fd) == "string" and fd:match("uv%.[%w_]+: (%u+)")
    if MISSING[code] then
      not_found()
    elseif FORBIDDEN[code] then
      allua.http_error(403, "forbidden")
    end
    error(fd, 0)
  end
  local file = setmetatable({ fd = fd, path = path }, File)
  if inside and (place(fd) .. "/"):sub(1, #inside) ~= inside then
    file:close()
    not_found()
  end
  file.about = assert(uv.fs_fstat(fd))
  return file
end

local function check(options)
  if type(options) ~= "table" then
    error("file: expected a table of options (got " .. type(options) .. ")", 4)
  end
  for name in pairs(options) do
    if name ~= "type" then
      local hint = type(name) == "string" and core.near(name, OPTIONS) or ""
      error(('file: unknown option "%s"%s'):format(tostring(name), hint), 4)
    end
  end
  if type(options.type or "") ~= "string" then
    error('file: option "type" must be a string (got ' .. type(options.type) .. ")", 4)
  elseif (options.type or ""):find("%c") then
    error('file: option "type" holds a control character', 4)
  end
end

--- The file that a reply is to be; raises 404 where there is none: what is no file is none.
function files.open(path, options)
  if type(path) ~= "string" then
    error("file: expected a path (got " .. type(path) .. ")", 3)
  end
  check(options)
  local file = open_at(path)
  if file.about.type ~= "file" then
    file:close()
    not_found()
  end
  file.type = options.type
  return file
end

-- Weak tags are the same as strong ones only where that is enough.
local function has_tag(list, tag, weak)
  if list:find("^%s*%*%s*$") then
    return true
  end
  local at = 1
  while true do
    local first = list:find('"', at, true)
    local last = first and list:find('"', first + 1, true)
    if not last then
      return false
    elseif list:sub(first, last) == tag and (weak or list:sub(first - 2, first - 1) ~= "W/") then
      return true
    end
    at = last + 1
  end
end

-- By the conditions of RFC 9110, 13.2.2: 412, 304, or nothing.
local function condition(headers, tag, modified)
  local match, since = headers["if-match"], headers["if-unmodified-since"]
  if match then
    if not has_tag(match, tag) then
      return 412
    end
  elseif since and modified > (dates.parse(since) or math.huge) then
    return 412
  end
  local none, changed = headers["if-none-match"], headers["if-modified-since"]
  if none then
    return has_tag(none, tag, true) and 304 or nil
  elseif changed and modified <= (dates.parse(changed) or -math.huge) then
    return 304
  end
end

-- The first and the last byte that are asked for, counted from 0; or false: there are none of those.
local function range(headers, size, tag, modified)
  local asked, unless = headers.range, headers["if-range"]
  if not asked or unless and unless ~= tag and dates.parse(unless) ~= modified then
    return nil
  end
  local first, last = asked:match("^bytes=%s*(%d*)%-(%d*)%s*$")
  if not first or first == "" and last == "" or #first > 15 or #last > 15 then
    return nil -- several ranges, or none that we know: all of it is an answer
  elseif first == "" then
    first, last = math.max(size - math.tointeger(last), 0), size - 1
  else
    first = math.tointeger(first)
    last = last == "" and size - 1 or math.tointeger(last)
    if last < first and asked:match("%-(%d+)") then
      return nil
    end
    last = math.min(last, size - 1)
  end
  if first > last then
    return false
  end
  return first, last
end

local function answer_briefly(event, code)
  if code == 412 then
    allua.http_error(412, "the file has changed")
  end
  event.code = code
  event:send(nil, "")
end

--- Answer an event with an open file, which is closed then. A reply that is no 200 has no conditions.
function files.send(event, file, run_stream)
  local closing <close> = file -- luacheck: ignore
  local size, modified = file.about.size, file.about.mtime.sec
  local tag = ('"%x-%x.%x"'):format(size, modified, file.about.mtime.nsec)
  local first, last = 0, size - 1
  if not event.code then
    event:header("ETag", tag)
    event:header("Last-Modified", dates.format(modified))
    event:header("Accept-Ranges", "bytes")
    local code = condition(event.headers, tag, modified)
    if code then
      return answer_briefly(event, code)
    end
    local from, to = range(event.headers, size, tag, modified)
    if event.method ~= "GET" then
      from = nil
    elseif from == false then
      event:header("Content-Range", ("bytes */%d"):format(size))
      allua.http_error(416, "no such range")
    end
    if from then
      first, last, event.code = from, to, 206
      event:header("Content-Range", ("bytes %d-%d/%d"):format(first, last, size))
    end
  end
  event.content_type = event.content_type
    or file.type
    or TYPES[(file.path:match("%.(%w+)$") or ""):lower()]
    or "application/octet-stream"
  event.streams = function(write)
    local reader = core.file_reader(math.max(1, math.min(PIECE, last - first + 1)))
    while first <= last do
      -- What a thread is reading cannot be taken back, only waited for.
      allua.shield(reader.wait, reader, file.fd, math.min(PIECE, last - first + 1), first)
      local data = assert(reader:take())
      if #data == 0 then
        return -- it has been cut off since
      end
      write(data)
      first = first + #data
    end
  end
  run_stream(event, last - first + 1)
end

-- The parts of a path that leads down and nowhere else, or nil. Names that begin with a dot are not shown.
local function is_clean(path)
  for part in path:gmatch("[^/]+") do
    if part:find("^%.") or part:find("[\\%c]") then
      return false
    end
  end
  return true
end

-- The same with a slash, and one before it: with two it would lead to another host.
local function redirect(event)
  local query = event.target:match("%?.*$") or ""
  return event:redirect("/" .. event.path:match("^/*(.*)$") .. "/" .. query, 301)
end

--- A handler that answers with the files of a folder, for a route that ends with *rest, or with the
--- path itself. A folder's own answer is its index.html.
function files.folder(folder)
  if type(folder) ~= "string" then
    error("serve.files: expected a folder's path (got " .. type(folder) .. ")", 2)
  end
  local about = uv.fs_stat(folder)
  if not about or about.type ~= "directory" then
    error(('serve.files: "%s" is not a folder'):format(folder), 2)
  end
  local root = assert(uv.fs_realpath(folder))
  local inside = root == "/" and "/" or root .. "/"

  return function(event)
    local rest = event.rest or event.path:sub(2)
    if event.method ~= "GET" and event.method ~= "HEAD" then
      event:header("Allow", "GET, HEAD")
      allua.http_error(405, "method not allowed")
    elseif not is_clean(rest) then
      not_found()
    end
    local file, slash = open_at(inside .. rest, inside), event.path:find("/$")
    local is_folder = file.about.type == "directory"
    if is_folder then
      file:close()
      if not slash then
        return redirect(event)
      end
      file = open_at(inside .. rest .. "/index.html", inside)
    end
    if file.about.type ~= "file" or slash and not is_folder then
      file:close()
      not_found()
    end
    event:header("X-Content-Type-Options", "nosniff")
    event.sends = file
    return event
  end
end

return files
