#!lua flags=allow-oom
-- Gives one shard's lease back, if it is this node's.
-- KEYS  1 the lease
-- ARGV  1 node
-- returns 1 if it was
-- Atomic: it may expire and be granted to another between looking and deleting.
local lease = redis.call('GET', KEYS[1])
if not lease or string.match(lease, '^(.*) %d+$') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
