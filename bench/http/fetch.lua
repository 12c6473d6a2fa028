-- fetch: 20,000 GETs, 64 at a time, with allua. Prints nothing but what went wrong.
local url, count = arg[1], 20000
local list = {}
for i = 1, count do
  list[i] = i
end
local fetch = allua.fetch
allua.map(list, function()
  assert(fetch(url).message == "Hello, World!")
end, { concurrency = 64 })
