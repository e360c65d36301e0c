#!lua flags=no-writes
-- A job's remembered runs, newest due first.
-- KEYS  1… the job's lists of runs
-- ARGV  1 prefix, 2 limit, 3… the fields to read of each run
-- returns {run id, {value, …}, …}
-- Atomic: a run that ends meanwhile moves from one list to another.
local limit, found = tonumber(ARGV[2]), {}
for _, list in ipairs(KEYS) do
  local members = redis.call('ZRANGE', list, 0, limit - 1, 'REV', 'WITHSCORES')
  for i = 1, #members, 2 do found[#found + 1] = {members[i], tonumber(members[i + 1])} end
end
table.sort(found, function(a, b) return a[2] > b[2] end)
local rows = {}
for i = 1, math.min(limit, #found) do
  rows[#rows + 1] = found[i][1]
  rows[#rows + 1] = try('HMGET', ARGV[1] .. 'run:' .. found[i][1], unpack(ARGV, 3)) or {}
end
return rows
