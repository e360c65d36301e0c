#!lua
-- Moves published entries from the minute tier into `sent` and opens their run records.
-- KEYS  1 the dispatcher's lease, 2 sent, 3 the open runs
-- ARGV  1 prefix, 2 epoch, 3 how many minutes, then each: minute, how many entries, then
--       entry, published (the field's text), when to worry (ms), how often republished, …
-- returns 1
-- Atomic: a run is in the minute tier or in `sent`, never in neither before it has ended.
-- An entry that is in neither place has ended meanwhile: left alone. One that is in `sent` is the repair of a run whose
-- message was lost (updated, unless a later repair was confirmed already). One whose run has ended only leaves the tier,
-- and so does one whose run waits under another entry.
if fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, sent = ARGV[1], KEYS[2]
local STRIDE = 4

-- Nearly always no run has a record yet: one call finds that out for all of them.
local runs, position = {}, 4
for _ = 1, tonumber(ARGV[3]) do
  for i = position + 2, position + 1 + STRIDE * tonumber(ARGV[position + 1]), STRIDE do
    runs[#runs + 1] = prefix .. 'run:' .. string.match(ARGV[i], '^(.*)#')
  end
  position = position + 2 + STRIDE * tonumber(ARGV[position + 1])
end
local known = #runs > 0 and redis.call('EXISTS', unpack(runs)) > 0

local worries, openings, opened, admitted = {}, {}, {}, {}
local run_index = 0
position = 4
for _ = 1, tonumber(ARGV[3]) do
  local minute, count = ARGV[position], tonumber(ARGV[position + 1])
  local bucket, entries = prefix .. 'minute:' .. minute, {}
  for n = 1, count do entries[n] = ARGV[position + 2 + STRIDE * (n - 1)] end
  local scores = redis.call('ZMSCORE', bucket, unpack(entries))
  local gone = {}
  for n = 1, count do
    run_index = run_index + 1
    local at = position + 2 + STRIDE * (n - 1)
    local entry, run = entries[n], runs[run_index]
    local id, revision = string.match(entry, '^(.*)#(%d+)$')
    local waits = scores[n]
    if waits then gone[#gone + 1] = entry end
    local record
    if known or opened[id] or not waits then
      record = redis.call('HMGET', run, 'state', 'republished', 'cancel', 'revision')
      if not record[1] then record = nil end
    end
    local open = waits
    if record then
      local claimed = record[1] == 'waiting' and waits and record[4] == revision
      if claimed then
        redis.call('HDEL', run, 'waits_for')
        admitted[#admitted + 1] = id
      end
      open = claimed or record[1] == 'dispatched' and tonumber(ARGV[at + 3]) >= (tonumber(record[2] or 0) or 0)
    elseif not waits then
      open = redis.call('ZSCORE', sent, id)
    end
    if open then
      if record then
        redis.call('HSET', run, 'state', 'dispatched', 'published', ARGV[at + 1])
      else
        redis.call('HSET', run, 'v', '1', 'state', 'dispatched', 'revision', revision, 'published', ARGV[at + 1])
        opened[id] = true
        openings[#openings + 1], openings[#openings + 2] = 0, id
      end
      if ARGV[at + 3] ~= '0' then redis.call('HSET', run, 'republished', ARGV[at + 3]) end
      worries[#worries + 1], worries[#worries + 2] = ARGV[at + 2], id
      -- It was cancelled on its way into the stream.
      if record and record[3] then redis.call('ZADD', prefix .. 'cancelling', 'NX', 0, id) end
    end
  end
  if #gone > 0 then
    redis.call('ZREM', bucket, unpack(gone))
    tidy(prefix, 'minute', minute)
  end
  position = position + 2 + STRIDE * count
end
if #worries > 0 then redis.call('ZADD', sent, unpack(worries)) end
if #admitted > 0 then redis.call('SREM', prefix .. 'admitted', unpack(admitted)) end
if #openings > 0 then redis.call('ZADD', KEYS[3], unpack(openings)) end
return 1
