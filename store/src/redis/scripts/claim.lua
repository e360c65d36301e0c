#!lua
-- Opens the records of runs that are about to be published: waiting, for dispatch.
-- KEYS  1 the dispatcher's lease
-- ARGV  1 prefix, 2 epoch, 3 how many, then each: entry, due (ms), minute, new revision,
--       triggered 0|1
-- returns {1|0, …}: 0 the entry is gone, its run is published or has ended, its job is of another revision, or there is no
--   room (any more)
-- Atomic: never more runs under way than may be (model::overlap::decide), whoever ends or is released meanwhile.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, count, replies, touched = ARGV[1], tonumber(ARGV[3]), {}, {}
local CLAIM = 5

-- Nearly always the entries are there, no run has a record yet, and no job's runs wait: few calls find that out for all.
local ids, jobs, run_keys, waits_keys, waits_seen, buckets = {}, {}, {}, {}, {}, {}
for n = 1, count do
  local at = 4 + CLAIM * (n - 1)
  ids[n] = string.match(ARGV[at], '^(.*)#')
  jobs[n] = string.match(ids[n], '^(.-)@')
  run_keys[n] = prefix .. 'run:' .. ids[n]
  if not waits_seen[jobs[n]] then
    waits_seen[jobs[n]] = true
    waits_keys[#waits_keys + 1] = prefix .. 'waits:' .. jobs[n]
  end
  local minute = ARGV[at + 2]
  local bucket = buckets[minute] or {entries = {}, claims = {}}
  buckets[minute] = bucket
  bucket.entries[#bucket.entries + 1], bucket.claims[#bucket.claims + 1] = ARGV[at], n
end
local is_there = {}
for minute, bucket in pairs(buckets) do
  local scores = redis.call('ZMSCORE', prefix .. 'minute:' .. minute, unpack(bucket.entries))
  for i, n in ipairs(bucket.claims) do is_there[n] = scores[i] end
end
local known = count > 0 and redis.call('EXISTS', unpack(run_keys)) > 0
local some_wait = count > 0 and redis.call('EXISTS', unpack(waits_keys)) > 0

-- Runs that are opened here, and not yet among the open ones: those are counted again only for a job that has one here.
local openings, unopened, opened, admitted = {}, {}, {}, {}
local function open_all()
  if #openings > 0 then redis.call('ZADD', prefix .. 'open', unpack(openings)) end
  openings, unopened = {}, {}
end

for n = 1, count do
  local at = 4 + CLAIM * (n - 1)
  local entry, due_ms, minute, revision, triggered = unpack(ARGV, at, at + CLAIM - 1)
  local bucket, planned = prefix .. 'minute:' .. minute, string.match(entry, '#(%d+)$')
  local id, job, run = ids[n], jobs[n], run_keys[n]
  replies[n] = 0
  if is_there[n] then
    local record = (known or opened[id]) and redis.call('HMGET', run, 'state', 'revision') or {}
    local present = try('HMGET', prefix .. 'job:' .. job, 'revision', 'overlap') or {}
    local limit = limit_of(present[2])
    if limit and unopened[job] then open_all() end
    if record[1] and (record[1] ~= 'waiting' or record[2] ~= planned) then
      -- Another entry of its occurrence came first.
      redis.call('ZREM', bucket, entry)
      touched[minute] = true
    elseif present[1] ~= revision then
      replies[n] = 0
    elseif not record[1] and limit and (active_of(prefix, job) >= limit
      or some_wait and redis.call('EXISTS', prefix .. 'waits:' .. job) == 1) then
      let_go(prefix, job, limit)
    else
      if planned ~= revision then
        redis.call('ZREM', bucket, entry)
        redis.call('ZADD', bucket, due_ms, id .. '#' .. revision)
      end
      local fields = {'v', '1', 'state', 'waiting', 'revision', revision, 'waits_for', 'dispatch'}
      if triggered == '1' then fields[9], fields[10] = 'triggered', '1' end
      redis.call('HSET', run, unpack(fields))
      openings[#openings + 1], openings[#openings + 2] = 0, id
      unopened[job], opened[id] = true, true
      admitted[#admitted + 1] = id
      replies[n] = 1
    end
  end
end
open_all()
if #admitted > 0 then redis.call('SADD', prefix .. 'admitted', unpack(admitted)) end
for minute in pairs(touched) do tidy(prefix, 'minute', minute) end
return replies
