#!lua
-- Frees a unique key, if it is taken for this run.
-- KEYS  1 the key
-- ARGV  1 run id, 2… each `until` that what happened frees (model::unique::Until::is_freed_by)
-- returns 1 if it was freed
-- Atomic: it may be freed and taken for another run meanwhile.
local taken = redis.call('HMGET', KEYS[1], 'run', 'until')
if taken[1] ~= ARGV[1] then return 0 end
for i = 2, #ARGV do
  if taken[2] == ARGV[i] then return redis.call('DEL', KEYS[1]) end
end
return 0
