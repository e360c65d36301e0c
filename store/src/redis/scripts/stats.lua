-- stats.lua: a job's statistics, and the attempts of a run that others followed. Put behind the prelude of the scripts
-- that end, note or reopen runs.

-- model::limits::ATTEMPTS_KEPT_MAX, and more than the other fields of a run's hash.
local ATTEMPTS_KEPT_MAX, OTHER_FIELDS_MAX = 100, 40

-- Counts up the fields that `words` names; `@…` among them is the instant of a success.
local function count(prefix, job, words)
  local key = prefix .. 'stats:' .. job
  for word in string.gmatch(words, '%S+') do
    if string.sub(word, 1, 1) == '@' then
      local instant, known = string.sub(word, 2), redis.call('HGET', key, 'last_success')
      local sortable = function(text) return (string.gsub(text, ':(%d%d)Z$', ':%1.000Z')) end
      if not known or sortable(known) < sortable(instant) then redis.call('HSET', key, 'last_success', instant) end
    else
      redis.call('HINCRBY', key, word, 1)
    end
  end
end

-- Keeps an attempt's end (the text of field `attempt`) beside the newest; of too many the oldest go.
local function keep_attempt(run, generation, attempt, executor, error)
  local number = string.match(attempt, '^%d+')
  if not number then return end
  local field = string.format('try:%06d.%06d', tonumber(generation) or 0, tonumber(number))
  redis.call('HSET', run, field, attempt .. ' ' .. (executor or '') .. '\n' .. (error or ''))
  if redis.call('HLEN', run) <= ATTEMPTS_KEPT_MAX + OTHER_FIELDS_MAX then return end
  local tries = {}
  for _, name in ipairs(redis.call('HKEYS', run)) do
    if string.sub(name, 1, 4) == 'try:' then tries[#tries + 1] = name end
  end
  table.sort(tries)
  for i = 1, #tries - ATTEMPTS_KEPT_MAX do redis.call('HDEL', run, tries[i]) end
end
