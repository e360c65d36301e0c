#!lua
-- Notes a failed attempt that will be retried.
-- KEYS  1 the run's record
-- ARGV  1 generation, 2 attempt, 3 prefix, 4 job, 5 what to count if it is the run's first (words), 6 started (ms),
--       7… field, value, …
-- returns 1 if it was noted: the run is open, and this is its newest attempt
-- Atomic: an older report, or the run's end, may arrive at the same time.
local record = redis.call('HMGET', KEYS[1], 'state', 'generation', 'attempt', 'first')
if record[1] ~= 'dispatched' then return 0 end
local generation, known = tonumber(ARGV[1]), tonumber(record[2] or 0) or 0
if generation < known then return 0 end
if generation == known and tonumber(ARGV[2]) <= (tonumber(string.match(record[3] or '', '^%d+')) or 0) then return 0 end
redis.call('HDEL', KEYS[1], 'error')
local _, first = first_start(record[4], ARGV[1], ARGV[6])
redis.call('HSET', KEYS[1], 'first', first, unpack(ARGV, 7))
local noted = redis.call('HMGET', KEYS[1], 'attempt', 'executor', 'error')
keep_attempt(KEYS[1], generation, noted[1], noted[2], noted[3])
if redis.call('EXISTS', ARGV[3] .. 'job:' .. ARGV[4]) == 1 then
  local id = string.sub(KEYS[1], #ARGV[3] + #'run:' + 1)
  count(ARGV[3], ARGV[4], without_lateness(ARGV[5], record[4], ARGV[3], id))
end
return 1
