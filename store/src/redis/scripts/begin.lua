#!lua
-- Creates a shard's cursor, unless there is one.
-- KEYS  1 the planner's lease, 2 the cursor
-- ARGV  1 epoch, 2… field, value, …
-- returns the values of v, incarnation, planned_until_ms, taken_until_ms, spec_revision as they are now
-- Atomic: two planners must not each mint an incarnation.
if fenced(KEYS[1], ARGV[1]) then return fence_reply() end
if redis.call('HEXISTS', KEYS[2], 'incarnation') == 0 then
  redis.call('HSET', KEYS[2], unpack(ARGV, 2))
end
return redis.call('HMGET', KEYS[2], 'v', 'incarnation', 'planned_until_ms', 'taken_until_ms', 'spec_revision')
