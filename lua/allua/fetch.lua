-- allua.fetch(url, options): HTTP as a wait. The exchange itself is host/fetch.c's, on libcurl.
local allua = require("allua")
local core = require("allua.core")
local options = core.load("allua.fetch_options")
local prepared = core.load("allua.fetch_prepared")
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

-- What libcurl is asked for.
local function request_of(plan, hop, stream)
  return {
    url = hop.url,
    secure = hop.secure,
    user = hop.user,
    password = hop.password,
    method = hop.method,
    headers = options.lines(hop, hop.headers),
    agent = not hop.headers["user-agent"] and "allua/" .. allua.version or nil,
    body = hop.body,
    parts = hop.parts,
    encodings = not hop.headers["accept-encoding"] and not plan.plain,
    connect_timeout = plan.connect_timeout,
    proxy = plan.proxy,
    ca_text = plan.ca_text,
    ca_file = plan.ca_file,
    ca_folder = plan.ca_folder,
    insecure = plan.insecure,
    stream = stream,
    limit = stream and plan.stream_limit or plan.limit,
  }
end

local function start(plan, hop, stream)
  local request = request_of(plan, hop, stream)
  request.timeout = remaining(plan, hop)
  return core.fetch(request)
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

-- The whole of the last reply: hop, status, head, content type, body. What the first one was may be known.
local function exchange(plan, status, head, content_type, body)
  local hop, count = plan, 0
  while true do
    if not status then
      local transfer <close> = start(plan, hop, false)
      status, head, content_type, body = transfer:finish()
      if not status then
        response.fail(hop, head, content_type)
      end
    end
    local following = next_hop(plan, hop, status, head, count)
    if not following then
      return hop, status, head, content_type, body
    end
    hop, count, status = following, count + 1, nil
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
    local ok, following = pcall(next_hop, plan, hop, status, head, count)
    if not ok then
      transfer:close()
      error(following, 0)
    elseif not following then
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
  local seconds = asked:find("^[%d.]+$") and tonumber(asked)
  local date = not seconds and core.fetch_date(asked)
  return math.max(0, seconds or date and date - os.time() or 0)
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
  if not plan.to then
    plan.stream_limit = plan.limit -- it is all kept
  end
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

local function whole(plan, ...)
  local hop, status, head, content_type, body = exchange(plan, ...)
  if status >= 400 then
    response.refused(hop, status, head, content_type, body)
  end
  return response.decode(hop, status, head, content_type, body)
end

local function once(plan)
  return ((plan.to or plan.on_progress) and streamed or whole)(plan)
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
  reply.progress, reply.signal = progress_of(plan, head), plan.signal
  return reply
end

-- Calls fn(...), on the trace where there is one; the query of a URL is nobody's business.
local function traced(plan, fn, ...)
  if not core.tracing then
    return fn(...)
  end
  local seen = { method = plan.method, url = plan.url:gsub("[?#].*", "") }
  return core.load("allua.trace").operation("io", "fetch", seen, fn, ...)
end

-- The same request once more, by what is prepared for it.
local function again(plan)
  local deadline = plan.timeout and allua.now() + plan.timeout
  local value, status, head, content_type, body = plan.prepared:exchange(plan.timeout)
  if status == nil then
    return value
  elseif not status then
    response.fail(plan, head, content_type)
  end
  local own = {}
  for name, set in pairs(plan) do
    own[name] = set
  end
  own.deadline = deadline
  return whole(own, status, head, content_type, body)
end

-- The same, or something else of that server, within its deadline.
local function in_time(plan)
  local left = remaining(plan, plan)
  local value, status, head, content_type, body = plan.prepared:exchange(left, plan.target, plan.lines, plan.body)
  if status == nil then
    return value
  elseif status == true then
    return whole(plan)
  elseif not status then
    response.fail(plan, head, content_type)
  end
  return whole(plan, status, head, content_type, body)
end

-- Calls fn(plan), as often as that takes.
local function perform(plan, fn)
  if not plan.signal and not plan.retry then
    return fn(plan)
  end
  return response.under(plan.signal, function()
    return persistently(plan, function()
      return fn(plan)
    end)
  end)
end

local make

local function methods_for(defaults)
  local self = {}

  function self.raw(url, given)
    local plan = planned("fetch.raw", url, given, defaults)
    if plan.to then
      error('fetch.raw: option "to" is for fetch: a response has chunks()', 2)
    end
    return perform(plan, function()
      return traced(plan, raw, plan)
    end)
  end

  function self.with(more)
    local ok, problem = pcall(options.check, "fetch.with", more)
    if not ok then
      error(problem, 2)
    end
    return make(options.frozen(options.merge(defaults, more)))
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
    return perform(plan, function()
      return traced(plan, download, plan, path, open)
    end)
  end

  return self
end

function make(defaults)
  local ready = prepared.new(defaults, request_of)
  return setmetatable(methods_for(defaults), {
    __call = function(_, url, given)
      local plan = given == nil and ready.bare(url)
      if core.tracing then
        plan = planned("fetch", url, given, defaults)
        return perform(plan, function()
          return traced(plan, once, plan)
        end)
      elseif plan then
        return again(plan)
      end
      local ok
      ok, plan = pcall(ready.find, "fetch", url, given)
      if not ok then
        error(plan, 2)
      elseif plan then
        return perform(plan, in_time)
      end
      plan = planned("fetch", url, given, defaults)
      return perform(plan, once)
    end,
    __name = "allua.fetch",
  })
end

return make({})
