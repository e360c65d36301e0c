-- overlap.lua: runs that wait for earlier ones. Put behind the prelude of the scripts that let runs wait or go.

-- How many runs of a job are under way.
local function active_of(prefix, job)
  return redis.call('ZLEXCOUNT', prefix .. 'open', '[' .. job .. '@', '[' .. job .. '@\255')
end

-- The limit of a job's `overlap` field (queue-one 1); nil if nothing is limited.
local function limit_of(rule)
  return rule and tonumber(string.match(rule, ' (%d+)$')) or nil
end

-- Puts an entry that waited back into its minute, as admitted.
local function put_back(prefix, entry, due_ms)
  local id = string.match(entry, '^(.*)#')
  local minute = string.match(entry, '@(%d+%-%d+%-%d+T%d+:%d+):') .. 'Z'
  redis.call('ZADD', prefix .. 'minute:' .. minute, due_ms, entry)
  redis.call('ZADD', prefix .. 'minutes', digits(due_ms - due_ms % 60000), minute)
  redis.call('ZADD', prefix .. 'open', 0, id)
  redis.call('SADD', prefix .. 'admitted', id)
end

-- Lets go as many of a job's waiting runs as there is room for (model::overlap::Standing::released); answers with how many.
local function let_go(prefix, job, limit)
  local waits = prefix .. 'waits:' .. job
  local room = redis.call('ZCARD', waits)
  if room > 0 and limit then room = math.min(room, limit - active_of(prefix, job)) end
  if room <= 0 then return 0 end
  local gone = redis.call('ZPOPMIN', waits, room)
  for i = 1, #gone, 2 do put_back(prefix, gone[i], tonumber(gone[i + 1])) end
  return room
end
