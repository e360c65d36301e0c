-- entries.lua: where an occurrence's entry is, under whatever revision. Put behind the prelude of the scripts that audit.

-- Whether a minute has an entry of a run.
local function has_entry(bucket, id, due_ms)
  for _, member in ipairs(redis.call('ZRANGE', bucket, due_ms, due_ms, 'BYSCORE')) do
    if string.sub(member, 1, #id + 1) == id .. '#' then return true end
  end
  return false
end

-- Whether an entry of a run is spaced out.
local function is_held_back(prefix, id, due_ms)
  local cursor, pattern = '0', due_ms .. ' ' .. id .. '#*'
  repeat
    local found = redis.call('ZSCAN', prefix .. 'spaced', cursor, 'MATCH', pattern, 'COUNT', 1000)
    if #found[2] > 0 then return true end
    cursor = found[1]
  until cursor == '0'
  return false
end
