#!lua
-- Takes stale entries out of the minute tier, without any record.
-- KEYS  1 the dispatcher's lease
-- ARGV  1 prefix, 2 epoch, 3 how many minutes, then each: minute, how many entries, entry, …
-- returns 1
-- Atomic: with the check of the lease.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, position = ARGV[1], 4
for _ = 1, tonumber(ARGV[3]) do
  local minute, count = ARGV[position], tonumber(ARGV[position + 1])
  redis.call('ZREM', prefix .. 'minute:' .. minute, unpack(ARGV, position + 2, position + 1 + count))
  tidy(prefix, 'minute', minute)
  position = position + 2 + count
end
return 1
