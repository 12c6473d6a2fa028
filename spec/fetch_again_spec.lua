-- The same URL fetched again and again, by what is kept ready for it.

local allua = require("allua")
local server_of = require("spec.support.server")

require("spec.support.leftovers")()

local fetch = require("allua.fetch")

-- Calls fn(server, state): its replies are state.reply's, the requests' events are in state.seen.
local function served(fn)
  local state = { seen = {} }
  server_of.with({
    routes = {
      ["/*rest"] = function(event)
        state.seen[#state.seen + 1] = event
        return state.reply(event)
      end,
    },
  }, function(server)
    fn(server, state)
  end)
end

local function code_of(...)
  local ok, err = pcall(...)
  assert.is_false(ok)
  return err.code or err.status
end

describe("a URL that is fetched again", function()
  it("gives what the server has each time", function()
    served(function(server, state)
      local replies = {
        { "a string", "a string" },
        { { list = { 1, 2 } }, { list = { 1, 2 } } },
        { nil, "" },
        { "", "" },
        { allua.null, allua.null },
        { ("x"):rep(100000), ("x"):rep(100000) },
      }
      for _ = 1, 3 do
        for _, case in ipairs(replies) do
          function state.reply()
            return case[1]
          end
          assert.same(case[2], fetch(server.url .. "/same"))
        end
      end
      function state.reply(event)
        event:header("Content-Type", "application/problem+json; charset=utf-8")
        return { a = 1 }
      end
      assert.same({ a = 1 }, fetch(server.url .. "/same"))
      for _, seen in ipairs(state.seen) do
        assert.same(state.seen[1].headers, seen.headers)
        assert.is_true(seen.headers["user-agent"]:find("^allua/") ~= nil)
        assert.is_nil(seen.headers.expect)
      end
    end)
  end)

  it("fails when it fails, and no longer", function()
    served(function(server, state)
      local answers = {
        function(event)
          event:status(404)
          return { why = "gone" }
        end,
        function(event)
          event:header("Content-Type", "application/json")
          return "{"
        end,
        function(event)
          event:header("Location", "/same")
          event:status(302)
          return ""
        end,
        function(event)
          event.request:drop()
        end,
      }
      for _ = 1, 3 do
        for i, expected in ipairs({ 404, "json", "redirects", "closed" }) do
          state.reply = answers[i]
          assert.equal(expected, code_of(fetch, server.url .. "/same"))
        end
        function state.reply()
          return "well"
        end
        assert.equal("well", fetch(server.url .. "/same"))
      end
      state.reply = answers[1]
      local _, err = pcall(fetch, server.url .. "/same")
      assert.same({ why = "gone" }, err.data)
      assert.equal("application/json", err.headers["content-type"])
    end)
  end)

  it("follows its redirects each time, within its time", function()
    served(function(server, state)
      function state.reply(event)
        if event.path == "/from" then
          return event:redirect("/to")
        end
        allua.sleep(state.pause or 0)
        return event.path
      end
      local quick = fetch.with({ base_url = server.url, timeout = 0.5 })
      for _ = 1, 3 do
        state.pause = nil
        assert.equal("/to", fetch(server.url .. "/from"))
        assert.equal("/to", quick("/from"))
        state.pause = 5
        assert.equal("timeout", code_of(quick, "/from"))
        assert.equal("timeout", code_of(quick, "/to"))
      end
    end)
  end)

  it("takes a time-out, retries and a signal for one call alone", function()
    served(function(server, state)
      local failures, stop = 0, allua.abort_controller()
      function state.reply(event)
        if failures > 0 then
          failures = failures - 1
          allua.http_error(503, "later")
        end
        allua.sleep(state.pause or 0)
        return event.headers["x-a"] or "well"
      end
      local url = server.url .. "/same"
      local patient = fetch.with({ retry = { attempts = 3, delay = 0 }, headers = { ["X-A"] = "a" } })
      for _ = 1, 2 do
        state.pause = 5
        assert.equal("timeout", code_of(fetch, url, { timeout = 0.05 }))
        assert.equal("timeout", code_of(fetch, url, { timeout = 0.1, retry = { attempts = 100, delay = 0 } }))
        assert.equal("timeout", code_of(patient, url, { timeout = 0.05, retry = false }))
        local signal = allua.abort_controller()
        allua.spawn(function()
          allua.sleep(0.05)
          signal:abort("enough")
        end)
        assert.same({ false, "enough" }, { pcall(fetch, url, { signal = signal.signal }) })
        state.pause = 0.15 -- longer than those
        assert.equal("well", fetch(url))
        state.pause = nil
        failures = 2
        assert.equal("a", patient(url))
        failures = 1
        assert.equal(503, code_of(patient, url, { retry = 0 }))
        failures = 1
        assert.equal("well", fetch(url, { retry = { attempts = 2, delay = 0 }, timeout = 20 }))
        failures = 1
        assert.equal(503, code_of(fetch, url))
        assert.equal("well", fetch(url, { signal = stop.signal }))
      end
      stop:abort("closed")
      local before = #state.seen
      assert.same({ false, "closed" }, { pcall(fetch, url, { signal = stop.signal }) })
      assert.equal(before, #state.seen)
      local _, err = pcall(function()
        fetch(url, { timeout = 0 })
      end)
      assert.matches('fetch_again_spec.lua:%d+: fetch: option "timeout" must be a number of seconds', err)
    end)
  end)

  it("is not hurt by cancelling one of many", function()
    served(function(server, state)
      local gate
      function state.reply()
        gate:await()
        return "late"
      end
      for _ = 1, 2 do
        gate = allua.promise()
        local tasks = {}
        for i = 1, 200 do
          tasks[i] = allua.spawn(fetch, server.url .. "/same")
        end
        while #state.seen % 200 ~= 0 or #state.seen == 0 do
          allua.sleep(0.01)
        end
        for i = 1, 200, 2 do
          tasks[i]:cancel()
        end
        gate:resolve()
        for i = 1, 200 do
          local ok, value = pcall(tasks[i].await, tasks[i])
          assert.equal(i % 2 == 0, ok)
          assert.is_true(not ok or value == "late")
        end
        state.seen = {}
      end
    end)
  end)

  it("is one of any number of URLs", function()
    served(function(server, state)
      function state.reply(event)
        return event.path
      end
      for _ = 1, 2 do
        for i = 1, 150 do
          assert.equal("/" .. i, fetch(server.url .. "/" .. i))
        end
      end
    end)
  end)

  it("is asked for with the defaults that were given, whatever becomes of their tables", function()
    served(function(server, state)
      function state.reply(event)
        return (event.query.q or "-") .. (event.headers["x-a"] or "-") .. (event.headers["x-list"] or "-")
      end
      local list = { "1", "2" }
      local headers, query = { ["X-A"] = "a", ["X-List"] = list }, { q = "q" }
      local own = fetch.with({ base_url = server.url, headers = headers, query = query })
      for _ = 1, 2 do
        assert.equal("qa1, 2", own("/x"))
        headers["X-A"], query.q, list[1] = "b", "r", "3"
        assert.equal("qa1, 2", own("/x", {}))
        assert.equal("qc1, 2", own("/x", { headers = { ["X-A"] = "c" } }))
      end
      assert.equal("---", fetch(server.url .. "/x"))
    end)
  end)
end)
