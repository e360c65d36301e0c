-- history.lua: how ended runs are remembered and forgotten. Put behind the prelude of the scripts that end runs.

-- A run of a job that has no record (deleted, or not rebuilt yet after a wipe) is remembered for as long as outcomes are
-- kept in their stream, then forgotten: nobody else would remove it.
local ORPHAN_S = 7 * 24 * 3600
-- What a job without a record keeps.
local LIMITS_DEFAULT = 'succeeded=3 failed=10 skipped=100'

-- A run has ended: what it brought along isn't needed any more, and its backfill may count it. Only triggered runs, due at
-- fractions of a second, bring something along.
local function note_end(prefix, kind, id)
  if string.find(id, '%.%d+Z$') then redis.call('HDEL', prefix .. 'overrides', id) end
  local backfill = backfill_of(prefix, id)
  if backfill and not string.find(backfill, ' ') then
    redis.call('HSET', prefix .. 'backfill-runs', id, backfill .. ' ' .. kind)
  end
end

-- Puts an ended run on its job's list and trims that list to its limit; the runs due longest ago go first.
-- `limits` is the job's `history` field, or nil if there is no such job.
local function remember(prefix, job, kind, limits, id, due_ms)
  note_end(prefix, kind, id)
  local list = prefix .. 'history:' .. job .. ':' .. kind
  redis.call('ZADD', list, due_ms, id)
  if not limits then
    redis.call('EXPIRE', prefix .. 'run:' .. id, ORPHAN_S)
    redis.call('EXPIRE', list, ORPHAN_S)
  end
  local limit = tonumber(string.match(limits or LIMITS_DEFAULT, kind .. '=(%d+)')) or 0
  local over = redis.call('ZCARD', list) - limit
  if over > 0 then
    local gone = redis.call('ZPOPMIN', list, over)
    for i = 1, #gone, 2 do
      redis.call('UNLINK', prefix .. 'run:' .. gone[i])
    end
  end
end

-- The `history` field of a job, nil if there is no readable record.
local function limits_of(prefix, job)
  return try('HGET', prefix .. 'job:' .. job, 'history') or nil
end

-- Ends a run that waits as skipped: the caller has taken its entry from wherever it waited.
local function skip_waiting(prefix, id, reason, at, due_ms, limits)
  local run = prefix .. 'run:' .. id
  redis.call('HDEL', run, 'waits_for')
  redis.call('HSET', run, 'state', 'skipped', 'skip_reason', reason, 'ended_at', at)
  local job = string.match(id, '^(.-)@')
  if limits then redis.call('HINCRBY', prefix .. 'stats:' .. job, 'skipped', 1) end
  remember(prefix, job, 'skipped', limits, id, due_ms)
end

-- Records that an occurrence will never be published, unless its run has a record already.
local function record_skipped(prefix, id, revision, reason, at, due_ms, limits)
  local run = prefix .. 'run:' .. id
  if redis.call('EXISTS', run) == 1 then return end
  redis.call('HSET', run, 'v', '1', 'state', 'skipped', 'revision', revision, 'skip_reason', reason, 'ended_at', at)
  local job = string.match(id, '^(.-)@')
  if limits then redis.call('HINCRBY', prefix .. 'stats:' .. job, 'skipped', 1) end
  remember(prefix, job, 'skipped', limits, id, due_ms)
end
