#!lua
-- Moves members that nobody can read out of the way of the others.
-- KEYS  1 the quarantine
-- ARGV  1 prefix, then each: bucket (what follows the prefix), tier of its index or empty, slice or empty, member
-- returns how many were moved
-- Atomic: a member is in its bucket or in the quarantine, and is moved once.
local prefix, now, moved = ARGV[1], now_ms(), 0
for i = 2, #ARGV, 4 do
  if redis.call('ZREM', prefix .. ARGV[i], ARGV[i + 3]) == 1 then
    redis.call('ZADD', KEYS[1], now, ARGV[i] .. ' ' .. ARGV[i + 3])
    moved = moved + 1
  end
  if ARGV[i + 1] ~= '' then tidy(prefix, ARGV[i + 1], ARGV[i + 2]) end
end
return moved
