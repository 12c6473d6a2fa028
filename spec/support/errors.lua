-- What specs ask of an error: the value that was raised, and the words in it.

local errors = {}

-- Calls fn, which must raise, and gives the very value that it raised.
function errors.raised(fn, ...)
  local ok, failure = pcall(fn, ...)
  if ok then
    error("expected an error, but nothing was raised", 2)
  end
  return failure
end

-- The message of an error, be it a string or an error table, without the place that it may begin with.
function errors.text(failure)
  local message = failure
  if type(failure) == "table" then
    message = failure.message
  end
  return (tostring(message):gsub("^[^\n]-:%d+: ", "", 1))
end

-- Whether an error's message holds these words, as they stand.
function errors.says(failure, words)
  return errors.text(failure):find(words, 1, true) ~= nil
end

return errors
