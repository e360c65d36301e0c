#!lua
-- Acquires or renews one shard's lease for a node.
-- KEYS  1 the lease, 2 the shard's cursor (which remembers the highest epoch when the lease is gone), 3 the owners
-- ARGV  1 node, 2 time to live (ms), 3 the cursor's field for this role's epoch, 4 role, 5 how many owners are kept
-- returns {1, epoch, fresh 0|1} or {0, holder}
-- Atomic: two nodes must not both find the lease free; the epoch must be the highest ever when it is granted.
-- A lease that can't be read is nobody's: it is replaced, under a newer epoch.
local lease = try('GET', KEYS[1])
local holder, epoch
if lease then holder, epoch = string.match(lease, '^(.*) (%d+)$') end
if holder and holder ~= ARGV[1] then return {0, holder} end
if holder then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1, tonumber(epoch), 0}
end
local highest = tonumber(redis.call('HGET', KEYS[2], ARGV[3]) or 0) or 0
epoch = digits(math.max(highest + 1, now_ms()))
redis.call('HSET', KEYS[2], ARGV[3], epoch)
redis.call('ZADD', KEYS[3], epoch, ARGV[4] .. ' ' .. ARGV[1] .. ' ' .. epoch)
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[5]))
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. epoch, 'PX', ARGV[2])
return {1, tonumber(epoch), 1}
