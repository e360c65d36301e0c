-- prelude.lua: what the scripts of a shard share. It is put behind the first line of each; it runs nothing by itself.
--
-- All keys of a shard begin with the same prefix and so have the same hash tag. Scripts are given that prefix and
-- build the keys they need from it by the words of keys.rs; the keys in KEYS decide the cluster slot.

-- Whether the epoch (a text) isn't that of the present holder of a lease; a lease that ran out has no holder.
local function fenced(lease_key, epoch)
  local lease = redis.call('GET', lease_key)
  return not lease or string.match(lease, ' (%d+)$') ~= epoch
end

local function fence_reply()
  return redis.error_reply('FENCED the lease is held under another epoch')
end

local function corrupt_reply(key, problem)
  return redis.error_reply('CORRUPT ' .. key .. ' ' .. problem)
end

-- A whole number as text (Lua's own conversion rounds to 14 digits).
local function digits(number)
  return string.format('%.0f', number)
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The reply of a command that may fail on a key of another type, then nil.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then return nil end
  return reply
end

-- A command with many arguments, in parts that Lua's stack can hold.
local UNPACK_MAX = 2000
local function spread(command, key, arguments)
  for first = 1, #arguments, UNPACK_MAX do
    redis.call(command, key, unpack(arguments, first, math.min(first + UNPACK_MAX - 1, #arguments)))
  end
end

-- The half hour of a bucket (half-hour:…).
local function slice_of(bucket)
  return string.sub(bucket, 11)
end

-- Takes a bucket out of its index once it is empty.
local function tidy(prefix, tier, slice)
  if redis.call('EXISTS', prefix .. tier .. ':' .. slice) == 0 then
    redis.call('ZREM', prefix .. (tier == 'minute' and 'minutes' or 'half-hours'), slice)
  end
end

-- What is noted of a run that a backfill asked for (keys.rs, backfill_runs), or nil. Whether there is any is asked once a call.
local has_backfills
local function backfill_of(prefix, id)
  local runs = prefix .. 'backfill-runs'
  if has_backfills == nil then has_backfills = redis.call('EXISTS', runs) == 1 end
  return has_backfills and redis.call('HGET', runs, id) or nil
end
