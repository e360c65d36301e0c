#!lua flags=no-writes
-- The revision of a job that is in force: no dispatcher publishes a run of an older one any more.
-- KEYS  1 the job's record, 2 the cursor, 3 the dispatcher's lease
-- ARGV  (none)
-- returns the revision (text); nil if there is no such job
-- Atomic: the three belong together.
-- `barrier` holds how often the shard had been taken when the newest revision was installed, and the revision before. A
-- dispatcher takes again only once all that it took before is published; without one, nobody publishes anything.
local record = redis.call('HMGET', KEYS[1], 'revision', 'barrier')
if not record[1] then return false end
local takes, before = string.match(record[2] or '', '^(%d+) (%d+)$')
if not takes then return record[1] end
local now = tonumber(redis.call('HGET', KEYS[2], 'takes') or '') or 0
if now > tonumber(takes) or redis.call('EXISTS', KEYS[3]) == 0 then return record[1] end
return before
