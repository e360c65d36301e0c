-- barrier.lua: from when an edit is in force. Put behind the prelude of the scripts that ask.

-- model::limits::EDIT_IN_FORCE_AFTER: until then an executor may go by what it asked before the edit.
local IN_FORCE_AFTER_MS = 1500

-- The revision of a job that is in force (a text); nil if there is no such job.
-- `barrier` holds how often the shard had been taken when the newest revision was installed, the revision that was in force
-- by then, and the instant (ms). A dispatcher takes again only once all that it took before is published; without one,
-- nobody publishes anything.
local function in_force(job_key, cursor_key, dispatcher_lease_key)
  local record = try('HMGET', job_key, 'revision', 'barrier')
  if not record or not record[1] then return nil end
  local takes, before, installed_ms = string.match(record[2] or '', '^(%d+) (%d+) (%d+)$')
  if not takes then return record[1] end
  if now_ms() < tonumber(installed_ms) + IN_FORCE_AFTER_MS then return before end
  local now = tonumber(redis.call('HGET', cursor_key, 'takes') or '') or 0
  if now > tonumber(takes) or redis.call('EXISTS', dispatcher_lease_key) == 0 then return record[1] end
  return before
end
