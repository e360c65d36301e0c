#!lua
-- Folds the ends of some runs into their records: out of `sent` and the minute tier, into their jobs' histories.
-- KEYS  1 sent
-- ARGV  1 prefix, 2 how many, then each: run id, revision, due (ms), minute, kind of history, generation,
--       how many fields, then field, value, …
-- returns {1|0, …}: 1 recorded, 0 the run had an outcome already
-- Atomic: of many reports of one end exactly one must count (model::run::accepts_end).
local prefix, sent, position = ARGV[1], KEYS[1], 3
local replies = {}
local KIND = {succeeded = 'succeeded', ['dead-lettered'] = 'failed', cancelled = 'failed', skipped = 'skipped'}
for n = 1, tonumber(ARGV[2]) do
  local id, revision, due_ms, minute, kind, generation = unpack(ARGV, position, position + 5)
  local first, last = position + 7, position + 6 + 2 * tonumber(ARGV[position + 6])
  position = last + 1
  local run, job = prefix .. 'run:' .. id, string.match(id, '^(.-)@')
  local standing = redis.call('HMGET', run, 'state', 'generation')
  local state, known = standing[1], tonumber(standing[2] or 0) or 0
  local reported = tonumber(generation)
  local accepted = not state or reported > known or (state == 'dispatched' and reported == known)
  replies[n] = accepted and 1 or 0
  if accepted then
    local record = try('HMGET', prefix .. 'job:' .. job, 'revision', 'history') or {}
    redis.call('ZREM', sent, id)
    local entries = {id .. '#' .. revision}
    -- After an edit the occurrence may be waiting under the new revision as well.
    if record[1] and record[1] ~= revision then entries[2] = id .. '#' .. record[1] end
    if redis.call('ZREM', prefix .. 'minute:' .. minute, unpack(entries)) > 0 then tidy(prefix, 'minute', minute) end
    if state then
      redis.call('HDEL', run, 'error', 'output', 'skip_reason')
      local old = KIND[state] or 'open'
      if old ~= kind then redis.call('ZREM', prefix .. 'history:' .. job .. ':' .. old, id) end
    end
    redis.call('HSET', run, unpack(ARGV, first, last))
    remember(prefix, job, kind, record[2] or nil, id, due_ms)
  end
end
return replies
