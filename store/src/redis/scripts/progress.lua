#!lua
-- Moves a cursor forward, never back.
-- KEYS  1 the planner's lease, 2 the cursor
-- ARGV  1 epoch, 2 planned until (ms) or empty, 3 spec revision or empty, 4 spec revision that the cursor had at least
-- returns 1; FENCED also if the shard has no cursor, or an older one (it was wiped or rolled back: the planner must begin
--   again)
-- Atomic: compare and set.
if fenced(KEYS[1], ARGV[1]) then return fence_reply() end
local cursor = redis.call('HMGET', KEYS[2], 'incarnation', 'planned_until_ms', 'spec_revision')
if not cursor[1] then return fence_reply() end
if ARGV[3] ~= '' and (tonumber(cursor[3] or '') or 0) < tonumber(ARGV[4]) then return fence_reply() end
for i, field in ipairs({'planned_until_ms', 'spec_revision'}) do
  local wanted = tonumber(ARGV[i + 1])
  if wanted then
    local present = tonumber(cursor[i + 1] or '')
    if not present then return corrupt_reply(KEYS[2], 'field ' .. field .. ' is no number') end
    if wanted > present then redis.call('HSET', KEYS[2], field, ARGV[i + 1]) end
  end
end
return 1
