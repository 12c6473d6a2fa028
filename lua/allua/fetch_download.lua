-- fetch.download: a file that goes on where it stopped, with a progress bar on a terminal.
local allua = require("allua")
local core = require("allua.core")
local response = core.load("allua.fetch_response")

local ok_luv, uv = pcall(require, "luv")

-- The size of what is there, and when it was written last.
local function existing(path)
  local file = io.open(path, "rb")
  if not file then
    return 0
  end
  local size = file:seek("end") or 0
  file:close()
  local stat = ok_luv and uv.fs_stat(path)
  return size, stat and stat.mtime.sec
end

local units = { "B", "kB", "MB", "GB", "TB" }

local function human(bytes)
  local unit = 1
  while bytes >= 1000 and unit < #units do
    bytes, unit = bytes / 1000, unit + 1
  end
  return (unit == 1 and "%d %s" or "%.1f %s"):format(bytes, units[unit])
end

local width = 30

local function draw(name, received, total, speed)
  local line
  if total and total > 0 then
    local filled = received * width // total
    line = ("%s [%s%s] %3d%%  %s of %s"):format(
      name,
      ("#"):rep(filled),
      ("."):rep(width - filled),
      received * 100 // total,
      human(received),
      human(total)
    )
  else
    line = name .. "  " .. human(received)
  end
  io.stderr:write("\r", line, "  ", human(speed), "/s\27[K")
  io.stderr:flush()
end

local Bar = {}

function Bar:__close()
  if self.drawn then
    io.stderr:write("\n")
  end
end

-- What shows how far it is: the user's function, a bar on a terminal, or nothing.
local function shower(plan, path, begin)
  if plan.on_progress then
    return function(received, total)
      plan.on_progress(received, total)
    end
  elseif not ok_luv or uv.guess_handle(2) ~= "tty" then
    return function() end
  end
  local bar = setmetatable({}, Bar)
  local name, started, last = path:match("[^/]*$"):gsub("%c", "?"), allua.now(), 0
  return function(received, total)
    local now = allua.now()
    if now - last >= 0.1 or received == total then
      last, bar.drawn = now, true
      draw(name, received, total, (received - begin) / math.max(now - started, 0.001))
    end
  end,
    bar
end

-- What the server says of the range: its first byte, and the whole's length.
local function range_of(headers)
  local first, total = (headers["content-range"] or ""):match("^bytes (%d+)%-%d+/([%d*]+)$")
  return math.tointeger(tonumber(first)), math.tointeger(tonumber(total))
end

-- Whether the reply goes on with what is there.
local function continues(headers, size, written_at)
  local changed = headers["last-modified"] and core.fetch_date(headers["last-modified"])
  return range_of(headers) == size and not (changed and written_at and changed > written_at)
end

local Closing = {
  __close = function(self)
    self[1]:close()
  end,
}

local function receive(plan, path, hop, transfer, status, head, begin)
  local file, problem = io.open(path, begin > 0 and "ab" or "wb")
  if not file then
    error("fetch.download: cannot write " .. problem, 0)
  end
  local guard <close> = setmetatable({ file }, Closing)
  local reply = response.new(hop, transfer, status, head, plan.limit)
  local _, total = range_of(reply.headers)
  total = total or math.tointeger(tonumber(reply.headers["content-length"]))
  local show, bar = shower(plan, path, begin)
  local line <close> = bar -- luacheck: ignore
  local received = begin
  for chunk in reply:chunks() do
    local ok
    ok, problem = file:write(chunk)
    if not ok then
      error(("fetch.download: cannot write %s: %s"):format(path, problem), 0)
    end
    received = received + #chunk
    show(received, total)
  end
  guard[1]:flush()
  return received
end

-- Gives the size of the file.
return function(plan, path, open)
  plan.plain = true -- a range of a compressed body would be of no use
  local size, written_at = existing(path)
  while true do
    plan.headers.range = size > 0 and { "Range", ("bytes=%d-"):format(size) } or nil
    local hop, transfer, status, head, content_type = open(plan)
    local dropped <close> = transfer -- luacheck: ignore
    local headers = response.headers(head)
    if size > 0 and status == 416 and tonumber((headers["content-range"] or ""):match("^bytes %*/(%d+)$")) == size then
      return size -- all of it is there
    elseif size > 0 and (status == 416 or status == 206 and not continues(headers, size, written_at)) then
      size = 0 -- it is another file now
    elseif status >= 400 then
      local _, _, _, body = transfer:finish(plan.limit)
      response.refused(hop, status, head, content_type, body or "")
    else
      return receive(plan, path, hop, transfer, status, head, status == 206 and size or 0)
    end
  end
end
