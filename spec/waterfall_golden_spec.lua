-- The waterfall to the letter, in virtual time.

local columns = require("allua.core").load("allua.text").columns
local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local terminals = require("spec.support.terminal")
require("spec.support.leftovers")()

-- Time is virtual, work (wait, run) makes a task that waits and then runs so long.
local PRELUDE = [[
  allua.clock.virtual()
  local function work(wait, run)
    return function()
      allua.sleep(wait)
      allua.clock.advance(run or 0)
    end
  end
]]

local cases = {
  {
    name = "a sequence",
    code = [[
      all({ a = work(0.1), b = function(self) return self.a, allua.sleep(0.2) end,
        c = function(self) return self.b, allua.sleep(0.1) end }, { debug = true, name = "steps" })
    ]],
    text = [[
all steps: 400 ms
task  waited for    time  0                                     400 ms
a                 100 ms  ▒▒▒▒▒▒▒▒▒▒▒
b     a           300 ms  ░░░░░░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
c     b           400 ms  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░▒▒▒▒▒▒▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks   ░ sibling
total 400 ms, sum of the parts 400 ms: 1.0 times as fast
critical path: a 100 ms → b 200 ms → c 100 ms = 100 % of the total
were a instant: 100 ms saved
]],
  },
  {
    name = "tasks side by side, running after their wait",
    code = [[
      all({ first = work(0.3), second = work(0.1, 0.1), third = work(0, 0.4) }, { debug = true })
    ]],
    text = [[
all: 500 ms
task    waited for    time  0                                   500 ms
first               500 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
second              500 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒████████
third               400 ms  ██████████████████████████████████

█ running   ▒ I/O, timer, own tasks
total 500 ms, sum of the parts 1.40 s: 2.8 times as fast
critical path: second 500 ms = 100 % of the total
]],
  },
  {
    name = "what a task waited for, in order of waiting",
    code = [[
      all({ a = work(0.2), b = work(0.1), c = work(0.3),
        sum = function(self) return self.b, self.a, self.c end }, { debug = true })
    ]],
    text = [[
all: 300 ms
task  waited for    time  0                                     300 ms
a                 200 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
b                 100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
c                 300 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
sum   b, a, c     300 ms  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░

█ running   ▒ I/O, timer, own tasks   ░ sibling
total 300 ms, sum of the parts 600 ms: 2.0 times as fast
critical path: c 300 ms → sum 0 ms = 100 % of the total
were c instant: 100 ms saved
]],
  },
  {
    name = "waits for a place, on the critical path too",
    code = [[
      allua.map({ 3, 1, 2, 2 }, function(n) allua.sleep(n / 10) end, { debug = true, concurrency = 2 })
    ]],
    text = [[
map: 500 ms
task  waited for    time  0                                     500 ms
1                 300 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
2                 100 ms  ▒▒▒▒▒▒▒▒▒
3                 300 ms  ·········▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
4                 500 ms  ··························▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks   · place
total 500 ms, sum of the parts 800 ms: 1.6 times as fast
critical path: 1 300 ms → 4 200 ms = 100 % of the total
were 1 instant: 200 ms saved
]],
  },
  {
    name = "a place that is given back while its task waits for a sibling",
    code = [[
      all({ a = work(0.1), b = function(self) return self.d, allua.sleep(0.1) end, c = work(0.2), d = work(0.2) },
        { debug = true, concurrency = 1 })
    ]],
    text = [[
all: 600 ms
task  waited for    time  0                                     600 ms
a                 100 ms  ▒▒▒▒▒▒▒▒
b     d           600 ms  ·······░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░▒▒▒▒▒▒▒
c                 300 ms  ·······▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
d                 500 ms  ······················▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks   ░ sibling   · place
total 600 ms, sum of the parts 600 ms: 1.0 times as fast
critical path: a 100 ms → b 0 ms → c 200 ms → d 200 ms → b 100 ms
  = 100 % of the total
were a instant: 100 ms saved
]],
  },
  {
    name = "a failure, whom it fails and whom it cancels",
    code = [[
      pcall(all, { bad = function() allua.sleep(0.1) error("no") end,
        reader = function(self) return self.bad end, other = work(5) }, { debug = true })
    ]],
    text = [[
all: 100 ms, failed
task    waited for    time  0                                   100 ms
bad                 100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒×
other               100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▓
reader  bad         100 ms  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░×

█ running   ▒ I/O, timer, own tasks   ░ sibling   × failed
  ▓ cancelled
total 100 ms, sum of the parts 100 ms
critical path: bad 100 ms = 100 % of the total
]],
  },
  {
    name = "a timeout",
    code = [[
      pcall(all, { quick = work(0.1), slow = work(9) }, { debug = true, timeout = 0.5 })
    ]],
    text = [[
all: 500 ms, failed
task   waited for    time  0                                    500 ms
quick              100 ms  ▒▒▒▒▒▒▒▒▒
slow               500 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▓

█ running   ▒ I/O, timer, own tasks   ▓ cancelled
total 500 ms, sum of the parts 100 ms
critical path: slow 500 ms = 100 % of the total
]],
  },
  {
    name = "a cancelling from outside that a task uses for tidying up",
    code = [[
      pcall(allua.timeout, 0.2, all, { tidy = function()
        pcall(allua.sleep, 9)
        allua.clock.advance(0.2)
      end }, { debug = true })
    ]],
    text = [[
all: 400 ms, cancelled
task  waited for    time  0                                     400 ms
tidy              400 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒██████████████████████

█ running   ▒ I/O, timer, own tasks
total 400 ms, sum of the parts 400 ms
critical path: tidy 400 ms = 100 % of the total
]],
  },
  {
    name = "a race",
    code = [[
      allua.race({ slow = work(3), quick = work(1) }, { debug = true })
    ]],
    text = [[
race: 1.00 s
task   waited for    time  0                                    1.00 s
quick              1.00 s  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
slow               1.00 s  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▓

█ running   ▒ I/O, timer, own tasks   ▓ cancelled
total 1.00 s, sum of the parts 1.00 s: 1.0 times as fast
critical path: quick 1.00 s = 100 % of the total
]],
  },
  {
    name = "a flow",
    code = [[
      allua.flow({ cache = function(_, task) allua.sleep(0.1) task:finish(1) end, origin = work(1) }, { debug = true })
    ]],
    text = [[
flow: 100 ms
task    waited for    time  0                                   100 ms
cache               100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
origin              100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▓

█ running   ▒ I/O, timer, own tasks   ▓ cancelled
total 100 ms, sum of the parts 100 ms: 1.0 times as fast
critical path: cache 100 ms = 100 % of the total
]],
  },
  {
    name = "any, with a failure that does not count",
    code = [[
      allua.any({ down = function() allua.sleep(0.1) error("down") end, up = work(0.2) }, { debug = true })
    ]],
    text = [[
any: 200 ms
task  waited for    time  0                                     200 ms
down              100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒×
up                200 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks   × failed
total 200 ms, sum of the parts 300 ms: 1.5 times as fast
critical path: up 200 ms = 100 % of the total
]],
  },
  {
    name = "all_settled",
    code = [[
      allua.all_settled({ bad = function() allua.sleep(0.1) error("no") end, good = work(0.2) }, { debug = true })
    ]],
    text = [[
all_settled: 200 ms
task  waited for    time  0                                     200 ms
bad               100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒×
good              200 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks   × failed
total 200 ms, sum of the parts 300 ms: 1.5 times as fast
critical path: good 200 ms = 100 % of the total
]],
  },
  {
    name = "each",
    code = [[
      for _ in allua.each({ a = work(0.2), b = work(0.1) }, { debug = true }) do end
    ]],
    text = [[
each: 200 ms
task  waited for    time  0                                     200 ms
a                 200 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
b                 100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks
total 200 ms, sum of the parts 300 ms: 1.5 times as fast
critical path: a 200 ms = 100 % of the total
]],
  },
  {
    name = "groups in groups, indented",
    code = [[
      all({
        outer = function()
          allua.sleep(0.1)
          allua.timeout(9, function()
            all({
              inner = function() all({ innermost = work(0.1, 0.1) }) end,
              ["next to it"] = work(0.3),
            }, { name = "named" })
          end)
        end,
        last = function(self) return self.outer end,
        quiet = function() all({ unseen = work(0.1) }, { debug = false }) end,
      }, { debug = true })
    ]],
    text = [[
all: 400 ms
task           waited for    time  0                            400 ms
last           outer       400 ms  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░
outer                      400 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
  inner                    200 ms          ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
    innermost              200 ms          ▒▒▒▒▒▒▒▒▒▒█████████
  next to it               300 ms          ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
quiet                      100 ms  ▒▒▒▒▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks   ░ sibling
total 400 ms, sum of the parts 500 ms: 1.2 times as fast
critical path: outer 400 ms = 100 % of the total
]],
  },
  {
    name = "a group with no tasks",
    code = [[
      all({}, { debug = true, name = "none" })
    ]],
    text = [[
all none: 0 ms
no tasks
]],
  },
  {
    name = "no time at all",
    code = [[
      all({ a = function() end, b = function(self) return self.a end }, { debug = true })
    ]],
    text = [[
all: 0 ms
task  waited for  time  0                                         0 ms
a                 0 ms  █
b                 0 ms  █

█ running
total 0 ms, sum of the parts 0 ms
critical path: b 0 ms
]],
  },
  {
    name = "tasks that never started",
    code = [[
      pcall(all, { a = function() error("at once") end, b = work(1) }, { debug = true })
    ]],
    text = [[
all: 0 ms, failed
task  waited for  time  0                                         0 ms
a                 0 ms  ×
b                 0 ms  ▓

█ running   × failed   ▓ cancelled
total 0 ms, sum of the parts 0 ms
critical path: a 0 ms
]],
  },
  {
    name = "names in any script",
    code = [[
      all({ ["ascii"] = work(0.1), ["名前"] = work(0.1),
        ["e\u{301}te\u{301}"] = work(0.1), ["שלום"] = work(0.1), ["مرحبا"] = work(0.1),
        ["🚀 go"] = work(0.1), ["हिन्दी"] = work(0.1),
        ["a\tb\n\27[2J\u{202E}x"] = work(0.1), [""] = work(0.1), ["\xFF"] = work(0.1),
        ["a name that is far too long for its column"] = work(0.1),
        ["全角の名前がとても長くて入りきらない"] = work(0.1) }, { debug = true })
    ]],
    text = [[
all: 100 ms
task                      waited for    time  0                 100 ms
""                                    100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
a\tb\n\x1B[2J\u{202E}x                100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
a name that is far too …              100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
ascii                                 100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
été                                   100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
שלום                                  100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
مرحبا                                 100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
हिन्दी                                 100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
全角の名前がとても長く…               100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
名前                                  100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
🚀 go                                 100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
\xFF                                  100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks
total 100 ms, sum of the parts 1.20 s: 12.0 times as fast
critical path: \xFF 100 ms = 100 % of the total
]],
  },
  {
    name = "durations of every size",
    code = [[
      allua.map({ 0, 0.0000004, 0.00002, 0.0031, 0.0567, 1.5, 75 }, function(n) allua.sleep(n) end, { debug = true })
    ]],
    text = [[
map: 1 min 15 s
task  waited for        time  0                             1 min 15 s
1                       0 ms  █
2                     400 ns  ▒
3                      20 µs  ▒
4                     3.1 ms  ▒
5                      57 ms  ▒
6                     1.50 s  ▒
7                 1 min 15 s  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks
total 1 min 15 s, sum of the parts 1 min 17 s: 1.0 times as fast
critical path: 7 1 min 15 s = 100 % of the total
]],
  },
  {
    name = "a narrow terminal",
    columns = 40,
    code = [[
      all({ ["a long name"] = work(0.1),
        ["another name"] = function(self) return self["a long name"], allua.sleep(0.1) end },
        { debug = true, name = "a label that does not fit" })
    ]],
    text = [[
all a label that does not fit: 200 ms
task         waited…    time  0   200 ms
a long name           100 ms  ▒▒▒▒▒
another na…  a long…  200 ms  ░░░░░▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks
  ░ sibling
total 200 ms, sum of the parts 200 ms:
  1.0 times as fast
critical path: a long name 100 ms →
  another name 100 ms
  = 100 % of the total
were a long name instant: 100 ms saved
]],
  },
  {
    name = "a wide terminal",
    columns = 120,
    code = [[
      all({ a = work(0.1), b = function(self) return self.a, allua.sleep(0.1) end }, { debug = true })
    ]],
    text = [[
all: 200 ms
task  waited for    time  0                                                                                       200 ms
a                 100 ms  ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒
b     a           200 ms  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒

█ running   ▒ I/O, timer, own tasks   ░ sibling
total 200 ms, sum of the parts 200 ms: 1.0 times as fast
critical path: a 100 ms → b 100 ms = 100 % of the total
were a instant: 100 ms saved
]],
  },
}

describe("in virtual time, the waterfall of", function()
  for _, case in ipairs(cases) do
    it(case.name, function()
      local environment = { COLUMNS = tostring(case.columns or 70), NO_COLOR = false }
      local result = host.eval(PRELUDE .. case.code, { env = environment })
      assert.equal("", result.out)
      assert.equal(0, result.code, result.err)
      assert.equal(case.text, result.err)
      for line in result.err:gmatch("[^\n]+") do
        assert.is_true(columns(line) <= (case.columns or 70), line)
      end
    end)
  end
end)

-- The lines between the head and the legend.
local function rows_of(text)
  local rows = {}
  for line in text:match("\n[^\n]*\n(.-)\n\n"):gmatch("[^\n]+") do
    rows[#rows + 1] = line
  end
  return rows
end

describe("of thousands of tasks", function()
  it("the longest are shown, by start, and the rest are summed up", function()
    local result = host.eval(PRELUDE .. [[
      local tasks = {}
      for i = 1, 5000 do
        tasks[i] = work(i * 7919 % 5000 / 1000)
      end
      all(tasks, { debug = true })
    ]], { env = { ALLUA_STRESS_GC = false } }) -- a collection of them all at each wait takes minutes
    local rows = rows_of(result.err)
    assert.equal(41, #rows)
    assert.equal("and 4960 shorter tasks, none over 4.96 s", rows[41])
    local before = 0
    for i = 1, 40 do
      local number, seconds = rows[i]:match("^(%d+) +(%S+) s ")
      assert.is_true(tonumber(seconds) >= 4.96)
      assert.is_true(tonumber(number) > before) -- all started at once: by number
      before = tonumber(number)
    end
    assert.matches("sum of the parts 208 min 18 s: 2500.0 times as fast", result.err)
  end)

  it("none in a group is shown without the task that began it", function()
    local result = host.eval(PRELUDE .. [[
      local tasks = {}
      for i = 1, 30 do
        tasks[i] = function()
          all({ work(i), work(i / 2), work(0.001) })
        end
      end
      all(tasks, { debug = true })
    ]])
    local rows, shown = rows_of(result.err), false
    for i = 1, 40 do
      shown = shown or rows[i]:find("^%d")
      assert.is_true(shown and true)
    end
    assert.equal("and 80 shorter tasks, none over 13.0 s", (rows[41]:gsub("(%d)%.00 s", "%1.0 s")))
  end)
end)

describe("on a terminal, the waterfall", function()
  local code = PRELUDE
    .. [[
      pcall(all, { a = work(0.1, 0.1), b = function(self) return self.a end, c = work(9),
        bad = function(self) local _ = self.b error("no") end }, { debug = true })
      allua.map({ 1, 2 }, function() allua.sleep(1) end, { debug = true, concurrency = 1 })
      io.stderr:write('the end')]]

  local function shown(environment)
    local folder <close> = scratch.folder({ ["a.lua"] = code })
    local terminal <close> = terminals.start({ folder:at("a.lua") }, { env = environment })
    terminal:wait_for("the end")
    terminal:wait()
    return terminal.raw
  end

  it("has a colour for each state, and none with NO_COLOR", function()
    local text = shown({ NO_COLOR = "", COLUMNS = "60" })
    for colour, sign in pairs({
      ["32"] = "█",
      ["36"] = "▒",
      ["33"] = "░",
      ["90"] = "·",
      ["1;31"] = "×",
      ["35"] = "▓",
    }) do
      assert.matches("\27[" .. colour .. "m" .. sign, text, 1, true)
    end
    assert.not_matches("\27", shown({ NO_COLOR = "1", COLUMNS = "60" }), 1, true)
  end)
end)
