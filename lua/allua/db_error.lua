-- What an error of a database tells beside what the database says: the statement, and the line that asked.
local allua = require("allua")
local core = require("allua.core")

local told = {}

local OWN = "allua/db[%w_]*%.lua"

--- The line of Lua outside of these rooms that asked. Where that was a tail call, `return db:query(…)`, the line is
-- lost: then where the task comes from.
function told.place()
  for level = 2, 30 do
    local info = debug.getinfo(level, "Sl")
    if not info then
      break
    elseif info.currentline > 0 and not info.short_src:find(OWN .. "$") then
      return info.short_src .. ":" .. info.currentline
    end
  end
  local task = core.origin()
  return task and not task:find(OWN .. ":") and task or nil
end

--- Raises what went wrong, told with the statement, without its values, and where it was asked.
function told.explain(err, statement, where)
  if allua.is_error(err, "DbError") and not err.sql then
    err.sql, err.where = statement, where
    err.message = ("%s%s\n  in: %s"):format(where and where .. ": " or "", err.message, statement)
  end
  error(err, 0)
end

--- What many asked by one statement, for one of them: the same with that one's own line.
function told.to(err, where)
  if not allua.is_error(err, "DbError") or not err.where or not where or err.where == where then
    return err
  end
  local own = core.error({ name = "DbError" })
  for name, value in pairs(err) do
    own[name] = value
  end
  own.where, own.message = where, where .. err.message:sub(#err.where + 1)
  return own
end

return told
