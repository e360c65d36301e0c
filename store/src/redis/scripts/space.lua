#!lua
-- Takes entries out of the minute tier until an instant.
-- KEYS  1 the dispatcher's lease, 2 spaced
-- ARGV  1 prefix, 2 epoch, 3… entry, due (ms), minute, not before (ms), …
-- returns 1
-- Atomic: an entry is in one place at a time, and a crash leaves all of these spaced or none.
-- An entry that isn't there was dealt with already; one whose run has a record stays.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local touched = {}
for i = 3, #ARGV, 4 do
  local known = redis.call('EXISTS', ARGV[1] .. 'run:' .. string.match(ARGV[i], '^(.*)#'))
  if known == 0 and redis.call('ZREM', ARGV[1] .. 'minute:' .. ARGV[i + 2], ARGV[i]) == 1 then
    redis.call('ZADD', KEYS[2], ARGV[i + 3], ARGV[i + 1] .. ' ' .. ARGV[i])
    touched[ARGV[i + 2]] = true
  end
end
for minute in pairs(touched) do tidy(ARGV[1], 'minute', minute) end
return 1
