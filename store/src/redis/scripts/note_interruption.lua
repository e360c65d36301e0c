#!lua
-- Remembers a time in which nobody took a shard's entries.
-- KEYS  1 the dispatcher's lease, 2 the interruptions
-- ARGV  1 epoch, 2 until (ms), 3 since and until (text), 4 how many are kept
-- returns 1
-- Atomic: with the check of the lease.
if fenced(KEYS[1], ARGV[1]) then return fence_reply() end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[4]))
return 1
