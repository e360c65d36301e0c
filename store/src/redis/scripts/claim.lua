#!lua
-- Opens the records of runs that are about to be published: waiting, for dispatch.
-- KEYS  1 the dispatcher's lease
-- ARGV  1 prefix, 2 epoch, 3 how many, then each: entry, due (ms), minute, new revision,
--       triggered 0|1
-- returns {1|0, …}: 0 the entry is gone, its run is published or has ended, its job is of another revision, or there is no
--   room (any more)
-- Atomic: never more runs under way than may be (model::overlap::decide), whoever ends or is released meanwhile.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, replies, touched = ARGV[1], {}, {}
for n = 1, tonumber(ARGV[3]) do
  local entry, due_ms, minute, revision, triggered = unpack(ARGV, 5 * n - 1, 5 * n + 3)
  local bucket = prefix .. 'minute:' .. minute
  local id, planned = string.match(entry, '^(.*)#(%d+)$')
  local job, run = string.match(id, '^(.-)@'), prefix .. 'run:' .. id
  replies[n] = 0
  if redis.call('ZSCORE', bucket, entry) then
    local record = redis.call('HMGET', run, 'state', 'revision')
    local present = try('HMGET', prefix .. 'job:' .. job, 'revision', 'overlap') or {}
    local limit = limit_of(present[2])
    if record[1] and (record[1] ~= 'waiting' or record[2] ~= planned) then
      -- Another entry of its occurrence came first.
      redis.call('ZREM', bucket, entry)
      touched[minute] = true
    elseif present[1] ~= revision then
      replies[n] = 0
    elseif not record[1] and limit
      and (active_of(prefix, job) >= limit or redis.call('EXISTS', prefix .. 'waits:' .. job) == 1) then
      let_go(prefix, job, limit)
    else
      if planned ~= revision then
        redis.call('ZREM', bucket, entry)
        redis.call('ZADD', bucket, due_ms, id .. '#' .. revision)
      end
      redis.call('HSET', run, 'v', '1', 'state', 'waiting', 'revision', revision, 'waits_for', 'dispatch')
      if triggered == '1' then redis.call('HSET', run, 'triggered', '1') end
      redis.call('ZADD', prefix .. 'open', 0, id)
      redis.call('SADD', prefix .. 'admitted', id)
      replies[n] = 1
    end
  end
end
for minute in pairs(touched) do tidy(prefix, 'minute', minute) end
return replies
