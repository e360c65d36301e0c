#!lua
-- Cancels a run that nobody can have started; marks one that somebody may have, for the dispatcher to stop it.
-- KEYS  1 the run's record, 2 the job's record, 3 the cursor
-- ARGV  1 prefix, 2 run id, 3 due (ms), 4 minute, 5 whether the job's schedule names it 0|1,
--       6 the mark (the field's text), 7 at (text), 8 at (ms), 9 whether to end it even if it was started 0|1
-- returns 'cancelled'; 'released' (likewise, and a run that waited for it is due now); 'requested'; 'unknown' (it isn't planned);
--   or 'ended' and the state in which it has
-- Atomic: with every step of a run's life. One that was taken and has no record may be on its way into the stream, unless its
-- job is limited: then it would be claimed. A run that is withdrawn before it was taken keeps its record until a week after
-- it would have been due, whatever its job's history keeps: it must not be planned again.
local prefix, id, due_ms, minute = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local run, job, bucket = KEYS[1], string.match(ARGV[2], '^(.-)@'), prefix .. 'minute:' .. ARGV[4]
local record = redis.call('HMGET', run, 'state', 'waits_for', 'revision')
local present = try('HMGET', KEYS[2], 'revision', 'history', 'overlap') or {}
local state = record[1]

local function remove(revision)
  if revision and redis.call('ZREM', bucket, id .. '#' .. revision) > 0 then tidy(prefix, 'minute', minute) end
end

local function finish()
  redis.call('HDEL', run, 'waits_for')
  redis.call('HSET', run, 'v', '1', 'state', 'cancelled', 'revision', record[3] or present[1] or '0', 'ended_at', ARGV[7])
  redis.call('HSETNX', run, 'cancel', ARGV[6])
  for _, key in ipairs({'sent', 'open', 'cancelling'}) do redis.call('ZREM', prefix .. key, id) end
  redis.call('SREM', prefix .. 'admitted', id)
  -- How late it was and how long it took, nobody knows.
  if present[2] then redis.call('HINCRBY', prefix .. 'stats:' .. job, 'cancelled', 1) end
end

local function finish_and_remember()
  finish()
  remember(prefix, job, 'failed', present[2] or nil, id, due_ms)
  local released = let_go(prefix, job, limit_of(present[3])) > 0
  chain(prefix, job, tonumber(ARGV[8]))
  return released and 'released' or 'cancelled'
end

if not state then
  local planned = present[1] and redis.call('ZSCORE', bucket, id .. '#' .. present[1])
  local taken = tonumber(redis.call('HGET', KEYS[3], 'taken_until_ms') or '') or -1
  local spaced = digits(due_ms) .. ' ' .. id .. '#' .. (present[1] or '')
  if redis.call('ZREM', prefix .. 'spaced', spaced) == 1 then return finish_and_remember() end
  if due_ms <= taken then
    if not planned then return 'unknown' end
    if present[3] then
      remove(present[1])
      return finish_and_remember()
    end
    redis.call('HSET', run, 'v', '1', 'state', 'waiting', 'revision', present[1], 'waits_for', 'dispatch', 'cancel', ARGV[6])
    redis.call('ZADD', prefix .. 'open', 0, id)
    redis.call('SADD', prefix .. 'admitted', id)
    return 'requested'
  end
  if not planned and (ARGV[5] == '0' or not present[1]) then return 'unknown' end
  remove(present[1])
  finish()
  note_end(prefix, 'failed', id)
  local first, last = '[' .. job .. '@', '[' .. job .. '@\255'
  for _, other in ipairs(redis.call('ZRANGE', prefix .. 'withdrawn', first, last, 'BYLEX', 'LIMIT', 0, 100)) do
    if redis.call('EXISTS', prefix .. 'run:' .. other) == 0 then redis.call('ZREM', prefix .. 'withdrawn', other) end
  end
  redis.call('ZADD', prefix .. 'withdrawn', 0, id)
  redis.call('EXPIRE', run, math.floor(math.max(due_ms - tonumber(ARGV[8]), 0) / 1000) + ORPHAN_S)
  chain(prefix, job, due_ms)
  return 'cancelled'
end
if state == 'waiting' and record[2] ~= 'dispatch' then
  local entry = id .. '#' .. record[3]
  redis.call('ZREM', prefix .. 'waits:' .. job, entry)
  redis.call('ZREM', prefix .. 'held', entry)
  remove(record[3])
  return finish_and_remember()
end
if state ~= 'waiting' and state ~= 'dispatched' then return 'ended ' .. state end
if state == 'dispatched' and ARGV[9] == '1' then return finish_and_remember() end
redis.call('HSETNX', run, 'cancel', ARGV[6])
if state == 'dispatched' then redis.call('ZADD', prefix .. 'cancelling', 'NX', ARGV[8], id) end
return 'requested'
