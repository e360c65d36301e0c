#!lua
-- Postpones the worry about a published run.
-- KEYS  1 the dispatcher's lease, 2 sent
-- ARGV  1 epoch, 2 run id, 3 worry at (ms)
-- returns 1
-- Atomic: the run may end at the same time, and must not come back into `sent`.
if fenced(KEYS[1], ARGV[1]) then return fence_reply() end
redis.call('ZADD', KEYS[2], 'XX', ARGV[3], ARGV[2])
return 1
