-- cancel: nothing outlives its group: a failure, a deadline or a signal stops the rest, which clean up.

-- A piece of work that says how it ended. `<close>` runs however the task is left.
local function work(name, seconds)
  local ended = "stopped early"
  local _ <close> = setmetatable({}, {
    __close = function()
      print(("  %s: %s"):format(name, ended))
    end,
  })
  allua.sleep(seconds)
  ended = "done"
  return name
end

print("a failure cancels the other tasks, and comes out as it was raised:")
print(
  "  raised:",
  select(
    2,
    pcall(all, {
      compile = function()
        return work("compile", 0.01)
      end,
      link = function(self)
        error("cannot link what " .. self.compile .. " made", 0)
      end,
      package = function()
        return work("package", 10)
      end,
    })
  )
)

print("a deadline covers all that a function does:")
local in_time, timeout = pcall(allua.timeout, 0.05, function()
  return all({
    fast = function()
      return work("fast", 0.01)
    end,
    slow = function()
      return work("slow", 10)
    end,
  })
end)
print("  raised:", in_time, allua.is_error(timeout, "TimeoutError"))

print("a signal from outside, say of a user who went away:")
local controller = allua.abort_controller()
local user = allua.spawn(function()
  allua.sleep(0.03)
  controller:abort("the user left")
end)
print(
  "  raised:",
  select(
    2,
    pcall(all, {
      answer = function()
        return work("answer", 10)
      end,
    }, { signal = controller.signal })
  )
)
user:await()

print("what must not be left half done is shielded:")
local transfer = allua.spawn(function()
  local _ <close> = setmetatable({}, {
    __close = function()
      allua.shield(function()
        allua.sleep(0.01) -- waiting works here, though the task is cancelled
        print("  transfer: rolled back")
      end)
    end,
  })
  allua.sleep(10)
end)
allua.sleep(0.01)
transfer:cancel("changed my mind")
local _, cancelled = pcall(transfer.await, transfer)
print("  raised:", cancelled.name, cancelled.reason)
