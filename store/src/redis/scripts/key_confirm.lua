#!lua
-- Notes that the run for which a unique key is taken was published.
-- KEYS  1 the key
-- ARGV  1 run id
-- returns 1 if it is taken for that run
-- Atomic: it may be freed and taken for another run meanwhile.
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'published', '1')
return 1
