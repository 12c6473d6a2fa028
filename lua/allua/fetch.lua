-- allua.fetch(url, options): HTTP as a wait. The exchange itself is host/fetch.c's, on libcurl.
local allua = require("allua")
local core = require("allua.core")
local options = core.load("allua.fetch_options")
local response = core.load("allua.fetch_response")

-- ── one exchange after the other ──

local function remaining(plan, hop)
  if not plan.deadline then
    return nil
  end
  local left = plan.deadline - allua.now()
  if left <= 0 then
    response.fail(hop, "timeout", "the time is over")
  end
  return left
end

local function start(plan, hop, stream)
  return core.fetch({
    url = hop.url,
    secure = hop.secure,
    user = hop.user,
    password = hop.password,
    method = hop.method,
    headers = options.lines(hop, hop.headers),
    body = hop.body,
    parts = hop.parts,
    encodings = not hop.headers["accept-encoding"] and not plan.plain and "" or nil,
    timeout = remaining(plan, hop),
    connect_timeout = plan.connect_timeout,
    proxy = plan.proxy,
    ca_text = plan.ca_text,
    ca_file = plan.ca_file,
    ca_folder = plan.ca_folder,
    insecure = plan.insecure,
    stream = stream,
    limit = stream and plan.stream_limit or plan.limit,
  })
end

local leads_on = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

-- Where a reply leads on to, or nil. What belongs to the first server is not shown to another.
local function next_hop(plan, hop, status, head, count)
  if not leads_on[status] or plan.redirects == false then
    return nil
  end
  local location = response.headers(head).location
  if not location then
    return nil
  elseif count >= plan.redirects then
    response.fail(hop, "redirects", ("more than %d redirects"):format(plan.redirects))
  end
  local ok, found = pcall(options.address, "the redirect", location, hop.url)
  if not ok then
    response.fail(hop, "redirects", found)
  end
  found.method, found.headers = hop.method, hop.headers
  found.user, found.password = hop.user, hop.password
  if found.origin ~= hop.origin then
    found.headers = options.without_secrets(found.headers)
    found.user, found.password = nil, nil
  end
  if status == 303 and hop.method ~= "HEAD" or (status == 301 or status == 302) and hop.method == "POST" then
    found.method = "GET"
    local headers = {}
    for key, entry in pairs(found.headers) do
      headers[key] = not key:find("^content%-") and entry or nil
    end
    found.headers = headers
  else
    found.body, found.parts, found.type = hop.body, hop.parts, hop.type
  end
  return found
end

-- The whole of the last reply: hop, status, head, content type, body.
local function exchange(plan)
  local hop, count = plan, 0
  while true do
    local transfer <close> = start(plan, hop, false)
    local status, head, content_type, body = transfer:finish()
    if not status then
      response.fail(hop, head, content_type)
    end
    local following = next_hop(plan, hop, status, head, count)
    if not following then
      return hop, status, head, content_type, body
    end
    hop, count = following, count + 1
  end
end

-- Its head: hop, transfer, status, head, content type.
local function open(plan)
  local hop, count = plan, 0
  while true do
    local transfer = start(plan, hop, true)
    local status, head, content_type = transfer:head()
    if not status then
      response.fail(hop, head, content_type)
    end
    local following = next_hop(plan, hop, status, head, count)
    if not following then
      return hop, transfer, status, head, content_type
    end
    transfer:finish(65536) -- so that the connection can be used again; a longer one is dropped
    hop, count = following, count + 1
  end
end

-- ── again ──

local idempotent = { GET = true, HEAD = true, OPTIONS = true, PUT = true, DELETE = true, TRACE = true }
local passing = {
  -- statuses and codes of what may go better the next time
  [408] = true,
  [425] = true,
  [429] = true,
  [500] = true,
  [502] = true,
  [503] = true,
  [504] = true,
  resolve = true,
  connect = true,
  timeout = true,
  closed = true,
  proxy = true,
}

-- Seconds that the server asks for, or nil.
local function retry_after(err)
  local asked = err.headers and err.headers["retry-after"]
  if not asked then
    return nil
  end
  local date = not tonumber(asked) and core.fetch_date(asked)
  return math.max(0, tonumber(asked) or date and date - os.time() or 0)
end

-- Runs fn, again and again where the plan says so. `delivered` tells whether something of a reply is
-- with the user already, who would get it twice.
local function persistently(plan, fn)
  local retry = plan.retry
  if not retry then
    return fn()
  end
  local settings = {}
  for name, value in pairs(retry) do
    settings[name] = value
  end
  function settings.when(err, attempt)
    if not allua.is_error(err, "FetchError") or plan.delivered then
      return false
    end
    if retry.when then
      if not retry.when(err, attempt) then
        return false
      end
    elseif not idempotent[plan.method] or not passing[err.status or err.code] then
      return false
    end
    local pause = retry_after(err)
    local over = plan.deadline and allua.now() + (pause or 0) >= plan.deadline
    if over or pause and pause > (retry.max_delay or 30) then
      return false
    elseif pause then
      allua.sleep(pause)
    end
    return true
  end
  return allua.retry(fn, settings)
end

-- Runs fn until it ends, or the signal is aborted.
local function under(signal, fn)
  if not signal then
    return fn()
  end
  return allua.all({ fn }, { signal = signal })[1]
end

-- ── what comes, and goes on to somebody ──

local function total_of(head)
  local headers = response.headers(head)
  if headers["content-encoding"] then
    return nil -- the length is that of the compressed body
  end
  return math.tointeger(tonumber(headers["content-length"]))
end

-- A function that counts chunks and reports them, or nil.
local function progress_of(plan, head)
  if not plan.on_progress then
    return nil
  end
  local received, total = 0, total_of(head)
  return function(chunk)
    received = received + #chunk
    plan.on_progress(received, total)
  end
end

local part = {
  __close = function(self)
    if io.type(self.file) == "file" then
      self.file:close()
    end
    if self.unfinished then
      os.remove(self.unfinished)
    end
  end,
}

local function written(file, path, chunk)
  local ok, problem = file:write(chunk)
  if not ok then
    error(("fetch: cannot write %s: %s"):format(path, problem), 0)
  end
end

-- A file is there when all of it is: until then it has another name.
local function save(path, chunks)
  local name = path .. ".part"
  local file, problem = io.open(name, "wb")
  if not file then
    error("fetch: cannot write " .. problem, 0)
  end
  local guard <close> = setmetatable({ file = file, unfinished = name }, part)
  local received = 0
  for chunk in chunks do
    written(file, path, chunk)
    received = received + #chunk
  end
  local ok
  ok, problem = file:close()
  if ok then
    ok, problem = os.rename(name, path)
  end
  if not ok then
    error(("fetch: cannot write %s: %s"):format(path, problem), 0)
  end
  guard.unfinished = nil
  return received
end

local function pass_on(plan, chunks)
  local received = 0
  for chunk in chunks do
    plan.delivered = true
    received = received + #chunk
    plan.to(chunk)
  end
  return received
end

local function streamed(plan)
  local hop, transfer, status, head, content_type = open(plan)
  local dropped <close> = transfer -- luacheck: ignore
  if status >= 400 then
    local _, _, _, body = transfer:finish(plan.limit)
    response.refused(hop, status, head, content_type, body or "")
  end
  local reply = response.new(hop, transfer, status, head, plan.limit)
  reply.progress = progress_of(plan, head)
  if not plan.to then
    local pieces = {}
    for chunk in reply:chunks() do
      pieces[#pieces + 1] = chunk
    end
    return response.decode(hop, status, head, content_type, table.concat(pieces))
  end
  local chunks = reply:chunks()
  if type(plan.to) == "string" then
    return save(plan.to, chunks)
  end
  return pass_on(plan, chunks)
end

local function whole(plan)
  local hop, status, head, content_type, body = exchange(plan)
  if status >= 400 then
    response.refused(hop, status, head, content_type, body)
  end
  return response.decode(hop, status, head, content_type, body)
end

-- ── what users call ──

-- For mistakes in the call: raised where the caller stands.
local function planned(what, url, given, defaults)
  local ok, plan = pcall(options.plan, what, url, given or {}, defaults)
  if not ok then
    error(plan, 3)
  end
  return plan
end

local function raw(plan)
  local hop, transfer, status, head = open(plan)
  local reply = response.new(hop, transfer, status, head, plan.limit)
  reply.progress = progress_of(plan, head)
  return reply
end

local make

local function methods_for(defaults)
  local self = {}

  function self.raw(url, given)
    local plan = planned("fetch.raw", url, given, defaults)
    if plan.to then
      error('fetch.raw: option "to" is for fetch: a response has chunks()', 2)
    end
    return under(plan.signal, function()
      return persistently(plan, function()
        return raw(plan)
      end)
    end)
  end

  function self.with(more)
    local ok, problem = pcall(options.check, "fetch.with", more)
    if not ok then
      error(problem, 2)
    end
    return make(options.merge(defaults, more))
  end

  function self.download(url, path, given)
    if type(path) ~= "string" then
      error(("fetch.download: expected the path of a file (got %s)"):format(type(path)), 2)
    end
    local plan = planned("fetch.download", url, given, defaults)
    if plan.to then
      error('fetch.download: option "to" is for fetch: the path is the second argument', 2)
    end
    local download = core.load("allua.fetch_download")
    return under(plan.signal, function()
      return persistently(plan, function()
        return download(plan, path, open)
      end)
    end)
  end

  return self
end

function make(defaults)
  return setmetatable(methods_for(defaults), {
    __call = function(_, url, given)
      local plan = planned("fetch", url, given, defaults)
      local once = (plan.to or plan.on_progress) and streamed or whole
      if not plan.signal and not plan.retry then
        return once(plan)
      end
      return under(plan.signal, function()
        return persistently(plan, function()
          return once(plan)
        end)
      end)
    end,
    __name = "allua.fetch",
  })
end

return make({})
