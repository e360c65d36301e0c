#!lua
-- Announces a node, with the store's time.
-- KEYS  1 the hash of nodes
-- ARGV  1 node id, 2 its announcement (a JSON object without heartbeat_at_ms)
-- returns {now (ms), {id, json, …}}
-- Atomic: the time in the record and the answer is one reading of one clock.
local now = now_ms()
local record = string.sub(ARGV[2], 1, -2) .. ',"heartbeat_at_ms":' .. digits(now) .. '}'
redis.call('HSET', KEYS[1], ARGV[1], record)
return {now, redis.call('HGETALL', KEYS[1])}
