-- changes.lua: a job's change log. Put behind the prelude of the script that installs.

-- model::limits::CHANGES_MAX.
local CHANGES_MAX = 100
-- How long the log of a deleted job is kept.
local CHANGES_KEPT_S = 7 * 24 * 3600

-- Notes a change (JSON; empty: nothing to note), newest first. `gone`: the job is deleted.
local function note_change(prefix, job, change, gone)
  if change == '' then return end
  local list = prefix .. 'changes:' .. job
  redis.call('LPUSH', list, change)
  redis.call('LTRIM', list, 0, CHANGES_MAX - 1)
  if gone then redis.call('EXPIRE', list, CHANGES_KEPT_S) else redis.call('PERSIST', list) end
end
