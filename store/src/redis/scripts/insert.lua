#!lua
-- Puts one occurrence of a job straight into the minute tier, at the first free millisecond of a second.
-- KEYS  1 the job's record
-- ARGV  1 prefix, 2 job, 3 the second (text without zone, 2026-11-22T06:45:17), 4 its start (ms),
--       5 the first millisecond to try (0 to 999), 6 minute, 7 the minute's start (ms)
-- returns the due instant (ms); nil if there is no such job; -1 if the rest of the second is taken
-- Atomic: two triggers at the same instant must become two runs. Taken: an entry of the present revision, or a run
-- with a record.
local prefix, job = ARGV[1], ARGV[2]
local record = redis.call('HMGET', KEYS[1], 'revision', 'v')
if not record[1] and not record[2] then return false end
if not tonumber(record[1] or '') then return corrupt_reply(KEYS[1], 'field revision is no number') end
local bucket = prefix .. 'minute:' .. ARGV[6]
for ms = tonumber(ARGV[5]), 999 do
  local fraction = ms == 0 and 'Z' or string.format('.%03dZ', ms)
  local id = job .. '@' .. ARGV[3] .. fraction
  local entry = id .. '#' .. record[1]
  if not redis.call('ZSCORE', bucket, entry) and redis.call('EXISTS', prefix .. 'run:' .. id) == 0 then
    local due_ms = tonumber(ARGV[4]) + ms
    redis.call('ZADD', bucket, due_ms, entry)
    redis.call('ZADD', prefix .. 'minutes', ARGV[7], ARGV[6])
    return due_ms
  end
end
return -1
