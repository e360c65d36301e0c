#!lua
-- Carries out some jobs' steps: out of the coarse place, occurrences into the minute tier, on to the next place.
-- KEYS  1 the planner's lease
-- ARGV  1 prefix, 2 epoch, 3 how many steps, then each step:
--       job, revision, from tier, from half hour, from due (text),
--       next tier (empty: none), next half hour, its start (ms), next due (text), next due (ms),
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
  local occurrences = position + 10
  local skipped = occurrences + 1 + 4 * tonumber(ARGV[occurrences])
  position = skipped + 1 + 3 * tonumber(ARGV[skipped])
  local job = ARGV[first]
  local record = not seen[job] and try('HMGET', prefix .. 'job:' .. job, 'revision', 'tier', 'due_at')
  seen[job] = true
  if record and record[1] == ARGV[first + 1] and record[2] == ARGV[first + 2] and record[3] == ARGV[first + 4] then
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

local removals, additions, indexes = {}, {}, {['minutes'] = {}, ['half-hours'] = {}}
local left = {}
local function note(lists, key, ...)
  local list = lists[key]
  if not list then list = {} lists[key] = list end
  for i = 1, select('#', ...) do list[#list + 1] = (select(i, ...)) end
end

for _, step in ipairs(steps) do
  local first, occurrences, skipped = step[1], step[2], step[3]
  local job, revision = ARGV[first], ARGV[first + 1]
  if ARGV[first + 2] == 'half-hour' then
    local slice = ARGV[first + 3]
    note(removals, prefix .. 'half-hour:' .. slice, job .. '@' .. ARGV[first + 4] .. '#' .. revision)
    left[slice] = true
  else
    note(removals, prefix .. 'horizon', job)
  end
  for o = occurrences + 1, skipped - 1, 4 do
    local id = job .. '@' .. ARGV[o + 2]
    if not known or redis.call('EXISTS', prefix .. 'run:' .. id) == 0 then
      note(additions, prefix .. 'minute:' .. ARGV[o], ARGV[o + 3], id .. '#' .. revision)
      indexes['minutes'][ARGV[o]] = ARGV[o + 1]
    end
  end
  local record, tier = prefix .. 'job:' .. job, ARGV[first + 5]
  if tier == '' then
    redis.call('HDEL', record, 'tier', 'bucket', 'due_at')
  else
    local slice, due = ARGV[first + 6], ARGV[first + 8]
    redis.call('HSET', record, 'tier', tier, 'bucket', slice, 'due_at', due)
    if tier == 'half-hour' then
      note(additions, prefix .. 'half-hour:' .. slice, ARGV[first + 9], job .. '@' .. due .. '#' .. revision)
      indexes['half-hours'][slice] = ARGV[first + 7]
    else
      note(additions, prefix .. 'horizon', ARGV[first + 9], job)
    end
  end
  if ARGV[skipped] ~= '0' then
    local limits = limits_of(prefix, job)
    for s = skipped + 1, skipped + 3 * tonumber(ARGV[skipped]), 3 do
      record_skipped(prefix, job .. '@' .. ARGV[s], revision, ARGV[s + 2], ARGV[s], ARGV[s + 1], limits)
    end
  end
end
for key, members in pairs(removals) do spread('ZREM', key, members) end
for key, members in pairs(additions) do spread('ZADD', key, members) end
for index, slices in pairs(indexes) do
  for slice, start in pairs(slices) do redis.call('ZADD', prefix .. index, start, slice) end
end
for slice in pairs(left) do tidy(prefix, 'half-hour', slice) end
return done
