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

-- When a run was started first, after one more report of an attempt (model::stats::FirstStart): in its newest generation
-- (ms), and the text of field `first`, of which `known` is the one so far.
local function first_start(known, generation, started_ms)
  local at, newest, again = string.match(known or '', '^(-?%d+) (%d+) (-?%d+)$')
  if not at then at, newest, again = started_ms, generation, started_ms end
  if tonumber(newest) < tonumber(generation) then newest, again = generation, started_ms end
  return tonumber(again), at .. ' ' .. newest .. ' ' .. again
end

-- The bucket of a time (model::stats::bucket_of).
local function bucket_of(ms)
  ms = math.max(ms, 0)
  local doublings = 0
  while ms >= 16 do ms, doublings = math.floor(ms / 2), doublings + 1 end
  return digits(doublings * 8 + ms)
end

-- The words of an end without those that don't count: only a first start tells lateness, and no backfilled run does.
local function without_lateness(words, known_first, prefix, id)
  if not known_first and not backfill_of(prefix, id) then return words end
  return (string.gsub(words, ' ?late:%d+', ''))
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
