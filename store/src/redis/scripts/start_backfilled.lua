#!lua
-- Puts occurrences of a job into the minute tier for a backfill.
-- KEYS  1 the planner's lease, 2 the job's record, 3 the runs of backfills
-- ARGV  1 prefix, 2 epoch, 3 job, 4 backfill, then each: minute, its start (ms), due (text), due (ms)
-- returns {1|0, …}: 1 it is a run of this backfill, 0 there was a run already; nil if there is no such job
-- Atomic: an occurrence that falls due by its schedule at the same time must become one run, and belong to one of them.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, job, backfill = ARGV[1], ARGV[3], ARGV[4]
local record = redis.call('HMGET', KEYS[2], 'revision', 'v')
if not record[1] and not record[2] then return false end
if not tonumber(record[1] or '') then return corrupt_reply(KEYS[2], 'field revision is no number') end
local replies = {}
for i = 5, #ARGV, 4 do
  local minute, id = ARGV[i], job .. '@' .. ARGV[i + 2]
  local entry = id .. '#' .. record[1]
  local owner = redis.call('HGET', KEYS[3], id)
  if owner then
    replies[#replies + 1] = string.match(owner, '^[^ ]+') == backfill and 1 or 0
  elseif redis.call('EXISTS', prefix .. 'run:' .. id) == 1 or redis.call('ZSCORE', prefix .. 'minute:' .. minute, entry) then
    replies[#replies + 1] = 0
  else
    redis.call('ZADD', prefix .. 'minute:' .. minute, ARGV[i + 3], entry)
    redis.call('ZADD', prefix .. 'minutes', ARGV[i + 1], minute)
    redis.call('HSET', KEYS[3], id, backfill)
    replies[#replies + 1] = 1
  end
end
return replies
