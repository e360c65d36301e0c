#!lua
-- Forgets that runs belong to a backfill.
-- KEYS  1 the planner's lease, 2 the runs of backfills
-- ARGV  1 epoch, 2… run ids
-- returns 1
-- Atomic: fenced.
if fenced(KEYS[1], ARGV[1]) then return fence_reply() end
redis.call('HDEL', KEYS[2], unpack(ARGV, 2))
return 1
