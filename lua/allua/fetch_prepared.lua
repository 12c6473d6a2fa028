-- What fetch keeps ready, so that not all of a request is made anew: for URLs that are fetched again, and for servers
-- of which different things are asked.
local allua = require("allua")
local core = require("allua.core")
local memo = core.load("allua.memo")
local options = core.load("allua.fetch_options")

local prepared = {}

local MOST_READY = 64 -- of either kind
local LONGEST_BODY = 16384 -- which is copied
local MOST_SEEN = 1024

-- Options that say nothing of the request itself.
local light = { timeout = true, retry = true, signal = true }
-- Options in which requests may differ.
local varying =
  { query = true, headers = true, body = true, method = true, timeout = true, retry = true, signal = true }

local function has_only(given, names)
  for name in pairs(given) do
    if not names[name] then
      return false
    end
  end
  return true
end

local function own_time(plan, given)
  plan.timeout = given.timeout or plan.timeout
  plan.deadline = plan.timeout and allua.now() + plan.timeout
  plan.signal = given.signal or plan.signal
  if given.retry ~= nil then
    plan.retry = options.retry(given.retry) or false
  end
  return plan
end

-- For a URL: nothing is checked, parsed or set again.
local function exact(defaults, request_of)
  local ready = memo.new(MOST_READY) -- URL → plan, of simple fetches; false of others
  local find = {}

  -- One that may be used as it is, where nothing is given.
  function find.bare(url)
    local plan = ready[url]
    return plan and plan.bare and plan
  end

  function find.own(what, url, given)
    local plan = ready[url]
    if plan == nil then
      plan = options.plan(what, url, {}, defaults)
      local simple = not (plan.body or plan.parts or plan.to or plan.on_progress)
      plan.prepared = simple and core.fetch_prepare(request_of(plan, plan, false))
      plan.bare = not plan.retry and not plan.signal
      plan.meta = { __index = plan }
      ready[url] = plan.prepared and plan
    end
    return plan and plan.prepared and own_time(setmetatable({}, plan.meta), given)
  end

  return find
end

-- For a server, where requests differ in path, query, headers and body alone.
local function varied(defaults, request_of)
  local bases, count = {}, 0 -- by server, then by method, and whether there is a body

  local function base_for(what, address, plan)
    local key, of_server = plan.body and "+" .. plan.method or plan.method, bases[address.origin]
    local base = of_server and of_server[key]
    if base then
      return base
    end
    base = {
      url = address.url:match("^%a+://[^/]*/"),
      origin = address.origin,
      secure = address.secure,
      method = plan.method,
    }
    options.plan_for_server(what, base, defaults)
    local request = request_of(base, base, false)
    base.lines, request.headers = request.headers, {}
    request.custom = plan.body ~= nil
    base.prepared = core.fetch_prepare(request)
    base.meta = { __index = base }
    if count == MOST_READY then
      bases, count, of_server = {}, 0, nil
    end
    of_server = of_server or {}
    bases[address.origin], count = of_server, count + 1
    of_server[key] = base
    return base
  end

  return function(what, url, given)
    local address = options.known_address(what, url, defaults.base_url)
    local plan = {
      method = options.method(what, given.method or defaults.method, given.body),
      -- Room for what comes, so that the table does not grow for each.
      body = nil,
      type = nil,
      url = nil,
      target = nil,
      headers = nil,
      lines = nil,
      deadline = nil,
    }
    options.plan_body(what, plan, given)
    if address.user or plan.body and #plan.body > LONGEST_BODY then
      return nil
    end
    local base = base_for(what, address, plan)
    local full = options.url_with_query(what, address.url, given.query, defaults.query)
    plan.url, plan.target = full, full:sub(#base.url)
    if given.headers then
      plan.headers = options.headers(what, given.headers, base.headers)
      local own, usual = plan.headers, base.headers
      if own["user-agent"] ~= usual["user-agent"] or own["accept-encoding"] ~= usual["accept-encoding"] then
        return nil -- these are prepared
      end
    end
    if given.headers or plan.body then
      plan.lines = options.lines(plan, plan.headers or base.headers)
    end
    return own_time(setmetatable(plan, base.meta), given)
  end
end

-- What is kept ready with these defaults: bare (url) → a plan, where that URL is fetched again and nothing is given;
-- find (what, url [, given]) → a plan of this call's own, or nil where all is to be made anew. Raises strings.
function prepared.new(defaults, request_of)
  local always = exact(defaults, request_of)
  local vary = not (defaults.body or defaults.form or defaults.to or defaults.on_progress or defaults.proxy)
    and varied(defaults, request_of)
  local seen = memo.new(MOST_SEEN)

  local function is_new(url)
    if seen[url] then
      return false
    end
    seen[url] = true
    return true
  end

  return {
    bare = always.bare,
    find = function(what, url, given)
      given = given == nil and {} or given
      options.check(what, given)
      if has_only(given, light) and not (vary and type(url) == "string" and is_new(url)) then
        return always.own(what, url, given)
      end
      return vary and has_only(given, varying) and vary(what, url, given) or nil
    end,
  }
end

return prepared
