-- What a peer may write into a query, a cookie, a range, a date, a part's head or a reply's head: thousands of
-- hostile ones, made from a seed that a failure tells, and that ALLUA_SPEC_SEED changes. Each is read as a plain
-- reading of its bytes says, or refused in the way that is documented.

local allua = require("allua")
local core = require("allua.core")
local errors = require("spec.support.errors")
local scratch = require("spec.support.scratch")
local server_of = require("spec.support.server")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local fetch = allua.fetch

local dates, forms = core.load("allua.serve_date"), core.load("allua.serve_form")
local events, response = core.load("allua.serve_event"), core.load("allua.fetch_response")
local fetch_options = core.load("allua.fetch_options")

-- ── making them ──

local seed = tonumber(os.getenv("ALLUA_SPEC_SEED")) or 1

local function pick(list)
  return list[math.random(#list)]
end

-- So many pieces of these, or bytes of any kind.
local function mixed(pieces, most)
  local text = {}
  for i = 1, math.random(0, most) do
    text[i] = math.random(12) == 1 and string.char(math.random(0, 255)) or pick(pieces)
  end
  return table.concat(text)
end

-- A text with some bytes lost, changed, doubled or put in.
local function mutated(text, bytes)
  for _ = 1, math.random(0, 3) do
    local at = math.random(0, #text)
    local cut = math.random(0, 2)
    text = text:sub(1, at) .. (math.random(2) == 1 and pick(bytes) or "") .. text:sub(at + 1 + cut)
  end
  return text
end

-- Runs fn(i) so often; what fails tells the seed, by which it fails again.
local function often(count, fn)
  math.randomseed(seed)
  for i = 1, size.of(count) do
    local ok, problem = pcall(fn, i)
    if not ok then
      local words = type(problem) == "table" and problem.message and tostring(problem.message) or tostring(problem)
      error(("ALLUA_SPEC_SEED=%d, case %d: %s"):format(seed, i, words), 0)
    end
  end
end

local function bytes_of(text)
  local list = {}
  for i = 1, #text do
    list[i] = text:sub(i, i)
  end
  return list
end

-- ── plain readings ──

local function split(text, mark)
  local list, from = {}, 1
  while true do
    local at = text:find(mark, from, true)
    list[#list + 1] = text:sub(from, (at or 0) - 1)
    if not at then
      return list
    end
    from = at + 1
  end
end

local function decoded(text)
  local out, at = {}, 1
  while at <= #text do
    local c, hex = text:sub(at, at), tonumber(text:sub(at + 1, at + 2), 16)
    if c == "%" and text:sub(at + 1, at + 2):find("^%x%x$") then
      out[#out + 1], at = string.char(hex), at + 2
    else
      out[#out + 1] = c == "+" and " " or c
    end
    at = at + 1
  end
  return table.concat(out)
end

local function query_of(text)
  local fields = {}
  for _, pair in ipairs(split(text, "&")) do
    if pair ~= "" then
      local at = pair:find("=", 1, true) or #pair + 1
      local name, value = decoded(pair:sub(1, at - 1)), decoded(pair:sub(at + 1))
      fields[name] = fields[name] or {}
      table.insert(fields[name], value)
    end
  end
  for name, list in pairs(fields) do
    fields[name] = list[2] and list or list[1]
  end
  return fields
end

describe("a query", function()
  it("of any bytes is names and values", function()
    often(2000, function()
      local text =
        mixed({ "a", "b", "&", "=", "+", "%", "%41", "%3d", "%26", "%0", "%zz", ";", "[]", "\0", "\255" }, 20)
      assert.same(query_of(text), forms.pairs_of(text))
    end)
  end)

  it("of fetch comes to serve as it was, whatever its bytes", function()
    server_of.with({
      routes = {
        ["/*rest"] = function(event)
          local list = {}
          for name, value in pairs(event.query) do
            list[#list + 1] = { name, value }
          end
          table.sort(list, function(a, b)
            return a[1] < b[1]
          end)
          local text = {}
          for i, pair in ipairs(list) do
            text[i] = type(pair[2]) == "table" and string.pack("s4s4", pair[1], table.concat(pair[2], "\1"))
              or string.pack("s4s4", pair[1], pair[2])
          end
          event:header("Content-Type", "application/octet-stream")
          return table.concat(text)
        end,
      },
    }, function(server)
      often(300, function()
        local query, names = {}, {}
        for _ = 1, math.random(5) do
          local name = mixed({ "a", "B", "&", "=", "+", "%", " ", "#", "?", "/" }, 6)
          if query[name] == nil then
            names[#names + 1] = name
          end
          query[name] = math.random(3) == 1 and { mixed({ "x", "&" }, 4), mixed({ "y", "+" }, 4) }
            or mixed({ "v", "&", "=", "%2", "\0" }, 9)
        end
        table.sort(names)
        local expected = {}
        for i, name in ipairs(names) do
          local value = query[name]
          expected[i] = string.pack("s4s4", name, type(value) == "table" and table.concat(value, "\1") or value)
        end
        assert.equal(table.concat(expected), fetch(server.url, { query = query }))
      end)
    end)
  end)
end)

describe("cookies", function()
  -- The event that a request with this header makes.
  local function cookies_of(text)
    return setmetatable({ headers = { cookie = text } }, events.class).cookies
  end

  local function trimmed(text)
    while text:find("^%s") do
      text = text:sub(2)
    end
    while text:find("%s$") do
      text = text:sub(1, -2)
    end
    return text
  end

  it("of any bytes are names and values, the first of a name", function()
    often(2000, function()
      local text = mixed({ "a", "b", "=", ";", "; ", " ", "\t", '"', ",", "\\", "a=1", "b=" }, 24)
      local expected = {}
      for _, pair in ipairs(split(text, ";")) do
        local at = pair:find("=", 1, true)
        local name = at and trimmed(pair:sub(1, at - 1))
        if name and name ~= "" and not name:find("%s") and not expected[name] then
          local value = trimmed(pair:sub(at + 1))
          local quoted = #value >= 2 and value:sub(1, 1) == '"' and value:sub(-1) == '"'
          expected[name] = quoted and value:sub(2, -2) or value
        end
      end
      assert.same(expected, cookies_of(text))
    end)
  end)

  it("that a handler has set come back as they were, or are refused", function()
    often(2000, function()
      local name, value = mixed({ "a", "-", "_", "!" }, 5), mixed({ "v", "=", "/", ":", "+", "%", "{" }, 12)
      local event = setmetatable({}, events.class)
      local ok, problem = pcall(event.cookie, event, name, value, { secure = math.random(2) == 1 })
      if not ok then
        assert.is_true(errors.says(problem, "holds a character that no cookie may hold"), problem)
        assert.is_truthy(not name:find("^[%w!#$%%&'*+.^_`|~-]+$") or value:find('[%c%s",;\\\127-\255]'))
        return
      end
      local line = event.sent_headers:match("^Set%-Cookie: ([^\r\n;]*);[^\r\n]*\r\n$")
      assert.same({ [name] = value }, cookies_of(line))
    end)
  end)
end)

describe("a date", function()
  local DAYS = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
  local LONG = { "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday" }

  it("of each of HTTP's forms is the same second again", function()
    often(1500, function()
      local time = math.random(0, 253402300799)
      local text = dates.format(time)
      assert.equal(time, dates.parse(text), text)
      local day, month, year, clock = text:match("(%d%d) (%a%a%a) (%d+) (%S+)")
      local weekday = tonumber(os.date("!%w", time)) + 1
      local old = ("%s %s %2d %s %s"):format(DAYS[weekday], month, math.tointeger(tonumber(day)), clock, year)
      assert.equal(time, dates.parse(old), old)
      local near = os.time() + math.random(-40, 40) * 31557600
      local year_now = dates.format(near):match("%a (%d%d%d%d) ")
      text = dates.format(near)
      local short = ("%s, %s-%s-%s %s GMT"):format(
        LONG[tonumber(os.date("!%w", near)) + 1],
        text:match("(%d%d) "),
        text:match("%d (%a%a%a) "),
        year_now:sub(3),
        text:match("%d%d:%d%d:%d%d")
      )
      assert.equal(near, dates.parse(short), short)
    end)
  end)

  it("that is none, or of no day that there is, says nothing", function()
    for _, text in ipairs({
      "Sun, 31 Feb 2021 00:00:00 GMT",
      "Sun, 29 Feb 2021 00:00:00 GMT",
      "Sun, 29 Feb 1900 00:00:00 GMT",
      "Sun, 31 Apr 2021 00:00:00 GMT",
      "Sun, 00 Apr 2021 00:00:00 GMT",
      "Sun Feb 30 00:00:00 2024",
    }) do
      assert.is_nil(dates.parse(text), text)
    end
    assert.equal(951782400, dates.parse("Tue, 29 Feb 2000 00:00:00 GMT"))
    local pieces = bytes_of("0123456789 ,:-GMTSunJanFeb\0\255")
    often(2000, function()
      local text = mutated(dates.format(math.random(0, 253402300799)), pieces)
      local time = dates.parse(text)
      if time then
        assert.equal("integer", math.type(time), text)
        -- What is there is said again: the day, the month and, but for a leap second, the clock.
        local day, month = text:match("^%a+, (%d%d)[ -](%a%a%a)")
        local clock = text:match("%d%d:%d%d:%d%d")
        if day and not clock:find(":60$") then
          assert.equal(
            ("%s %s %s"):format(day, month, clock),
            dates.format(time):gsub("^.-, (%d%d %a%a%a) %d+ ", "%1 "):sub(1, 15)
          )
        end
      end
    end)
  end)
end)

describe("a range", function()
  it("of any bytes gives what it asks for, or all of the file, or 416", function()
    local folder <close> = scratch.folder()
    local text = ("0123456789"):rep(10)
    folder:write("f.txt", text)
    server_of.with({ routes = { ["GET /*path"] = allua.serve.files(folder.path) } }, function(server)
      local numbers = { "0", "1", "9", "99", "100", "101", "007", "999999999999999", "9999999999999999999", "" }
      often(500, function()
        local asked = math.random(4) == 1
            and mixed({ "bytes", "=", "-", "1", "9", ",", " ", "*" }, 8):gsub("[%c\127]", "")
          or ("bytes=%s-%s"):format(pick(numbers), pick(numbers))
        local raw = fetch.raw(server.url .. "/f.txt", { headers = { Range = asked } })
        local first, last = asked:match("^%s*bytes=%s*(%d*)%-(%d*)%s*$")
        local from, to = tonumber(first), tonumber(last)
        if first and #first <= 15 and #last <= 15 and (from or to) and not (from and to and to < from) then
          if not from then
            from, to = math.max(0, 100 - to), 99
          end
          to = math.min(to or 99, 99)
          if from > to then
            assert.same({ 416, "bytes */100" }, { raw.status, raw.headers["content-range"] }, asked)
          else
            local said = ("bytes %d-%d/100"):format(from, to)
            assert.same({ 206, said }, { raw.status, raw.headers["content-range"] }, asked)
            assert.equal(text:sub(from + 1, to + 1), raw.body, asked)
            return
          end
        else
          assert.same({ 200, text }, { raw.status, raw.body }, asked)
        end
        assert.is_string(raw.body)
      end)
    end)
  end)
end)

describe("a multipart form", function()
  -- An error of a client's making is one of these replies; any other is a mistake of ours.
  local function read(kind, body)
    local ok, result = pcall(forms.read, kind, function()
      return body
    end)
    if ok then
      return result
    end
    assert.is_true(allua.is_error(result, "HTTPError"), tostring(result))
    assert.is_true(result.status == 400 or result.status == 413 or result.status == 415, result.message)
  end

  it("of any bytes is read or refused", function()
    local bytes = bytes_of('";=\\ :\r\n-%\0\255abn')
    local good = 'multipart/form-data; boundary="b"'
    often(2000, function()
      local head = 'Content-Disposition: form-data; name="a"; filename="f.txt"\r\nContent-Type: text/x'
      local body = ("--b\r\n%s\r\n\r\nvalue\r\n--b\r\nContent-Disposition: form-data; name=c\r\n\r\n\r\n--b--"):format(
        mutated(head, bytes)
      )
      local fields = read(good, math.random(2) == 1 and body or mutated(body, bytes))
      for name, value in pairs(fields or {}) do
        assert.is_string(name)
        assert.is_true(type(value) == "string" or type(value) == "table")
      end
      read(mutated(good, bytes), body)
      read(mixed({ "multipart/form-data", ";", "boundary", "=", '"', "b", " ", "\\" }, 12), body)
    end)
  end)

  it("of fetch's comes to serve as it was, whatever its names and bytes", function()
    server_of.with({
      routes = {
        ["POST /"] = function(event)
          local parts = {}
          for part in event:parts() do
            parts[#parts + 1] = string.pack("s4s4s4", part.name, part.filename or "", part:body())
          end
          event:header("Content-Type", "application/octet-stream")
          return table.concat(parts)
        end,
      },
    }, function(server)
      often(300, function()
        -- A "%22" is a quote, as browsers write it, and a backslash hides a quote or another one, as Go writes it: no
        -- client tells those from what they are else.
        local function name_of(most)
          local text = mixed({ "a", '"', "\\b", ";", "=", " ", "ä", "'", "name=" }, most)
          text = text:gsub("[%c%%]", "") -- a control character is refused
          return (
            text:gsub("\\+(.?)", function(next_byte)
              return next_byte == "b" and "\\b" or next_byte
            end)
          )
        end
        local name, filename, data = name_of(8), name_of(8) .. "x", mixed({ "\r\n--", "\r", "\n", "-" }, 30)
        local got = fetch(server.url, { form = { [name] = { data = data, name = filename, type = "text/x" } } })
        assert.equal(string.pack("s4s4s4", name, filename, data), got)
      end)
    end)
  end)
end)

describe("the head of a reply", function()
  it("of any bytes is headers", function()
    local pieces = { "a", "B-c", ":", ": ", " ", "\t", "\r\n", "\n", "\r", "x", ",", "\0", "Set-Cookie: a=1\r\n" }
    often(2000, function()
      local headers, version = response.headers("HTTP/1.1 200 OK\r\n" .. mixed(pieces, 30) .. "\r\n\r\n")
      assert.equal("1.1", version)
      for name, value in pairs(headers) do
        assert.is_nil(name:find("[%u:%s]"), name)
        assert.is_nil(value:find("^%s") or value:find("\n", 1, true), value)
        local values = { headers(name) }
        assert.equal(table.concat(values, ", "), headers[name])
      end
    end)
  end)
end)

describe("a URL", function()
  it("of any bytes is one for http, or refused without telling what may be its password", function()
    local bytes = bytes_of("/:@?#[]% \\.0aft\0\255")
    often(1500, function()
      local url = mutated(pick({ "http://me:KEY@h/p?q", "https://me:KEY@[::1]:8/", "http://me:KEY@h:80" }), bytes)
      local base = math.random(3) == 1 and "http://h/x" or nil
      local ok, found = pcall(fetch_options.address, "fetch", url, base)
      if ok then
        assert.is_truthy(found.url:find("^https?://[^/]"), found.url)
        assert.is_nil(url:find("//me:KEY@h", 1, true) and found.origin:find("KEY", 1, true), found.origin)
        assert.is_nil(found.url:find("^https?://[^/?#]*@"), found.url)
        assert.is_nil(found.url:find("[%c%s]"), found.url)
      else
        assert.is_string(found)
        assert.is_truthy(found:find("^fetch: "), found)
        assert.is_true(not found:find("KEY", 1, true) or not url:find("KEY[^@]*@"), found)
      end
    end)
  end)
end)
