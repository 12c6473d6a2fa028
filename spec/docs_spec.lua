-- What the documentation shows is true: each program in it runs, and prints what stands below it.

local host = require("spec.support.host")
local scratch = require("spec.support.scratch")

require("spec.support.leftovers")()

local build = host.program:match("^(.*)/") or "."

local function lines_of(path)
  local lines = {}
  for line in io.lines(path) do
    lines[#lines + 1] = line
  end
  return lines
end

-- The blocks of code of a page: { language, words after it, text, line, output }, where the output is the
-- block of text that follows with nothing between.
local function blocks_of(path)
  local blocks, open, between = {}, nil, ""
  for number, line in ipairs(lines_of(path)) do
    local language, words = line:match("^```(%l*)%s*(.*)$")
    if open and line == "```" then
      open.text = table.concat(open.lines, "\n") .. "\n"
      local last = blocks[#blocks]
      if open.language == "text" and last and last.language == "lua" and not between:find("%S") then
        last.output = open.text
      end
      blocks[#blocks + 1] = open
      open, between = nil, ""
    elseif open then
      open.lines[#open.lines + 1] = line
    elseif language then
      open = { language = language, words = words, lines = {}, line = number }
    else
      between = between .. line
    end
  end
  return blocks
end

-- The name under which a program is run is the one that its output tells of.
local function name_of(block)
  return block.text:match("^%-%- (%S+%.lua)\n") or block.text:find("^describe%(") and "x_spec.lua" or "app.lua"
end

local function command(block, name)
  if block.words == "stock" then
    local lua = os.getenv("LUA") or "lua5.4"
    return { "-c", lua .. " " .. name }, "sh", { LUA_CPATH = build .. "/lua/?.so;;" }
  elseif name == "x_spec.lua" then
    return { "test", "--output=TAP", name }
  end
  return { name }
end

local function shows(path)
  local ran = 0
  for _, block in ipairs(blocks_of(path)) do
    local place = path .. ":" .. block.line
    if block.language == "lua" then
      assert(load(block.text, "=" .. place))
    end
    if block.output then
      ran = ran + 1
      local name = name_of(block)
      local folder <close> = scratch.folder({ [name] = block.text })
      local args, program, env = command(block, name)
      local result = host.run(args, { program = program, env = env, cwd = folder.path })
      -- A port that the system chose, and how long a wait took.
      local printed = (result.out .. result.err):gsub("127%.0%.0%.1:%d+", "127.0.0.1:43211")
      printed = printed:gsub("for %d+ ms", "for 0 ms")
      assert.equal(block.output, printed, place)
    end
  end
  return ran
end

describe("the documentation", function()
  it("shows programs in README that run and print what it says", function()
    assert.is_true(shows("README.md") >= 16)
  end)

  it("shows programs in the reference that run and print what it says", function()
    assert.is_true(shows("docs/reference.md") >= 6)
  end)
end)
