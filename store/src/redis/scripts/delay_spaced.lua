#!lua
-- After an interruption: moves all that is spaced out on together, so that the first of it comes back now.
-- KEYS  1 the dispatcher's lease, 2 spaced
-- ARGV  1 epoch, 2 when the interruption ended (ms)
-- returns how many were moved
-- Atomic: their distances must stay, or a catch-up would be faster than its rate.
-- From the last to the first: whatever moves stays behind those that haven't moved yet.
if fenced(KEYS[1], ARGV[1]) then return fence_reply() end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local late = first[2] and tonumber(ARGV[2]) - tonumber(first[2]) or 0
if late <= 0 then return 0 end
local count = redis.call('ZCARD', KEYS[2])
for last = count - 1, 0, -UNPACK_MAX do
  local page = redis.call('ZRANGE', KEYS[2], math.max(last - UNPACK_MAX + 1, 0), last)
  for i = #page, 1, -1 do redis.call('ZINCRBY', KEYS[2], digits(late), page[i]) end
end
return count
