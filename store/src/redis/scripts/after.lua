-- after.lua: jobs that run a while after their last run has ended. Put behind the prelude and overlap.lua.
-- Such a job's record has `after` (delay and last instant in ms: 600000 - or 600000 1795329900000), and `after_due` (due as
-- text and in ms) of the occurrence that was planned last.

-- An occurrence nearer than this is worth a nudge.
local NEAR_MS = 2000

-- An instant as text, as Timestamp writes it.
local function text_of(ms)
  local days, rest = math.floor(ms / 86400000), ms % 86400000
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day, month = doy - math.floor((153 * mp + 2) / 5) + 1, mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local text = string.format('%04d-%02d-%02dT%02d:%02d:%02d', year, month, day, math.floor(rest / 3600000),
    math.floor(rest / 60000) % 60, math.floor(rest / 1000) % 60)
  return text .. (ms % 1000 == 0 and 'Z' or string.format('.%03dZ', ms % 1000))
end

-- Plans an occurrence at an instant, or at the first free millisecond after it; answers with that, nil if it is too late.
local function plan_after(prefix, job, revision, after, due_ms)
  local last = tonumber(string.match(after, ' (%d+)$') or '')
  for ms = due_ms, due_ms + 999 do
    if last and ms > last then break end
    local due = text_of(ms)
    local id = job .. '@' .. due
    if redis.call('EXISTS', prefix .. 'run:' .. id) == 0 then
      local minute = string.sub(due, 1, 16) .. 'Z'
      redis.call('ZADD', prefix .. 'minute:' .. minute, ms, id .. '#' .. revision)
      redis.call('ZADD', prefix .. 'minutes', digits(ms - ms % 60000), minute)
      redis.call('HSET', prefix .. 'job:' .. job, 'after_due', due .. ' ' .. digits(ms))
      return ms
    end
  end
  redis.call('HDEL', prefix .. 'job:' .. job, 'after_due')
  return nil
end

-- Where the occurrence that was planned last waits, if it still does: bucket, member, due (ms).
local function planned_after(prefix, job, revision, after_due)
  local due, due_ms = string.match(after_due or '', '^(.*) (%d+)$')
  if not due then return nil end
  local bucket, member = prefix .. 'minute:' .. string.sub(due, 1, 16) .. 'Z', job .. '@' .. due .. '#' .. revision
  if redis.call('ZSCORE', bucket, member) then return bucket, member, tonumber(due_ms) end
end

-- Whether a run of a job is under way or waits.
local function is_busy(prefix, job)
  return active_of(prefix, job) > 0 or redis.call('EXISTS', prefix .. 'waits:' .. job) == 1
end

-- After the end of a run: plans the next one if its job asks for that, nothing else of it is under way, and none is planned.
-- Answers with when it is due.
local function chain(prefix, job, ended_ms)
  local record = try('HMGET', prefix .. 'job:' .. job, 'revision', 'after', 'after_due')
  if not record or not record[1] or not record[2] or is_busy(prefix, job) then return nil end
  if planned_after(prefix, job, record[1], record[3]) then return nil end
  return plan_after(prefix, job, record[1], record[2], ended_ms + tonumber(string.match(record[2], '^%d+')))
end
