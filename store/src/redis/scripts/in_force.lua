#!lua flags=no-writes
-- The revision of a job that is in force: no run of an older one is published any more, and no executor that asks for edits
-- starts one.
-- KEYS  1 the job's record, 2 the cursor, 3 the dispatcher's lease
-- ARGV  (none)
-- returns the revision (text); nil if there is no such job
-- Atomic: the three belong together.
if redis.call('HLEN', KEYS[1]) == 0 then return false end
return in_force(KEYS[1], KEYS[2], KEYS[3]) or false
