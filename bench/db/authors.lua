-- authors: the n + 1 case: every post, and for each its author.
--
--   allua bench/db/authors.lua URL yes|no
--
-- Prints the seconds that it took, the seconds of processor time, and how many queries were sent. "no": batching
-- is off.
local uv = require("luv")

local database = allua.db.open(arg[1])
local batch = arg[2] == "yes"
local queries, query = 0, database.query
rawset(database, "query", function(...)
  queries = queries + 1
  return query(...)
end)

local function run()
  local posts = database.post:find_many()
  local authors = allua.map(posts, function(post)
    return database.author:find_unique({ where = { id = post.author_id }, batch = batch })
  end)
  for i, post in ipairs(posts) do
    assert(authors[i].id == post.author_id)
  end
end

local function processor()
  local usage = uv.getrusage()
  return usage.utime.sec + usage.stime.sec + (usage.utime.usec + usage.stime.usec) / 1e6
end

for _ = 1, 10 do
  run()
end
queries = 0
local began, used = uv.hrtime(), processor()
for _ = 1, 20 do
  run()
end
print((uv.hrtime() - began) / 1e9 / 20, (processor() - used) / 20, queries // 20)
database:close()
