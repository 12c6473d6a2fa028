-- What is told of an error: from where it was raised, through every task that failed by it, to the line that
-- started them.

local host = require("spec.support.host")

require("spec.support.leftovers")()

-- What the program prints, without the lines of a traceback that are Lua's own.
local function printed(code)
  local result = host.eval(code)
  return ((result.out .. result.err):gsub("\n\t%[C%]: in [^\n]*", ""))
end

describe("the report of an error", function()
  for kind, value in pairs({
    string = '"boom"',
    table = 'setmetatable({}, { __tostring = function() return "boom" end })',
  }) do
    it("goes from the throw through every task that failed to the program, for a " .. kind, function()
      assert.equal(
        [[
allua: boom
stack traceback:
	(command line):5: in upvalue 'deep'
	(command line):9: in function <(command line):9>
task "inner"
awaited by task "reader"
started at (command line):8
task "outer"
awaited by task "page"
started at (command line):7
task "main"
]],
        printed(([[
          local value = %s
          local deep
          function deep()
            allua.sleep(0.001)
            error(value, 0)
          end
          all({
            outer = function() return all({
              inner = function() deep() return 1 end,
              reader = function(self) return self.inner end,
            }) end,
            page = function(self) return self.outer end,
          })
        ]]):format(value))
      )
    end)
  end

  it("remembers where an error came from that was caught, kept over a wait, and raised again", function()
    for _, value in ipairs({ '"boom"', "setmetatable({}, { __tostring = function() return 'boom' end })" }) do
      assert.equal(
        [[
allua: boom
stack traceback:
	(command line):4: in function <(command line):4>
task "a"
awaited by task "b"
started at (command line):3
task "main"
]],
        printed(([[
          local value = %s
          local ok, e = pcall(function()
            all({
              a = function() allua.yield() error(value, 0) end,
              b = function(self)
                local _, e = pcall(function() return self.a end)
                allua.shield(allua.sleep, 0.001)
                pcall(all, { function() error("another", 0) end })
                error(e, 0)
              end,
            })
          end)
          allua.sleep(0.001)
          pcall(all, { function() error("one more", 0) end })
          error(e, 0)
        ]]):format(value))
      )
    end
  end)

  it("goes into the generators that the error has left", function()
    assert.equal(
      [[
allua: (error object is a table value)
stack traceback:
	(command line):1: in upvalue 'bad'
	(command line):2: in function <(command line):2>
in a coroutine, resumed by:
	(command line):4: in function <(command line):3>
in a coroutine, resumed by:
	(command line):6: in function <(command line):6>
task "a"
started at (command line):6
task "main"
]],
      printed([[local function bad() error({}) end
        local inner = coroutine.wrap(function() allua.yield() coroutine.yield(1) bad() end)
        local outer = coroutine.wrap(function()
          for _ in inner do coroutine.yield(2) end
        end)
        all({ a = function() for _ in outer do allua.sleep(0.001) end end })
      ]])
    )
    assert.equal(
      [[
allua: (command line):2: (command line):1: top
stack traceback:
	(command line):1: in upvalue 'bad'
	(command line):2: in function <(command line):2>
in a coroutine, resumed by:
	(command line):2: in main chunk
task "main"
]],
      printed([[local function bad() error("top") end
        for _ in coroutine.wrap(function() coroutine.yield(1) bad() end) do _ = 1 end]])
    )
  end)

  it("is of the throw that it was: the same value raised anew has a traceback of its own", function()
    assert.equal(
      [[
allua: boom
stack traceback:
	(command line):3: in function <(command line):3>
task "second"
started at (command line):3
task "main"
]],
      printed([[
        local known = setmetatable({}, { __tostring = function() return "boom" end })
        pcall(all, { first = function() error(known) end })
        all({ second = function() error(known) end })
      ]])
    )
  end)
end)

describe("allua.traceback", function()
  it("gives the same later: for a table as long as it lives, for a string while it is one of the last", function()
    assert.equal(
      [[
boom
stack traceback:
	(command line):4: in function <(command line):4>
task "a"
started at (command line):1
boom
stack traceback:
	(command line):5: in function <(command line):5>
task "b"
started at (command line):1
]],
      printed([[
        local function catch(tasks) return select(2, pcall(all, tasks)) end
        local function fail(value) error(value, 0) end
        local meta = { __tostring = function() return "boom" end }
        local first = catch({ a = function() error(setmetatable({}, meta)) end })
        local second = catch({ b = function() error("boom", 0) end })
        allua.sleep(0.001)
        for i = 1, 10 do catch({ function() fail("other") end }) end
        local text = allua.traceback(second)
        for i = 1, 100 do catch({ function() fail("other") end }) end
        collectgarbage()
        print(allua.traceback(first))
        print(text)
      ]])
    )
  end)

  it("knows the reasons of all_settled and the errors of any", function()
    local shown = printed([[
      local r = allua.all_settled({ a = function() error("first") end })
      print(allua.traceback(r.a.reason))
      local _, e = pcall(allua.any, { b = function() error("second") end })
      print(allua.traceback(e.errors.b))
    ]])
    assert.matches('first\nstack traceback:\n\t%(command line%):1: [^\n]*\ntask "a"\n', shown)
    assert.matches('second\nstack traceback:\n\t%(command line%):3: [^\n]*\ntask "b"\n', shown)
  end)

  it("gives the message alone of what no task raised", function()
    assert.equal(
      "never\n(error object is a nil value)\n",
      printed('print(allua.traceback("never")) print(allua.traceback(nil))')
    )
  end)
end)

describe("the error of an operation", function()
  local function says(code, ...)
    local shown = printed("local uv = require('luv')\n" .. code)
    for _, words in ipairs({ ... }) do
      assert.matches(words, shown, 1, true)
    end
  end

  it("names it, and the line that asked for it", function()
    local line = "(command line):2"
    says("allua.sleep()", line .. ": sleep: expected a number of seconds, 0 or more (got nil)")
    says("allua.timeout(0, allua.sleep, 1)", "TimeoutError: timed out after 0", line .. ": in main chunk")
    says("all({ a = function() allua.sleep(1) end }, { timeout = 0 })", "still running: a", line .. ": in main chunk")
    says("allua.promisify(uv.fs_stat)('/no')", line .. ": uv.fs_stat: ENOENT: no such file or directory: /no")
    says("allua.promisify(uv.fs_stat)()", line .. ": bad argument #1 to 'uv.fs_stat'")
    says("allua.fetch('http://no.invalid/')", "FetchError: GET http://no.invalid/: ", line .. ": in main chunk")
    says("print(select(2, pcall(allua.fetch, 'http://no.invalid/', { retry = 1, timeout = 9 })).where)", line .. "\n")
    says("allua.fetch('x')", line .. ": fetch: ")
    says("allua.db.open('sqlite::memory:'):query('selct 1')", "DbError: " .. line .. ": ", "in: selct 1")
    says("allua.db.open('sqlite:/no/no.db')", "DbError: sqlite:/no/no.db: ", line .. ": in main chunk")
    says("allua.serve({ routes = {}, port = 0, host = 'no.invalid' })", line .. ": serve: ")
    says("local c = allua.abort_controller() c:abort() c.signal:throw_if_aborted()", line .. ": in main chunk")
    says("allua.promise():await()", "waits for a promise, at " .. line)
  end)
end)
