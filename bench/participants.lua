-- participants: who takes part in the benchmark, the commands that run them, and their versions.

local process = dofile((arg[0]:match("^(.*)/") or ".") .. "/process.lua")

-- Gives { commands = name -> words before WORKLOAD SIZE FORM COLLECTOR, starts = { name, words }, versions,
-- skipped, failed = what failed in the run, collector = the mode of the collector that allua starts with }.
return function(settings)
  local bench, build = settings.bench, settings.build
  local modules = build .. "/peers"
  local found = { commands = {}, starts = {}, versions = {}, skipped = {}, failed = {} }

  local function wanted(name)
    if settings.peers == "" then
      return true
    end
    for peer in settings.peers:gmatch("[^,]+") do
      if name:find(peer, 1, true) then
        return true
      end
    end
    return false
  end

  local function skip(name, why)
    found.skipped[#found.skipped + 1] = ("%s (%s)"):format(name, why:match("[^\n]*"))
  end

  local function add(name, version, start, ...)
    found.commands[name] = { ... }
    if version then
      found.versions[#found.versions + 1] = version
    end
    if start then
      found.starts[#found.starts + 1] = { name = name, words = start }
    end
  end

  local function npm(package)
    local text = process.read(("%s/node_modules/%s/package.json"):format(modules, package))
    return text and text:match('"version"%s*:%s*"([^"]+)"')
  end

  local allua = build .. "/allua"
  local version = assert(process.capture(allua, "--version"))
  found.collector = assert(process.capture(allua, "-e", "print(collectgarbage('incremental'))"))
  add("allua", version:match("[^\n]*"), { allua, "-e", "" }, allua, bench .. "/allua.lua")

  local limit = build .. "/bench/limit"
  local compiler = process.capture("cc", "--version")
  add("named limit", compiler and compiler:match("[^\n]*"), nil, limit, bench .. "/limit.lua", "named")
  add("bare limit", nil, nil, limit, bench .. "/limit.lua", "bare")

  local lua = process.capture("lua5.4", "-v")
  for _, peer in ipairs({
    { "bare Lua", "coroutines", "luv" },
    { "luv", "luv", "luv" },
    { "cqueues", "cqueues", "cqueues" },
  }) do
    local name, script, module = table.unpack(peer)
    local there, why = process.capture("lua5.4", "-e", ("require('%s')"):format(module))
    if not there then
      skip(name, why)
    elseif wanted(name) then
      local start = name == "bare Lua" and { "lua5.4", "-e", "" } or { "lua5.4", "-l", module, "-e", "" }
      add(
        name,
        name == "bare Lua" and "lua5.4: " .. lua:match("Lua [%d.]+"),
        start,
        "lua5.4",
        ("%s/%s.lua"):format(bench, script)
      )
    end
  end

  local go = build .. "/bench/go"
  local there, why = process.capture("test", "-x", go)
  if not there then
    skip("Go", why ~= "" and why or "not built: make bench-peers")
  elseif wanted("Go") then
    local text = process.capture("go", "version")
    add("Go", text and text:match("go[%d.]+"), { go }, go)
  end

  local tools = modules .. "/node_modules/.bin/"
  local runtimes = {
    { "node", { "node", "--expose-gc" }, { "node", "-e", "" } },
    { "bun", { tools .. "bun" }, { tools .. "bun", "-e", "0" } },
    { "deno", { tools .. "deno", "run", "--allow-all", "--v8-flags=--expose-gc" }, { tools .. "deno", "eval", "" } },
  }
  for _, runtime in ipairs(runtimes) do
    local name, words, start = table.unpack(runtime)
    local text = process.capture(words[1], "--version")
    local engines = { { name .. " + better-all", "better-all" } }
    if name == "node" then
      table.move({ { "node + promises", "promises" }, { "node + Effect", "effect" } }, 1, 2, 2, engines)
    end
    for i, engine in ipairs(engines) do
      local package = engine[2] ~= "promises" and npm(engine[2])
      if not text then
        skip(engine[1], name .. " is not there")
      elseif package == nil then
        skip(engine[1], engine[2] .. " is not installed: make bench-peers")
      elseif wanted(engine[1]) then
        local command = table.move(words, 1, #words, 1, {})
        table.move({ bench .. "/javascript.mjs", modules, engine[2] }, 1, 3, #command + 1, command)
        local own = i == 1 and ("%s %s"):format(name, text:match("%d[%w.]*")) or package and engine[2] .. " " .. package
        add(engine[1], own, i == 1 and start, table.unpack(command))
      end
    end
  end
  if npm("better-all") then
    found.versions[#found.versions + 1] = "better-all " .. npm("better-all")
  end
  return found
end
