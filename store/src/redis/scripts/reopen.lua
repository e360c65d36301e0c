#!lua
-- Opens an ended run again, in its next generation.
-- KEYS  1 the run's record, 2 sent, 3 the open runs
-- ARGV  1 prefix, 2 run id, 3 generation, 4 published (the field's text), 5 when to worry (ms), 6 revision, if it has none
-- returns 1 reopened, 0 it may not be (model::run::may_reopen)
-- Atomic: the new generation's end may be settled at the same time, and must not be undone.
local prefix, id, generation = ARGV[1], ARGV[2], tonumber(ARGV[3])
local run, job = KEYS[1], string.match(ARGV[2], '^(.-)@')
local standing = redis.call('HMGET', run, 'state', 'generation', 'attempt', 'executor', 'error', 'revision')
local known = tonumber(standing[2] or 0) or 0
if standing[1] and (standing[1] == 'waiting' or known >= generation) then return 0 end
if standing[3] then keep_attempt(run, known, standing[3], standing[4], standing[5]) end
redis.call('HDEL', run, 'error', 'output', 'skip_reason', 'ended_at', 'attempt', 'executor', 'republished', 'waits_for',
  'cancel')
redis.call('HSET', run, 'v', '1', 'state', 'dispatched', 'generation', ARGV[3], 'published', ARGV[4], 'revision',
  standing[6] or ARGV[6])
redis.call('PERSIST', run)
for _, kind in ipairs({'succeeded', 'failed', 'skipped'}) do
  redis.call('ZREM', prefix .. 'history:' .. job .. ':' .. kind, id)
end
redis.call('ZADD', KEYS[2], ARGV[5], id)
redis.call('ZADD', KEYS[3], 0, id)
return 1
