-- The example mirror.lua: a list of URLs into a folder.

local host = require("spec.support.host")
local scratch = require("spec.support.scratch")
local terminals = require("spec.support.terminal")
local uv = require("luv")
local web = require("spec.support.web")

require("spec.support.leftovers")()

describe("examples/mirror.lua", function()
  local nginx

  setup(function()
    nginx = web.nginx({ ["a.txt"] = ("a"):rep(10), ["deep/b.txt"] = ("b"):rep(100000) })
  end)

  teardown(function()
    nginx:__close()
  end)

  local function mirror(folder, ...)
    return host.run({ "examples/mirror.lua", folder.path, ... })
  end

  it("loads each, and says how it went", function()
    local folder <close> = scratch.folder()
    local result = mirror(folder, nginx.url .. "/a.txt", nginx.url .. "/deep/b.txt", nginx.url .. "/none")
    assert.equal(1, result.code)
    assert.equal("", result.err)
    assert.truthy(result.out:find("        10  " .. nginx.url .. "/a.txt\n", 1, true), result.out)
    assert.truthy(result.out:find("    100000  " .. nginx.url .. "/deep/b.txt\n", 1, true), result.out)
    assert.truthy(result.out:find("    failed  FetchError: GET " .. nginx.url .. "/none: 404 Not Found\n", 1, true))
    local place = nginx.url:gsub("^http://", ""):gsub(":", "_")
    assert.equal(("b"):rep(100000), scratch.content(folder:at(place .. "/deep/b.txt")))
  end)

  it("goes on where an earlier run stopped, from a list on standard input", function()
    local folder <close> = scratch.folder()
    local place = nginx.url:gsub("^http://", ""):gsub(":", "_")
    folder:write(place .. "/a.txt", "12345")
    local result = host.run({ "examples/mirror.lua", folder.path }, { stdin = nginx.url .. "/a.txt\n\n" })
    assert.same({ 0, "" }, { result.code, result.err })
    assert.equal("12345aaaaa", scratch.content(folder:at(place .. "/a.txt")))
  end)

  it("says how it is called to who gives no URLs on a terminal", function()
    local terminal <close> = terminals.start({ "examples/mirror.lua", "folder" })
    terminal:wait_for("usage: mirror.lua FOLDER")
    assert.equal(2, terminal:wait())
  end)

  it("keeps what has come at Ctrl-C, and goes on from there", function()
    local folder <close> = scratch.folder()
    local text = ("0123456789"):rep(20000)
    local server <close> = web.raw(function(client, head)
      local from = tonumber(head:match("\r\nRange: bytes=(%d+)%-\r\n"))
      if from then
        local range = ("Content-Range: bytes %d-%d/%d"):format(from, #text - 1, #text)
        client:write(web.reply("206 Partial Content", { range }, text:sub(from + 1)))
      else
        client:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"):format(#text) .. text:sub(1, -2))
      end
    end)
    local file = folder:at(server.url:gsub("^http://", ""):gsub(":", "_") .. "/f")
    local child <close> = host.start({ "examples/mirror.lua", folder.path, server.url .. "/f" })
    web.wait_until(function()
      local about = uv.fs_stat(file)
      return about and about.size > 0
    end)
    child:kill("sigint")
    assert.same({ code = 130, signal = 0, out = "", err = "" }, child:wait())
    local half = scratch.content(file)
    assert.is_true(#half < #text)
    assert.equal(text:sub(1, #half), half)
    assert.equal(0, mirror(folder, server.url .. "/f").code)
    assert.equal(2, #server.requests)
    assert.equal(text, scratch.content(file))
  end)
end)
