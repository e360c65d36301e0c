#!lua
-- The due entries of a shard's minute tier, and the mark of how far the shard is taken. Removes no entry.
-- KEYS  1 the dispatcher's lease, 2 the cursor
-- ARGV  1 prefix, 2 epoch, 3 until (ms), 4 limit
-- returns {taken before, taken until, next due or -1, now, when a run that is being cancelled must be seen to or -1 (all ms), {minute, {entry, due (ms), …}, {revision, …}, {note, …}, …}}
--   A revision is the job's present one, nil if there is no such job, '?' if its record can't be read.
--   A note is of an entry whose run has a record, or whose job is limited: its number in the list, then
--   <fresh|released|claimed> <1 if triggered, else 0> <runs under way> <runs that wait> (-1 -1 if nothing is limited).
-- Next due: of the minute tier after the mark, or when something spaced out comes back.
-- Atomic: the mark must not pass an entry that a planner puts in meanwhile.
-- Entries due at `planned until` or later are left for later: before that instant the minute tier is complete, at it
-- not yet, and the mark must not pass what is still to come. When nothing is due this is twelve commands.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, limit = ARGV[1], tonumber(ARGV[4])
local cursor = redis.call('HMGET', KEYS[2], 'incarnation', 'planned_until_ms', 'taken_until_ms')
local now = now_ms()
if not cursor[1] then return {0, 0, -1, now, -1, {}} end
local planned, before = tonumber(cursor[2] or ''), tonumber(cursor[3] or '')
if not planned or not before then return corrupt_reply(KEYS[2], 'a bound is no number') end

-- Nearly always no run of the minute tier has a record: one call finds that out for all of them.
local any_admitted
local standings = {}
local function note_of(prefix, entry, job, rule)
  local id = string.match(entry, '^(.*)#')
  local admission, triggered = 'fresh', '0'
  if id and any_admitted and redis.call('SISMEMBER', prefix .. 'admitted', id) == 1 then
    local record = redis.call('HMGET', prefix .. 'run:' .. id, 'waits_for', 'triggered')
    if record[1] then admission = record[1] == 'dispatch' and 'claimed' or 'released' end
    triggered = record[2] or '0'
  elseif not rule then
    return nil
  end
  local standing = rule and standings[job] or '-1 -1'
  if rule and not standings[job] then
    standing = active_of(prefix, job) .. ' ' .. redis.call('ZCARD', prefix .. 'waits:' .. job)
    standings[job] = standing
  end
  return admission .. ' ' .. triggered .. ' ' .. standing
end

-- What was spaced out comes back when its time has come.
local spaced = prefix .. 'spaced'
for _, member in ipairs(redis.call('ZRANGE', spaced, '-inf', ARGV[3], 'BYSCORE', 'LIMIT', 0, limit)) do
  local due_ms, entry = string.match(member, '^(%d+) (.*)$')
  local minute = string.match(entry, '@(%d+%-%d+%-%d+T%d+:%d+):') .. 'Z'
  redis.call('ZREM', spaced, member)
  -- Unless another entry of its occurrence was dealt with meanwhile.
  if redis.call('EXISTS', prefix .. 'run:' .. string.match(entry, '^(.*)#')) == 0 then
    redis.call('ZADD', prefix .. 'minute:' .. minute, due_ms, entry)
    redis.call('ZADD', prefix .. 'minutes', digits(due_ms - due_ms % 60000), minute)
  end
end

local cap = math.min(tonumber(ARGV[3]), planned - 1)
local groups, left, last, more = {}, limit, nil, false
for _, minute in ipairs(redis.call('ZRANGE', prefix .. 'minutes', '-inf', cap, 'BYSCORE', 'LIMIT', 0, limit + 1)) do
  local entries = redis.call('ZRANGE', prefix .. 'minute:' .. minute, '-inf', cap, 'BYSCORE', 'LIMIT', 0, left + 1,
    'WITHSCORES')
  if #entries == 0 then tidy(prefix, 'minute', minute) end
  if #entries > 2 * left then
    more = true
    entries[#entries] = nil
    entries[#entries] = nil
  end
  if #entries > 0 then
    if any_admitted == nil then any_admitted = redis.call('EXISTS', prefix .. 'admitted') == 1 end
    local revisions, notes = {}, {}
    for i = 1, #entries, 2 do
      local revision, job, rule = revision_of(prefix, entries[i])
      revisions[#revisions + 1] = revision
      local note = (rule or any_admitted) and note_of(prefix, entries[i], job, rule)
      if note then notes[#notes + 1], notes[#notes + 2] = #revisions, note end
    end
    left = left - #revisions
    last = tonumber(entries[#entries])
    local g = #groups
    groups[g + 1], groups[g + 2], groups[g + 3], groups[g + 4] = minute, entries, revisions, notes
  end
  if more then break end
end

local taken = cap
if more then taken = math.min(taken, last) end
if taken > before then redis.call('HSET', KEYS[2], 'taken_until_ms', digits(taken)) else taken = before end
-- Who asks again has published what it took before (see barrier.lua).
redis.call('HINCRBY', KEYS[2], 'takes', 1)

local next_due = -1
local after = '(' .. digits(taken)
for _, minute in ipairs(redis.call('ZRANGE', prefix .. 'minutes', '(' .. digits(taken - 60000), '+inf', 'BYSCORE', 'LIMIT',
  0, 8)) do
  local entry = redis.call('ZRANGE', prefix .. 'minute:' .. minute, after, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  if entry[2] then
    next_due = tonumber(entry[2])
    break
  end
end
local first = redis.call('ZRANGE', spaced, 0, 0, 'WITHSCORES')
if first[2] and (next_due < 0 or tonumber(first[2]) < next_due) then next_due = tonumber(first[2]) end
local cancelling = redis.call('ZRANGE', prefix .. 'cancelling', 0, 0, 'WITHSCORES')
return {before, taken, next_due, now, tonumber(cancelling[2] or -1), groups}
