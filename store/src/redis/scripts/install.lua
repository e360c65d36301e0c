#!lua
-- Changes one job: its record, its coarse place and its minute-tier entries.
-- KEYS  1 the planner's lease, 2 the job's record, 3 the cursor
-- ARGV  1 prefix, 2 epoch, 3 job, 4 expected revision (empty: no record), 5 new revision (empty: delete),
--       6 new bucket (half-hour:… or horizon; empty: none), 7 its slice's start (ms, half hours only), 8 due (text),
--       9 due (ms), 10 how many fields, then field, value, …
--       then how many to remove, then minute, due (text), due (ms), …
--       then how many to add, then minute, its start (ms), due (text), due (ms), …
--       then the same for those that no older revision named
--       then how many of them are spaced out, then due (text), due (ms), not before (ms), …
--       then how many skipped, then due (text), due (ms), reason, …
--       then when to plan the first occurrence of a job that follows its own ends (ms; empty: it isn't one), at (ms)
--       then at (text), keep the history 0|1 (of a deletion), the reason of those that waited (of a deletion)
--       last: the change to note (JSON; empty: none)
-- returns 1 done, 0 the record is of another revision
-- Atomic: from here on no run of the old revision starts, and none of the new one is missing.
-- What the dispatcher has taken by now belongs to the old revision: neither removed nor put in, unless no older revision
-- named it. What is skipped ends now, or when it is due if that is later. An occurrence whose run has a record was published or has ended: it isn't put in again. A record whose revision
-- can't be read counts as none, so that it can be replaced.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, job, expected = ARGV[1], ARGV[3], ARGV[4]
local record = try('HMGET', KEYS[2], 'revision', 'placed', 'after', 'after_due')
local present = record and tonumber(record[1] or '') and record[1] or ''
if present ~= expected then return 0 end

local taken = tonumber(redis.call('HGET', KEYS[3], 'taken_until_ms') or '') or -1
local position = 11 + 2 * tonumber(ARGV[10])
local removals, touched = {}, {}
for _ = 1, tonumber(ARGV[position]) do
  local minute, due, due_ms = ARGV[position + 1], ARGV[position + 2], tonumber(ARGV[position + 3])
  position = position + 3
  if due_ms > taken then
    if not removals[minute] then removals[minute] = {} end
    table.insert(removals[minute], job .. '@' .. due .. '#' .. expected)
  end
end
position = position + 1
if expected ~= '' then
  for minute, members in pairs(removals) do
    spread('ZREM', prefix .. 'minute:' .. minute, members)
    touched[minute] = true
  end
end

local bucket, due_before = string.match(present ~= '' and record[2] or '', '^(.*) (.*)$')
if bucket == 'horizon' then
  redis.call('ZREM', prefix .. bucket, job)
elseif bucket then
  redis.call('ZREM', prefix .. bucket, job .. '@' .. due_before .. '#' .. present)
  tidy(prefix, 'half-hour', slice_of(bucket))
end

local after_first, at_ms = ARGV[#ARGV - 5], tonumber(ARGV[#ARGV - 4])
local moved_from
if present ~= '' and record[4] then
  local entries, entry, due_ms = planned_after(prefix, job, present, record[4])
  if entry and due_ms > taken then
    redis.call('ZREM', entries, entry)
    touched[string.sub(record[4], 1, 16) .. 'Z'] = true
    moved_from = due_ms
  end
end

local revision = ARGV[5]
local before = present ~= '' and present ~= revision and in_force(KEYS[2], KEYS[3], prefix .. 'lease:dispatcher')
if revision == '' then
  redis.call('DEL', KEYS[2])
  local at, keep, reason = unpack(ARGV, #ARGV - 3)
  redis.call('UNLINK', prefix .. 'stats:' .. job)
  for _, kind in ipairs({'succeeded', 'failed', 'skipped'}) do
    local list = prefix .. 'history:' .. job .. ':' .. kind
    for _, id in ipairs(redis.call('ZRANGE', list, 0, -1)) do
      if keep == '1' then
        redis.call('EXPIRE', prefix .. 'run:' .. id, ORPHAN_S)
      else
        redis.call('UNLINK', prefix .. 'run:' .. id)
      end
    end
    if keep == '1' then redis.call('EXPIRE', list, ORPHAN_S) else redis.call('UNLINK', list) end
  end
  local first, last = '[' .. job .. '@', '[' .. job .. '@\255'
  for _, id in ipairs(redis.call('ZRANGE', prefix .. 'withdrawn', first, last, 'BYLEX')) do
    if keep ~= '1' then
      redis.call('UNLINK', prefix .. 'run:' .. id)
      redis.call('ZREM', prefix .. 'withdrawn', id)
    end
  end
  local waits = prefix .. 'waits:' .. job
  local waiting = redis.call('ZRANGE', waits, 0, -1, 'WITHSCORES')
  for i = 1, #waiting, 2 do
    skip_waiting(prefix, string.match(waiting[i], '^(.*)#'), reason, at, waiting[i + 1], nil)
  end
  redis.call('UNLINK', waits)
else
  if record and present ~= '' then
    redis.call('HDEL', KEYS[2], 'condition', 'placed', 'overlap', 'after')
  else
    redis.call('DEL', KEYS[2])
    -- Runs that ended while there was no record are this job's now.
    for _, kind in ipairs({'succeeded', 'failed', 'skipped'}) do
      redis.call('PERSIST', prefix .. 'history:' .. job .. ':' .. kind)
    end
  end
  redis.call('HSET', KEYS[2], unpack(ARGV, 11, 10 + 2 * tonumber(ARGV[10])))
  if before then
    local takes = redis.call('HGET', KEYS[3], 'takes') or '0'
    redis.call('HSET', KEYS[2], 'barrier', takes .. ' ' .. before .. ' ' .. digits(now_ms()))
  end
  if ARGV[6] == 'horizon' then
    redis.call('ZADD', prefix .. 'horizon', ARGV[9], job)
  elseif ARGV[6] ~= '' then
    redis.call('ZADD', prefix .. ARGV[6], ARGV[9], job .. '@' .. ARGV[8] .. '#' .. revision)
    redis.call('ZADD', prefix .. 'half-hours', ARGV[7], slice_of(ARGV[6]))
  end
  local starts, additions = {}, {}
  for _, floor in ipairs({taken, -1}) do
    for _ = 1, tonumber(ARGV[position]) do
      local minute, start, due, due_ms = unpack(ARGV, position + 1, position + 4)
      position = position + 4
      local id = job .. '@' .. due
      if tonumber(due_ms) > floor and redis.call('EXISTS', prefix .. 'run:' .. id) == 0 then
        if not additions[minute] then additions[minute], starts[minute] = {}, start end
        table.insert(additions[minute], due_ms)
        table.insert(additions[minute], id .. '#' .. revision)
      end
    end
    position = position + 1
  end
  for _ = 1, tonumber(ARGV[position]) do
    local id, due_ms, not_before = job .. '@' .. ARGV[position + 1], ARGV[position + 2], ARGV[position + 3]
    position = position + 3
    if redis.call('EXISTS', prefix .. 'run:' .. id) == 0 then
      redis.call('ZADD', prefix .. 'spaced', not_before, due_ms .. ' ' .. id .. '#' .. revision)
    end
  end
  position = position + 1
  let_go(prefix, job, limit_of(redis.call('HGET', KEYS[2], 'overlap')))
  if ARGV[position] ~= '0' then
    local limits = limits_of(prefix, job)
    for s = position + 1, position + 3 * tonumber(ARGV[position]), 3 do
      local skipped_at = tonumber(ARGV[s + 1]) < at_ms and ARGV[#ARGV - 3] or ARGV[s]
      record_skipped(prefix, job .. '@' .. ARGV[s], revision, ARGV[s + 2], skipped_at, ARGV[s + 1], limits)
    end
  end
  if after_first ~= '' then
    local after = redis.call('HGET', KEYS[2], 'after')
    local delay, before = tonumber(string.match(after, '^%d+')), tonumber(string.match(record and record[3] or '', '^%d+'))
    if moved_from then
      if before and before ~= delay then moved_from = math.max(at_ms, moved_from - before + delay) end
      plan_after(prefix, job, revision, after, moved_from)
    elseif not is_busy(prefix, job) and not planned_after(prefix, job, present, record and record[4]) then
      plan_after(prefix, job, revision, after, tonumber(after_first))
    end
  else
    redis.call('HDEL', KEYS[2], 'after_due')
  end
  for minute, members in pairs(additions) do
    spread('ZADD', prefix .. 'minute:' .. minute, members)
    redis.call('ZADD', prefix .. 'minutes', starts[minute], minute)
  end
end
for minute in pairs(touched) do tidy(prefix, 'minute', minute) end
note_change(prefix, job, ARGV[#ARGV], revision == '')
return 1
