#!lua
-- Folds the ends of some runs into their records: out of `sent`, the minute tier or wherever they wait, into their jobs'
-- histories; and lets go who waited for them.
-- KEYS  1 sent, 2 the open runs
-- ARGV  1 prefix, 2 how many, then each: run id, revision, due (ms), minute, kind of history, generation,
--       what to count if it was never started before (words), settled at (ms), when the last attempt started and ended (ms; the
--       first empty if there was none), how many fields, then field, value, …
-- returns {2|1|0, …}: 1 recorded, 2 likewise and another run of its job may be due now, 0 the run had an outcome already
-- Atomic: of many reports of one end exactly one must count (model::run::accepts_end).
local prefix, position = ARGV[1], 3
local replies, ended, jobs, limited, chained = {}, {}, {}, {}, {}
local KIND = {succeeded = 'succeeded', ['dead-lettered'] = 'failed', cancelled = 'failed', skipped = 'skipped'}
for n = 1, tonumber(ARGV[2]) do
  local id, revision, due_ms, minute, kind, generation, counted, settled_ms, started_ms, ended_ms =
    unpack(ARGV, position, position + 9)
  local first, last = position + 11, position + 10 + 2 * tonumber(ARGV[position + 10])
  position = last + 1
  local run, job = prefix .. 'run:' .. id, string.match(id, '^(.-)@')
  local standing = redis.call('HMGET', run, 'state', 'generation', 'attempt', 'revision', 'live', 'cancel', 'first')
  local state, known = standing[1], tonumber(standing[2] or 0) or 0
  local reported = tonumber(generation)
  local accepted = not state or reported > known or ((state == 'dispatched' or state == 'waiting') and reported == known)
  replies[n] = accepted and 1 or 0
  if accepted then
    local record = jobs[job]
    if not record then
      record = try('HMGET', prefix .. 'job:' .. job, 'revision', 'history', 'overlap', 'after') or {}
      jobs[job] = record
    end
    ended[#ended + 1] = id
    local edited = record[1] and record[1] ~= revision
    -- A run that was confirmed has left the minute tier, unless it waits there under another revision, too.
    if state ~= 'dispatched' or edited or standing[4] ~= revision then
      local bucket = prefix .. 'minute:' .. minute
      local removed = redis.call('ZREM', bucket, id .. '#' .. revision)
      if edited then removed = removed + redis.call('ZREM', bucket, id .. '#' .. record[1]) end
      if removed > 0 then tidy(prefix, 'minute', minute) end
    end
    if state == 'waiting' then
      local entry = id .. '#' .. standing[4]
      local removed = redis.call('ZREM', prefix .. 'waits:' .. job, entry) + redis.call('ZREM', prefix .. 'held', entry)
      if removed == 0 and redis.call('ZREM', prefix .. 'minute:' .. minute, entry) > 0 then tidy(prefix, 'minute', minute) end
      redis.call('HDEL', run, 'waits_for')
      redis.call('SREM', prefix .. 'admitted', id)
    end
    if standing[6] then
      redis.call('ZREM', prefix .. 'cancelling', id)
      if redis.call('ZREM', prefix .. 'withdrawn', id) == 1 then redis.call('PERSIST', run) end
    end
    if record[3] then limited[job] = n end
    if record[4] then chained[job] = {n, tonumber(settled_ms)} end
    if started_ms ~= '' then
      local started_first, text = first_start(standing[7], generation, started_ms)
      -- Of a run that ends at its first attempt that attempt tells it; only a redrive would overwrite it.
      if standing[7] or kind == 'failed' then redis.call('HSET', run, 'first', text) end
      counted = string.gsub(counted, 'took:%d+', 'took:' .. bucket_of(tonumber(ended_ms) - started_first))
      counted = without_lateness(counted, standing[7], prefix, id)
    end
    if record[2] then count(prefix, job, counted) end
    if KIND[state] and standing[3] then
      local past = redis.call('HMGET', run, 'executor', 'error')
      keep_attempt(run, known, standing[3], past[1], past[2])
    end
    if state and (state ~= 'dispatched' or standing[3] or standing[5]) then
      redis.call('HDEL', run, 'error', 'output', 'skip_reason', 'live')
      local old = KIND[state]
      if old and old ~= kind then redis.call('ZREM', prefix .. 'history:' .. job .. ':' .. old, id) end
    end
    redis.call('HSET', run, unpack(ARGV, first, last))
    remember(prefix, job, kind, record[2] or nil, id, due_ms)
  end
end
for first = 1, #ended, UNPACK_MAX do
  local last = math.min(first + UNPACK_MAX - 1, #ended)
  redis.call('ZREM', KEYS[1], unpack(ended, first, last))
  redis.call('ZREM', KEYS[2], unpack(ended, first, last))
end
for job, n in pairs(limited) do
  if let_go(prefix, job, limit_of(jobs[job][3])) > 0 then replies[n] = 2 end
end
for job, end_ in pairs(chained) do
  local due_ms = chain(prefix, job, end_[2])
  if due_ms and due_ms < end_[2] + NEAR_MS then replies[end_[1]] = 2 end
end
return replies
