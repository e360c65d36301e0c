#!lua
-- Compares runs' records with where they are; puts right what differs.
-- KEYS  1 the planner's lease
-- ARGV  1 prefix, 2 epoch (empty: only look), 3 since (ms), then each: run id, minute, its start (ms), due (ms)
-- returns {run id, what is absent, 1 if it was put right, …}
-- Atomic: a run that moves from one place to the next is in neither for nobody else; and what is put back must not come to
-- life again beside its own end.
-- A run without a record that nothing else names isn't known. One that is named goes back into the minute tier, if it was
-- due lately: published again under the same message id, it is one run even if it had been published. A backfill's is due
-- whenever it likes; nobody else would put it back.
if ARGV[2] ~= '' and fenced(KEYS[1], ARGV[2]) then return fence_reply() end
local prefix, mends, since, lacks = ARGV[1], ARGV[2] ~= '', tonumber(ARGV[3]), {}

for i = 4, #ARGV, 4 do
  local id, minute, start, due_ms = unpack(ARGV, i, i + 3)
  local job, bucket = string.match(id, '^(.-)@'), prefix .. 'minute:' .. minute
  local record = redis.call('HMGET', prefix .. 'run:' .. id, 'state', 'waits_for', 'revision', 'cancel')
  local state, waits_for, revision = record[1], record[2], record[3]

  local function lacks_(what, may_mend, mend)
    local done = mends and may_mend
    if done then mend() end
    local n = #lacks
    lacks[n + 1], lacks[n + 2], lacks[n + 3] = id, what, done and 1 or 0
  end
  local function needs(key, score)
    if not redis.call('ZSCORE', prefix .. key, id) then
      lacks_(key, true, function() redis.call('ZADD', prefix .. key, score, id) end)
    end
  end
  local function put_in(entry)
    redis.call('ZADD', bucket, due_ms, entry)
    redis.call('ZADD', prefix .. 'minutes', start, minute)
  end
  local function needs_index()
    if not redis.call('ZSCORE', prefix .. 'minutes', minute) then
      lacks_('index', true, function() redis.call('ZADD', prefix .. 'minutes', start, minute) end)
    end
  end
  local function needs_admission()
    needs('open', 0)
    if redis.call('SISMEMBER', prefix .. 'admitted', id) == 0 then
      lacks_('admitted', true, function() redis.call('SADD', prefix .. 'admitted', id) end)
    end
  end

  if state == 'dispatched' then
    needs('sent', digits(now_ms()))
    needs('open', 0)
    if record[4] then needs('cancelling', digits(now_ms())) end
  elseif state == 'waiting' then
    local entry = id .. '#' .. (revision or '')
    local is_planned = redis.call('ZSCORE', bucket, entry)
    local was_admitted = waits_for == 'dispatch' or redis.call('SISMEMBER', prefix .. 'admitted', id) == 1
    if is_planned then
      needs_index()
      needs_admission()
    elseif waits_for == 'queue' and redis.call('ZSCORE', prefix .. 'held', entry) then
      needs('open', 0)
    elseif waits_for ~= 'overlap' or not redis.call('ZSCORE', prefix .. 'waits:' .. job, entry) then
      if was_admitted then
        lacks_('entry', true, function() put_in(entry) end)
        needs_admission()
      elseif waits_for == 'queue' then
        lacks_('held', true, function() redis.call('ZADD', prefix .. 'held', due_ms, entry) end)
        needs('open', 0)
      else
        lacks_('waits', true, function()
          redis.call('ZADD', prefix .. 'waits:' .. job, due_ms, entry)
          let_go(prefix, job, limit_of(try('HGET', prefix .. 'job:' .. job, 'overlap')))
        end)
      end
    end
  elseif not state then
    local is_open = redis.call('ZSCORE', prefix .. 'sent', id) or redis.call('ZSCORE', prefix .. 'open', id)
    local backfill = redis.call('HGET', prefix .. 'backfill-runs', id)
    local is_backfilled = backfill and not string.find(backfill, ' ')
    local is_asked = is_backfilled or redis.call('HEXISTS', prefix .. 'overrides', id) == 1
    local present = try('HGET', prefix .. 'job:' .. job, 'revision')
    local function forget()
      for _, key in ipairs({'sent', 'open', 'cancelling'}) do redis.call('ZREM', prefix .. key, id) end
      redis.call('SREM', prefix .. 'admitted', id)
    end
    if (is_open or is_asked) and has_entry(bucket, id, due_ms) then
      needs_index()
      -- It would count as under way, and wait for itself.
      if is_open then lacks_('record', true, forget) end
    elseif is_open or is_asked and not is_held_back(prefix, id, due_ms) then
      -- A deleted job's run has nothing to be published from.
      local is_late = tonumber(due_ms) <= since and (is_open or not is_backfilled)
      lacks_(is_open and 'record' or 'entry', present and not is_late, function()
        forget()
        put_in(id .. '#' .. present)
      end)
    end
  end
end
return lacks
