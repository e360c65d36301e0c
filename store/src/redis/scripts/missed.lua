#!lua flags=no-writes
-- A page of the minute tier's entries, earliest first.
-- KEYS  1 the dispatcher's lease
-- ARGV  1 prefix, 2 epoch, 3 from (ms, or '(' and ms), 4 up to (ms), 5 start (ms) of the first minute to look at,
--       6 how many to pass over in that minute, 7 limit
-- returns {minute, {entry, due (ms), …}, {revision, …}, {}, …}; revisions as for take
-- Atomic: entries and revisions are of one instant.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
-- The first minute may hold nothing in the range, every other does: hence one more than the limit.
local prefix, groups, left, offset = ARGV[1], {}, tonumber(ARGV[7]), ARGV[6]
for _, minute in ipairs(redis.call('ZRANGE', prefix .. 'minutes', ARGV[5], ARGV[4], 'BYSCORE', 'LIMIT', 0, left + 1)) do
  local entries = redis.call('ZRANGE', prefix .. 'minute:' .. minute, ARGV[3], ARGV[4], 'BYSCORE', 'LIMIT', offset, left,
    'WITHSCORES')
  offset = 0
  if #entries > 0 then
    local revisions = {}
    for i = 1, #entries, 2 do revisions[#revisions + 1] = (revision_of(prefix, entries[i])) end
    left = left - #revisions
    local g = #groups
    groups[g + 1], groups[g + 2], groups[g + 3], groups[g + 4] = minute, entries, revisions, {}
  end
  if left == 0 then break end
end
return groups
