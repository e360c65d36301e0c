#!lua flags=no-writes
-- A job's remembered runs, newest due first.
-- KEYS  1 the open runs, 2 those that wait for an earlier one, 3 those withdrawn before they were due,
--       4… the job's lists of ended runs
-- ARGV  1 prefix, 2 job, 3 limit, 4… the fields to read of each run
-- returns {run id, {value, …}, …}
-- Atomic: a run that ends meanwhile moves from one list to another.
-- Ids of one job differ in their instant only, which sorts as text but for whole seconds: 'Z' for '.000Z'.
local limit, found = tonumber(ARGV[3]), {}
local function add(ids)
  for _, id in ipairs(ids) do found[#found + 1] = {id, (string.gsub(id, ':(%d%d)Z$', ':%1.000Z'))} end
end
add(redis.call('ZRANGE', KEYS[1], '[' .. ARGV[2] .. '@\255', '[' .. ARGV[2] .. '@', 'BYLEX', 'REV', 'LIMIT', 0, limit + 1))
for _, entry in ipairs(redis.call('ZRANGE', KEYS[2], 0, limit - 1, 'REV')) do add({(string.gsub(entry, '#.*$', ''))}) end
add(redis.call('ZRANGE', KEYS[3], '[' .. ARGV[2] .. '@\255', '[' .. ARGV[2] .. '@', 'BYLEX', 'REV', 'LIMIT', 0, limit + 1))
for i = 4, #KEYS do add(redis.call('ZRANGE', KEYS[i], 0, limit - 1, 'REV')) end
table.sort(found, function(a, b) return a[2] > b[2] end)
local rows = {}
for i = 1, math.min(limit, #found) do
  rows[#rows + 1] = found[i][1]
  rows[#rows + 1] = try('HMGET', ARGV[1] .. 'run:' .. found[i][1], unpack(ARGV, 4)) or {}
end
return rows
