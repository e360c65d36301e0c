#!lua
-- Carries out some jobs' steps: out of the coarse place, occurrences into the minute tier, on to the next place.
-- KEYS  1 the planner's lease
-- ARGV  1 prefix, 2 epoch, 3 how many steps, then each step:
--       job, revision, from bucket, from due (text),
--       next bucket (empty: none), its slice's start (ms, half hours only), next due (text), next due (ms),
--       how many occurrences, then minute, its start (ms), due (text), due (ms), …
--       how many skipped, then due (text), due (ms), reason, …
-- returns {1|0, …}: whether each step was carried out; 0 if the job's record or place has changed, or if an earlier
--   step of this call was for the same job
-- Atomic: an occurrence must be in exactly one tier. All reads come before the first write.
-- A skipped occurrence counts as ended when it was due. One whose run has a record was published or has ended: it isn't put in again.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, position = ARGV[1], 4
local done, steps, seen, runs = {}, {}, {}, {}
for i = 1, tonumber(ARGV[3]) do
  local first = position
  local occurrences = position + 8
  local skipped = occurrences + 1 + 4 * tonumber(ARGV[occurrences])
  position = skipped + 1 + 3 * tonumber(ARGV[skipped])
  local job = ARGV[first]
  local record = not seen[job] and try('HMGET', prefix .. 'job:' .. job, 'revision', 'placed')
  seen[job] = true
  if record and record[1] == ARGV[first + 1] and record[2] == ARGV[first + 2] .. ' ' .. ARGV[first + 3] then
    done[i] = 1
    table.insert(steps, {first, occurrences, skipped})
    for o = occurrences + 1, skipped - 1, 4 do
      table.insert(runs, prefix .. 'run:' .. job .. '@' .. ARGV[o + 2])
    end
  else
    done[i] = 0
  end
end

-- Nearly always no run has a record yet: one call finds that out for all of them.
local known = false
for i = 1, #runs, UNPACK_MAX do
  if redis.call('EXISTS', unpack(runs, i, math.min(i + UNPACK_MAX - 1, #runs))) > 0 then known = true end
end

-- By bucket: members to take out; scores and members to put in. By slice or bucket: its start.
local removals, additions, minutes, half_hours = {}, {}, {}, {}
local function note(lists, bucket, first, second)
  local list = lists[bucket]
  if not list then
    list = {}
    lists[bucket] = list
  end
  local n = #list
  list[n + 1], list[n + 2] = first, second
end

for _, step in ipairs(steps) do
  local first, occurrences, skipped = step[1], step[2], step[3]
  local job, revision = ARGV[first], ARGV[first + 1]
  local bucket = ARGV[first + 2]
  if bucket == 'horizon' then
    note(removals, bucket, job)
  else
    note(removals, bucket, job .. '@' .. ARGV[first + 3] .. '#' .. revision)
  end
  for o = occurrences + 1, skipped - 1, 4 do
    local id = job .. '@' .. ARGV[o + 2]
    if not known or redis.call('EXISTS', prefix .. 'run:' .. id) == 0 then
      note(additions, 'minute:' .. ARGV[o], ARGV[o + 3], id .. '#' .. revision)
      minutes[ARGV[o]] = ARGV[o + 1]
    end
  end
  local record, to = prefix .. 'job:' .. job, ARGV[first + 4]
  if to == '' then
    redis.call('HDEL', record, 'placed')
  else
    local due = ARGV[first + 6]
    redis.call('HSET', record, 'placed', to .. ' ' .. due)
    if to == 'horizon' then
      note(additions, to, ARGV[first + 7], job)
    else
      note(additions, to, ARGV[first + 7], job .. '@' .. due .. '#' .. revision)
      half_hours[to] = ARGV[first + 5]
    end
  end
  if ARGV[skipped] ~= '0' then
    local limits = limits_of(prefix, job)
    for s = skipped + 1, skipped + 3 * tonumber(ARGV[skipped]), 3 do
      record_skipped(prefix, job .. '@' .. ARGV[s], revision, ARGV[s + 2], ARGV[s], ARGV[s + 1], limits)
    end
  end
end
for bucket, members in pairs(removals) do spread('ZREM', prefix .. bucket, members) end
for bucket, members in pairs(additions) do spread('ZADD', prefix .. bucket, members) end
for minute, start in pairs(minutes) do redis.call('ZADD', prefix .. 'minutes', start, minute) end
for bucket, start in pairs(half_hours) do redis.call('ZADD', prefix .. 'half-hours', start, slice_of(bucket)) end
for bucket in pairs(removals) do
  if bucket ~= 'horizon' then tidy(prefix, 'half-hour', slice_of(bucket)) end
end
return done
