#!lua
-- Notes what an attempt that is under way says of itself.
-- KEYS  1 the run's record
-- ARGV  1 generation, 2 attempt, 3 at (ms), 4 the note (the field's text)
-- returns 1 if it was noted (model::progress::accepts_progress)
-- Atomic: the attempt's end may arrive at the same time.
local record = redis.call('HMGET', KEYS[1], 'state', 'generation', 'attempt', 'live')
if record[1] ~= 'dispatched' or ARGV[1] ~= (record[2] or '0') then return 0 end
local attempt, at = tonumber(ARGV[2]), tonumber(ARGV[3])
if attempt <= (tonumber(string.match(record[3] or '', '^%d+')) or 0) then return 0 end
local noted, noted_at = string.match(record[4] or '', '^%d+ (%d+) (-?%d+) ')
noted, noted_at = tonumber(noted or 0), tonumber(noted_at or 0)
if attempt < noted or (attempt == noted and at < noted_at) then return 0 end
redis.call('HSET', KEYS[1], 'live', ARGV[4])
return 1
