-- stats.lua: a job's statistics, and the attempts of a run that others followed. Put behind the prelude of the scripts
-- that end, note or reopen runs.

-- model::limits::ATTEMPTS_KEPT_MAX, and more than the other fields of a run's hash.
local ATTEMPTS_KEPT_MAX, OTHER_FIELDS_MAX = 100, 40

-- An instant's text so that texts sort as instants do: 'Z' for '.000Z'.
local function sortable(instant)
  return (string.gsub(instant, ':(%d%d)Z$', ':%1.000Z'))
end

-- Counts up the fields that `words` names; `@…` among them is the instant of a success. Two commands, however many.
local function count(prefix, job, words)
  local key, fields, success = prefix .. 'stats:' .. job, {'last_success'}, nil
  for word in string.gmatch(words, '%S+') do
    if string.sub(word, 1, 1) == '@' then success = string.sub(word, 2) else fields[#fields + 1] = word end
  end
  if #fields == 1 and not success then return end
  local values, row = redis.call('HMGET', key, unpack(fields)), {}
  for i = 2, #fields do
    row[#row + 1], row[#row + 2] = fields[i], digits((tonumber(values[i] or '') or 0) + 1)
  end
  if success and (not values[1] or sortable(values[1]) < sortable(success)) then
    row[#row + 1], row[#row + 2] = 'last_success', success
  end
  if #row > 0 then redis.call('HSET', key, unpack(row)) end
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
