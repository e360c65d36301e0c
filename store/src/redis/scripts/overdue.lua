#!lua flags=no-writes
-- Published runs without an outcome, by when to worry about them.
-- KEYS  1 sent
-- ARGV  1 prefix, 2 worried about up to (ms, or +inf), 3 limit, 4… the fields to read of each run
-- returns {run id, worry at (ms), {value, …}, …}; the values are empty if the record is of another type
-- Atomic: a run's place in `sent` and its record belong together.
local rows = {}
local sent = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
for i = 1, #sent, 2 do
  local n = #rows
  rows[n + 1], rows[n + 2] = sent[i], sent[i + 1]
  rows[n + 3] = try('HMGET', ARGV[1] .. 'run:' .. sent[i], unpack(ARGV, 4)) or {}
end
return rows
