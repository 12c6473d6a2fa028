-- Dates as HTTP writes them, to seconds since 1970 and back, whatever the locale.
local core = require("allua.core")

--- dates.format(seconds): 784111777 → "Sun, 06 Nov 1994 08:49:37 GMT"
local dates = { format = core.http_date }

local MONTHS = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

local month_numbers = {}
for number, name in ipairs(MONTHS) do
  month_numbers[name] = number
end

local LENGTHS = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_leap(year)
  return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
end

-- Days since 1970 of a date in the Gregorian calendar. A year begins in March here: so the leap day is its last.
local function days_of(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469
end

-- Two digits mean the year that is nearest, and no more than 50 years ahead.
local function whole_year(year)
  if year >= 100 then
    return year
  end
  local now = os.date("!*t").year
  year = year + now // 100 * 100
  return year > now + 50 and year - 100 or year
end

--- The seconds since 1970 of a date in one of HTTP's three forms (RFC 9110, 5.6.7), or nil.
function dates.parse(text)
  local day, month, year, hour, min, sec = text:match("^%a+, (%d%d)[ -](%a%a%a)[ -](%d+) (%d%d):(%d%d):(%d%d) GMT$")
  if not day then
    month, day, hour, min, sec, year = text:match("^%a%a%a (%a%a%a) ([ %d]%d) (%d%d):(%d%d):(%d%d) (%d%d%d%d)$")
  end
  month = month_numbers[month]
  if not month or #year ~= 4 and #year ~= 2 then
    return nil
  end
  day, hour, min, sec = tonumber(day), tonumber(hour), tonumber(min), tonumber(sec)
  year = whole_year(tonumber(year))
  if day < 1 or day > LENGTHS[month] or day == 29 and month == 2 and not is_leap(year) then
    return nil
  elseif hour > 23 or min > 59 or sec > 60 then
    return nil
  end
  return days_of(year, month, day) * 86400 + hour * 3600 + min * 60 + sec
end

return dates
