#!lua
-- The jobs whose coarse place lies before an instant, earliest first; stale places are removed on the way.
-- KEYS  1 the planner's lease
-- ARGV  1 prefix, 2 epoch, 3 half-hour entries due before (ms), 4 horizon entries due before (ms), 5 limit
-- returns {more 0|1, {tier, member, due (text), revision, …}, {bucket, tier or empty, slice or empty, member, …}}
--   The second list holds what can't be read, for the caller to quarantine. `more`: the scan ended before the limit was
--   reached, because of such and of stale entries; ask again.
-- Atomic: a place is stale only by comparison with its job's record. At most `limit` members are looked at.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, limit = ARGV[1], tonumber(ARGV[5])
local rows, unreadable, found, more = {}, {}, 0, 0

-- 'here', 'stale', or 'unreadable'; the job's revision; when it says it is due.
local function standing(job, bucket, due)
  local record = try('HMGET', prefix .. 'job:' .. job, 'revision', 'placed', 'v')
  if not record then return 'unreadable' end
  local revision, placed = record[1], record[2]
  if not revision and not record[3] then return 'stale' end
  if not tonumber(revision or '') then return 'unreadable' end
  if due then
    if placed ~= bucket .. ' ' .. due then return 'stale' end
    return 'here', revision, due
  end
  due = string.match(placed or '', '^horizon (.*)$')
  if not due then return 'stale' end
  return 'here', revision, due
end

local function scan(bucket, slice, tier, before)
  local wanted = limit - found
  local members = redis.call('ZRANGE', prefix .. bucket, '-inf', '(' .. before, 'BYSCORE', 'LIMIT', 0, wanted,
    'WITHSCORES')
  local stale = {}
  for i = 1, #members, 2 do
    local member = members[i]
    local job, due, revision = member, nil, nil
    if tier == 'half-hour' then job, due, revision = string.match(member, '^(.-)@(.*)#(%d+)$') end
    local verdict, present, due_at = 'unreadable', nil, nil
    if job then verdict, present, due_at = standing(job, bucket, due) end
    if verdict == 'here' and revision and revision ~= present then verdict = 'stale' end
    if verdict == 'here' then
      found = found + 1
      local n = #rows
      rows[n + 1], rows[n + 2], rows[n + 3], rows[n + 4] = tier, member, due_at, present
    elseif verdict == 'stale' then
      table.insert(stale, member)
    else
      local n = #unreadable
      unreadable[n + 1], unreadable[n + 2], unreadable[n + 3], unreadable[n + 4] =
        bucket, slice ~= '' and tier or '', slice, member
    end
  end
  if #stale > 0 then redis.call('ZREM', prefix .. bucket, unpack(stale)) end
  if slice ~= '' and (#stale > 0 or #members == 0) then tidy(prefix, tier, slice) end
  if #members == 2 * wanted and found < limit then more = 1 end
end

for _, slice in ipairs(redis.call('ZRANGE', prefix .. 'half-hours', '-inf', '(' .. ARGV[3], 'BYSCORE', 'LIMIT', 0,
  limit + 1)) do
  if found == limit or more == 1 then break end
  scan('half-hour:' .. slice, slice, 'half-hour', ARGV[3])
end
if found < limit and more == 0 then scan('horizon', '', 'horizon', ARGV[4]) end
return {more, rows, unreadable}
