#!lua
-- Remembers how a run of ad-hoc work stands, unless something newer is known.
-- KEYS  1 the run
-- ARGV  1 generation, 2 '1' if it has ended, else '0', 3 attempt, 4 for how long (s), 5 the run (text), 6 when that attempt started (ms)
-- returns 1 if it was remembered
-- Atomic: reports of one run may be settled by several dispatchers at once.
local known = redis.call('HMGET', KEYS[1], 'generation', 'ended', 'attempt', 'first')
for i = 1, 3 do
  local old, new = tonumber(known[i] or -1) or -1, tonumber(ARGV[i])
  if new < old then return 0 end
  if new > old then break end
end
local _, first = first_start(known[4], ARGV[1], ARGV[6])
redis.call('HSET', KEYS[1], 'v', '1', 'generation', ARGV[1], 'ended', ARGV[2], 'attempt', ARGV[3], 'run', ARGV[5],
  'first', first)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
