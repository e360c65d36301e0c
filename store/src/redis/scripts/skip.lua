#!lua
-- Takes entries out of the minute tier and records each as a skipped run.
-- KEYS  1 the dispatcher's lease
-- ARGV  1 prefix, 2 epoch, 3 how many minutes, then each: minute, how many entries, then
--       entry, due (ms), reason, at (text), at (ms), …
-- returns 1
-- Atomic: an occurrence must not be lost between leaving the tier and having its record.
-- An entry that isn't there was dealt with already. A run with a record keeps it (only the entry goes), unless it waits
-- under this very entry: then it was admitted, and makes room.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, position, freed, skipped = ARGV[1], 4, {}, {}
for _ = 1, tonumber(ARGV[3]) do
  local minute, count = ARGV[position], tonumber(ARGV[position + 1])
  local bucket, last = prefix .. 'minute:' .. minute, position + 1 + 5 * tonumber(ARGV[position + 1])
  for i = position + 2, last, 5 do
    if redis.call('ZREM', bucket, ARGV[i]) == 1 then
      local id, revision = string.match(ARGV[i], '^(.*)#(%d+)$')
      local job = string.match(id, '^(.-)@')
      skipped[job] = tonumber(ARGV[i + 4])
      local record = redis.call('HMGET', prefix .. 'run:' .. id, 'state', 'revision')
      if record[1] == 'waiting' and record[2] == revision then
        skip_waiting(prefix, id, ARGV[i + 2], ARGV[i + 3], ARGV[i + 1], limits_of(prefix, job))
        redis.call('ZREM', prefix .. 'open', id)
        redis.call('SREM', prefix .. 'admitted', id)
        freed[job] = true
      else
        record_skipped(prefix, id, revision, ARGV[i + 2], ARGV[i + 3], ARGV[i + 1], limits_of(prefix, job))
      end
    end
  end
  tidy(prefix, 'minute', minute)
  position = last + 1
end
for job in pairs(freed) do let_go(prefix, job, limit_of(try('HGET', prefix .. 'job:' .. job, 'overlap'))) end
for job, at_ms in pairs(skipped) do chain(prefix, job, at_ms) end
return 1
