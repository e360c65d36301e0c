#!lua flags=no-writes
-- What is held of some jobs' occurrences.
-- KEYS  1 the cursor
-- ARGV  1 prefix, 2 how many of the cursor's fields, then those; then each job: job, revision, how many instants, then
--       minute, due (text), due (ms), …
-- returns {now (ms), {value of a cursor's field, …}, row, …}; a row is empty if the job has no record of that revision, else
--   {placed (text) or nil, 1 if it is there, newest change or nil, 1 if the chain of its runs broke off,
--    {how many, oldest due (ms) or nil, …} of succeeded, failed, skipped, how many are withdrawn,
--    {ended runs by succeeded, failed, cancelled, skipped}, {found, …}}
--   Found: '' nothing, 'entry', 'hidden' (its minute isn't in the index), 'held-back', or the run's state and, behind a blank,
--   why it was skipped. Change, lists and counts are told only if something isn't found that the job's place doesn't stand for.
-- Atomic: what is planned and taken, records and entries are of one instant; else what moves would look lost.
local prefix, position = ARGV[1], 3 + tonumber(ARGV[2])
local cursor = redis.call('HMGET', KEYS[1], unpack(ARGV, 3, position - 1))
local rows = {now_ms(), cursor}
local any_spaced = redis.call('EXISTS', prefix .. 'spaced') == 1

local function standing_of(job, revision, minute, due, due_ms)
  local id = job .. '@' .. due
  local run = try('HMGET', prefix .. 'run:' .. id, 'state', 'skip_reason') or {}
  if run[1] then return run[1] .. ' ' .. (run[2] or '') end
  local key = prefix .. 'minute:' .. minute
  if redis.call('ZSCORE', key, id .. '#' .. revision) or has_entry(key, id, due_ms) then
    return redis.call('ZSCORE', prefix .. 'minutes', minute) and 'entry' or 'hidden'
  end
  if any_spaced and is_held_back(prefix, id, due_ms) then return 'held-back' end
  return ''
end

local function place_is_there(job, revision, placed)
  local bucket, due = string.match(placed, '^(.*) (.*)$')
  if bucket == 'horizon' then return redis.call('ZSCORE', prefix .. bucket, job) end
  return bucket and redis.call('ZSCORE', prefix .. bucket, job .. '@' .. due .. '#' .. revision)
    and redis.call('ZSCORE', prefix .. 'half-hours', slice_of(bucket))
end

while position <= #ARGV do
  local job, revision, count = ARGV[position], ARGV[position + 1], tonumber(ARGV[position + 2])
  local record = try('HMGET', prefix .. 'job:' .. job, 'revision', 'placed', 'after', 'after_due') or {}
  local row = {}
  if record[1] == revision then
    local found, place_due, lists, more = {}, string.match(record[2] or '', ' (.*)$'), {}, false
    for i = 1, count do
      local at = position + 3 * i
      found[i] = standing_of(job, revision, ARGV[at], ARGV[at + 1], ARGV[at + 2])
      if found[i] == '' and ARGV[at + 1] ~= place_due then more = true end
    end
    for _, kind in ipairs(more and {'succeeded', 'failed', 'skipped'} or {}) do
      local list = prefix .. 'history:' .. job .. ':' .. kind
      lists[#lists + 1] = redis.call('ZCARD', list)
      lists[#lists + 1] = redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')[2] or ''
    end
    local broken_off = record[3] and (record[4] or string.match(record[3], ' %-$')) and not is_busy(prefix, job)
      and not planned_after(prefix, job, revision, record[4])
    row = {
      record[2] or '', record[2] and place_is_there(job, revision, record[2]) and 1 or 0,
      more and redis.call('LINDEX', prefix .. 'changes:' .. job, 0) or '', broken_off and 1 or 0, lists,
      more and redis.call('ZLEXCOUNT', prefix .. 'withdrawn', '[' .. job .. '@', '[' .. job .. '@\255') or 0,
      more and redis.call('HMGET', prefix .. 'stats:' .. job, 'succeeded', 'failed', 'cancelled', 'skipped') or {}, found,
    }
  end
  rows[#rows + 1] = row
  position = position + 3 + 3 * count
end
return rows
