-- Closes a luv handle, and waits until its close callback has come: it is gone for good then.
local allua = require("allua")

return function(handle)
  if handle and not handle:is_closing() then
    local closed = allua.promise()
    handle:close(function()
      closed:resolve()
    end)
    closed:await()
  end
end
