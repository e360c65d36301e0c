#!lua
-- Puts one run that somebody asked for into the minute tier, at the first free millisecond of a second, with what it
-- brings along.
-- KEYS  1 the job's record, 2 the trigger's key, 3 the overrides
-- ARGV  1 prefix, 2 job, 3 the second (text without zone, 2026-11-22T06:45:17), 4 its start (ms),
--       5 the first millisecond to try (1 to 999), 6 minute, 7 the minute's start (ms),
--       8 1 if there is a key, 9 how long it is kept (ms), 10 the payload or empty (its job's)
-- returns {due (ms), 1 if it is an earlier trigger's run}; nil if there is no such job; -1 if the rest of the second is taken
-- Atomic: two triggers with one key must become one run, and two at one instant without keys two.
-- Its field among the overrides also says that it was triggered: an edit that comes before it is dispatched doesn't concern it.
-- Taken: an entry of the present revision, or a run with a record. A full second is the schedules'.
local prefix, job = ARGV[1], ARGV[2]
if ARGV[8] == '1' then
  local first = tonumber(redis.call('GET', KEYS[2]) or '')
  if first then return {first, 1} end
end
local record = redis.call('HMGET', KEYS[1], 'revision', 'v')
if not record[1] and not record[2] then return false end
if not tonumber(record[1] or '') then return corrupt_reply(KEYS[1], 'field revision is no number') end
local bucket = prefix .. 'minute:' .. ARGV[6]
for ms = tonumber(ARGV[5]), 999 do
  local id = job .. '@' .. ARGV[3] .. string.format('.%03dZ', ms)
  local entry = id .. '#' .. record[1]
  if not redis.call('ZSCORE', bucket, entry) and redis.call('EXISTS', prefix .. 'run:' .. id) == 0 then
    local due_ms = tonumber(ARGV[4]) + ms
    redis.call('ZADD', bucket, due_ms, entry)
    redis.call('ZADD', prefix .. 'minutes', ARGV[7], ARGV[6])
    if ARGV[8] == '1' then redis.call('SET', KEYS[2], digits(due_ms), 'PX', ARGV[9]) end
    redis.call('HSET', KEYS[3], id, ARGV[10])
    return {due_ms, 0}
  end
end
return -1
