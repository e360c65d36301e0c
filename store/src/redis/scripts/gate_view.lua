#!lua flags=no-writes
-- How a queue's gate stands.
-- KEYS  1 active, 2 lines, 3 due marks
-- ARGV  1 prefix of the lines' keys
-- returns {active, the queue's due mark (µs) or nil, {line, how many wait, due of the first (ms), …}}
-- Atomic: a run that is let go meanwhile would be counted twice, or not at all.
local rows = {}
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local key = ARGV[1] .. string.gsub(name, ' ', ':', 1)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  rows[#rows + 1], rows[#rows + 2], rows[#rows + 3] = name, redis.call('ZCARD', key), first[2] or '0'
end
return {redis.call('ZCARD', KEYS[1]), redis.call('ZSCORE', KEYS[3], '='), rows}
