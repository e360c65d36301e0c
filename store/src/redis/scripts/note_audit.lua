#!lua
-- Remembers what an audit of a shard came to.
-- KEYS  1 the planner's lease, 2 the audit
-- ARGV  1 epoch, 2 found, 3 mended, 4… field, value, …
-- returns 1
-- Atomic: with the check of the lease; two audits add up.
if fenced(KEYS[1], ARGV[1]) then return fence_reply() end
redis.call('HINCRBY', KEYS[2], 'found', ARGV[2])
redis.call('HINCRBY', KEYS[2], 'mended', ARGV[3])
redis.call('HSET', KEYS[2], unpack(ARGV, 4))
return 1
