-- rows: what the benchmark measures: { workload, N, names or list, who does not take part }.

-- A generator of theirs that had to wait would hand its wait to its consumer.
local NO_GENERATORS <const> = { "bare Lua", "luv", "Go", "node + Effect" }
local EFFECT <const> = "node + Effect"
local NO_CANCEL <const> = { "limit", "bare Lua", "cqueues", "better-all", "promises" }
-- They have no lists of their own.
local LISTS <const> = { "named limit", "luv", "cqueues", "Go", "node", "bun", "deno" }

return {
  cost = {
    { "wide", "10", "names", {} },
    { "wide", "1000", "names", {} },
    { "wide", "100000", "names", { EFFECT } },
    { "chain", "10", "names", {} },
    { "chain", "1000", "names", { EFFECT } }, -- whose memory a chain of this length fills
    { "chain", "100000", "names", { EFFECT } },
    { "layers", "100x10", "names", { EFFECT } },
    { "layers", "1000x100", "names", { EFFECT } },
    { "dashboard, leaves first", "1", "names", {} },
    { "dashboard, leaves last", "1", "names", {} },
    { "generators", "1000", "names", NO_GENERATORS },
    { "settled read", "100000", "names", {} },
    { "cancel", "1000", "names", NO_CANCEL },
    { "sleepers", "100000", "names", { EFFECT } },
  },
  lists = {
    { "wide", "10", "list", LISTS },
    { "wide", "1000", "list", LISTS },
    { "wide", "100000", "list", LISTS },
    { "chain", "10", "list", LISTS },
    { "chain", "1000", "list", LISTS },
    { "chain", "100000", "list", LISTS },
    { "layers", "100x10", "list", LISTS },
    { "layers", "1000x100", "list", LISTS },
  },
  memory = {
    { "resting", "100000", "names", { EFFECT } },
    { "spike", "100000", "names", { "limit", "bare Lua", "luv", "cqueues", "Go", "node", "bun", "deno" } },
  },
  growth = { -- workload, from, to, names or list, the limit
    { "wide", "10000", "1000000", "names", "named limit" },
    { "wide", "10000", "1000000", "list", "bare limit" },
    { "chain", "10000", "1000000", "names", "named limit" },
    { "chain forward", "10000", "1000000", "names", "named limit" },
    { "chain random", "10000", "1000000", "names", "named limit" },
  },
  order = { -- of the columns
    "allua",
    "named limit",
    "bare limit",
    "bare Lua",
    "Go",
    "bun + better-all",
    "deno + better-all",
    "node + better-all",
    "node + promises",
    "node + Effect",
    "luv",
    "cqueues",
  },
}
