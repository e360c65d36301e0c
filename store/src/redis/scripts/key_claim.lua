#!lua
-- Takes a unique key for a run of ad-hoc work, unless it is taken.
-- KEYS  1 the key
-- ARGV  1 run id, 2 until ('started', 'done' or 'period'), 3 for how long at most (ms)
-- returns {} if it is ours now, else {the run that it is taken for, '1' if that was published or nil}
-- Atomic: of two submissions one must come first.
local taken = redis.call('HMGET', KEYS[1], 'run', 'published')
if taken[1] then return taken end
redis.call('HSET', KEYS[1], 'v', '1', 'run', ARGV[1], 'until', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {}
