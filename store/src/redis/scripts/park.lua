#!lua
-- Takes entries out of the minute tier and lets their runs wait.
-- KEYS  1 the dispatcher's lease
-- ARGV  1 prefix, 2 epoch, 3 how many, 4 the reason of those whose place a newer one takes, then each:
--       entry, due (ms), minute, triggered 0|1, at (text), what it waits for (overlap or queue),
--       newest only 0|1 (of overlap)
-- returns {1|0, …}: 0 the entry is gone, its run is published or has ended, or there is room for it by now (so, too, if
--   its job is gone or not limited any more)
-- Atomic: a run that waits for an earlier one must not miss its end.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, replies, touched = ARGV[1], {}, {}
for n = 1, tonumber(ARGV[3]) do
  local entry, due_ms, minute, triggered, at, wait, newest_only = unpack(ARGV, 7 * n - 2, 7 * n + 4)
  local bucket = prefix .. 'minute:' .. minute
  local id, revision = string.match(entry, '^(.*)#(%d+)$')
  local job, run = string.match(id, '^(.-)@'), prefix .. 'run:' .. id
  local waits = prefix .. 'waits:' .. job
  replies[n] = 0
  if redis.call('ZSCORE', bucket, entry) then
    local record = redis.call('HMGET', run, 'state', 'revision')
    local limit = limit_of(try('HGET', prefix .. 'job:' .. job, 'overlap'))
    local admitted = record[1] == 'waiting' and record[2] == revision
    touched[minute] = true
    if record[1] and not admitted then
      -- Another entry of its occurrence came first.
      redis.call('ZREM', bucket, entry)
    elseif wait == 'queue' then
      replies[n] = 1
      redis.call('ZADD', prefix .. 'held', due_ms, entry)
      redis.call('ZADD', prefix .. 'open', 0, id)
    elseif not admitted and limit
      and (active_of(prefix, job) >= limit or redis.call('EXISTS', waits) == 1) then
      replies[n] = 1
      redis.call('ZADD', waits, due_ms, entry)
    end
    if replies[n] == 1 then
      redis.call('ZREM', bucket, entry)
      redis.call('SREM', prefix .. 'admitted', id)
      redis.call('HSET', run, 'v', '1', 'state', 'waiting', 'revision', revision, 'waits_for', wait)
      if triggered == '1' then redis.call('HSET', run, 'triggered', '1') end
    end
    if replies[n] == 1 and wait == 'overlap' then
      local over = newest_only == '1' and redis.call('ZCARD', waits) - 1 or 0
      local gone = over > 0 and redis.call('ZPOPMIN', waits, over) or {}
      for i = 1, #gone, 2 do
        local older = string.match(gone[i], '^(.*)#')
        skip_waiting(prefix, older, ARGV[4], at, gone[i + 1], limits_of(prefix, job))
      end
      let_go(prefix, job, limit)
    end
  end
end
for minute in pairs(touched) do tidy(prefix, 'minute', minute) end
return replies
