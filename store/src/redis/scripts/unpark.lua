#!lua
-- Puts runs that wait for their queue back into the minute tier.
-- KEYS  1 held
-- ARGV  1 prefix, 2… run id, …
-- returns {1|0, …}: 0 the run doesn't wait for its queue
-- Atomic: a run is in one place at a time.
local replies = {}
for n = 1, #ARGV - 1 do
  local id = ARGV[n + 1]
  local revision = redis.call('HGET', ARGV[1] .. 'run:' .. id, 'revision')
  local entry = id .. '#' .. (revision or '')
  local due_ms = redis.call('ZSCORE', KEYS[1], entry)
  replies[n] = due_ms and 1 or 0
  if due_ms then
    redis.call('ZREM', KEYS[1], entry)
    put_back(ARGV[1], entry, tonumber(due_ms))
  end
end
return replies
