-- In a stock Lua, allua runs on luv's loop: what one of them waits for does not stop the other.

local uv = require("luv")
local allua = require("allua")
local check = require("spec.support.check")

check("a wait fires luv's timers", function()
  local fired = 0
  local timer = uv.new_timer()
  timer:start(1, 1, function()
    fired = fired + 1
  end)
  allua.sleep(0.05)
  timer:close()
  assert(fired > 1)
end)

check("a callback of luv's settles a promise", function()
  local promise = allua.promise()
  local timer = uv.new_timer()
  timer:start(1, 0, function()
    timer:close()
    promise:resolve("fired")
  end)
  assert(promise:await() == "fired")
end)

check("promisify makes luv's requests wait", function()
  local open, read, close = allua.promisify(uv.fs_open), allua.promisify(uv.fs_read), allua.promisify(uv.fs_close)
  local file = open(arg[0], "r", 0)
  assert(read(file, 2, 0) == "--")
  close(file)
  local err = check.raises(allua.promisify(uv.fs_stat), "/no/such/file")
  assert(tostring(err):find("ENOENT", 1, true), tostring(err))
end)

check("a wait ends with its task, whatever luv still has open", function()
  local timer = uv.new_timer()
  timer:start(600000, 0, function() end)
  allua.sleep(0.001)
  assert(allua.all({
    function()
      return 1
    end,
  })[1] == 1)
  timer:close()
end)

check("uv.run moves allua's tasks, and ends with them", function()
  local ended = false
  allua.spawn(function()
    allua.all({
      function()
        allua.sleep(0.01)
      end,
      function()
        allua.sleep(0.02)
      end,
    })
    ended = true
  end)
  uv.run()
  assert(ended)
end)

check("an idle allua does not keep the loop alive", function()
  allua.sleep(0.001)
  uv.run()
  assert(not uv.loop_alive())
end)

check("a callback of luv's may start tasks", function()
  local got
  local timer = uv.new_timer()
  timer:start(1, 0, function()
    timer:close()
    allua.spawn(function()
      allua.sleep(0.001)
      got = "from a callback"
    end)
  end)
  uv.run()
  assert(got == "from a callback")
end)

check("a callback of luv's cannot wait, and the error says so", function()
  local ok, err
  local timer = uv.new_timer()
  timer:start(1, 0, function()
    timer:close()
    ok, err = pcall(allua.sleep, 0.001)
  end)
  uv.run()
  assert(ok == false, "it ran the loop inside the loop")
  assert(tostring(err):find("callback", 1, true), tostring(err))
  allua.sleep(0.001)
end)

check.done()
