#!lua
-- One call to a queue's gate: takes ended runs out, puts asking runs in line, lets go whom the rules allow.
-- KEYS  1 the shard's gates, 2 active, 3 lines, 4 waiting runs, 5 passes, 6 due marks
-- ARGV  1 prefix of the lines' keys, 2 queue, 3 now (ms), 4 how many may be let go in this call, 5 concurrency or '',
--       6 rate: interval (µs) or '', 7 tolerance (µs), 8 rate for a key: interval (µs) or '', 9 tolerance (µs), 10 paused 0|1,
--       11 how many of a line may be passed over, 12 stride of a namespace without a share,
--       13 how many shares, then each: namespace, stride; how many ended, then each: run id;
--       how many ask, then each: run id, due (ms), priority, namespace, rate key or ''
-- returns {{run id let go (of those that ask, perhaps not all), …}, when to come again (ms) or -1, {1|0 for each that asks: it is active}}
-- Atomic: of all dispatchers that ask at once, together no more than the limits may go.
-- The rule is model::gate::Gate, which this follows step by step; the passes live while anything waits.
local active_key, lines_key, runs_key, passes_key, marks_key = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local line_prefix, now_ms, most = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local now_us = now_ms * 1000
local concurrency = tonumber(ARGV[5])
local rate = ARGV[6] ~= '' and {tonumber(ARGV[6]), tonumber(ARGV[7])} or nil
local key_rate = ARGV[8] ~= '' and {tonumber(ARGV[8]), tonumber(ARGV[9])} or nil
local paused, scan_max, plain_stride = ARGV[10] == '1', tonumber(ARGV[11]), tonumber(ARGV[12])
local PRIORITIES = {'high', 'normal', 'low'}
local TURN = {high = 1, normal = 4, low = 16}
local PAGE = 100

local position = 12
local function argument()
  position = position + 1
  return ARGV[position]
end
local strides = {}
for _ = 1, tonumber(argument()) do
  local namespace = argument()
  strides[namespace] = tonumber(argument())
end

-- Lines by priority, each list in order of namespace.
local lines, by_name = {high = {}, normal = {}, low = {}}, {}
local function add_line(name, persisted)
  local priority, namespace = string.match(name, '^(%S+) (.*)$')
  local line = {name = name, priority = priority, namespace = namespace, key = line_prefix .. priority .. ':' .. namespace,
    persisted = persisted, items = {}, at = 1, read = 0, passed = 0, complete = not persisted}
  by_name[name] = line
  lines[priority][#lines[priority] + 1] = line
  return line
end

-- Who has ended.
local ended = {}
for n = 1, tonumber(argument()) do ended[n] = argument() end
if #ended > 0 then
  spread('ZREM', active_key, ended)
  if redis.call('EXISTS', lines_key) == 1 then
    for _, id in ipairs(ended) do
      local standing = redis.call('HGET', runs_key, id)
      if standing then
        local name = string.match(standing, '^%S+') .. ' ' .. string.match(id, '^(.-)/')
        local key = line_prefix .. string.gsub(name, ' ', ':', 1)
        redis.call('ZREM', key, id)
        redis.call('HDEL', runs_key, id)
        if redis.call('EXISTS', key) == 0 then redis.call('ZREM', lines_key, name) end
      end
    end
  end
end

-- Who waits, and the passes of the last call.
for _, name in ipairs(redis.call('ZRANGE', lines_key, 0, -1)) do add_line(name, true) end
local passes, dirty = {}, {}
local had_lines = next(by_name) ~= nil
if had_lines then
  local stored = redis.call('HGETALL', passes_key)
  for i = 1, #stored, 2 do passes[stored[i]] = tonumber(stored[i + 1]) end
end
local function pass(field) return passes[field] or 0 end
local function set_pass(field, value)
  if passes[field] ~= value then
    passes[field] = value
    dirty[field] = true
  end
end
-- Fields: '@' and '@<priority>' are the clocks, '<priority>' and '<priority> <namespace>' the passes.
local function catch_up(priority) set_pass(priority, math.max(pass(priority), pass('@'))) end
local function catch_up_line(line) set_pass(line.name, math.max(pass(line.name), pass('@' .. line.priority))) end

-- Who asks.
local asking, known = tonumber(argument()), {}
local ASKS = 5
local ids, first_ask = {}, position + 1
for n = 1, asking do ids[n] = ARGV[first_ask + ASKS * (n - 1)] end
local scores = asking > 0 and redis.call('ZMSCORE', active_key, unpack(ids)) or {}

-- Due marks: '=' of the queue, ':<key>' of a key.
redis.call('ZREMRANGEBYSCORE', marks_key, '-inf', digits(now_us))
local marks, new_marks = {}, {}
local function mark_of(member)
  if marks[member] == nil then marks[member] = tonumber(redis.call('ZSCORE', marks_key, member) or '') or false end
  return marks[member]
end
local function blocked_until(limit, member)
  local mark = limit and mark_of(member)
  local free = mark and mark - limit[2]
  return free and free > now_us and free or nil
end
local function start(limit, member, count)
  marks[member] = math.max(mark_of(member) or now_us, now_us) + count * limit[1]
  new_marks[member] = marks[member]
end

local active = redis.call('ZCARD', active_key)
local function remember(picked)
  if #picked > 0 then
    local members = {}
    for i, id in ipairs(picked) do members[2 * i - 1], members[2 * i] = ARGV[3], id end
    spread('ZADD', active_key, members)
  end
  local members = {}
  for member, mark in pairs(new_marks) do members[#members + 1], members[#members + 2] = digits(mark), member end
  if #members > 0 then spread('ZADD', marks_key, members) end
end

-- Nearly always nobody waits and there is room for all who ask. Then no turn has to be found, which costs most.
if asking > 0 and not had_lines and not paused and not key_rate then
  local fresh, flags = {}, {}
  for n, id in ipairs(ids) do
    flags[n] = 1
    if not scores[n] and not known[id] then
      known[id] = true
      fresh[#fresh + 1] = id
    end
  end
  local count = #fresh
  -- The mark that the last of them would find.
  local last_mark = rate and math.max(mark_of('=') or now_us, now_us) + (count - 1) * rate[1]
  if count <= most and (not concurrency or active + count <= concurrency)
    and (not rate or count == 0 or last_mark - rate[2] <= now_us) then
    if rate and count > 0 then start(rate, '=', count) end
    remember(fresh)
    if active + count > 0 or redis.call('EXISTS', marks_key) == 1 then redis.call('SADD', KEYS[1], ARGV[2]) end
    return {{}, -1, flags}
  end
  known = {}
end

local runs = {}
for n = 1, asking do
  local at = first_ask + ASKS * (n - 1)
  runs[n] = {id = ids[n], due = ARGV[at + 1], priority = ARGV[at + 2], namespace = ARGV[at + 3], key = ARGV[at + 4]}
end
local is_active = {}
if asking > 0 then
  local standing = had_lines and redis.call('HMGET', runs_key, unpack(ids)) or {}
  for n, run in ipairs(runs) do
    if scores[n] then
      is_active[run.id] = true
    elseif not standing[n] and not known[run.id] then
      known[run.id] = true
      local name = run.priority .. ' ' .. run.namespace
      if #lines[run.priority] == 0 then catch_up(run.priority) end
      local line = by_name[name]
      if not line then
        line = add_line(name, false)
        catch_up_line(line)
      end
      line.items[#line.items + 1] = run
    end
  end
end
local function persist(line, from)
  local scores, fields = {}, {}
  for i = from, #line.items do
    local run = line.items[i]
    scores[#scores + 1], scores[#scores + 2] = run.due, run.id
    fields[#fields + 1] = run.id
    fields[#fields + 1] = run.key == '' and line.priority or line.priority .. ' ' .. run.key
  end
  if #scores == 0 then return end
  spread('ZADD', line.key, scores)
  spread('HSET', runs_key, fields)
end
for _, line in pairs(by_name) do
  if line.persisted then
    persist(line, 1)
    line.items = {}
  else
    for _, run in ipairs(line.items) do run.due_ms = tonumber(run.due) end
    if #line.items > 1 then
      table.sort(line.items, function(a, b)
        return a.due_ms < b.due_ms or (a.due_ms == b.due_ms and a.id < b.id)
      end)
    end
  end
end
for _, priority in ipairs(PRIORITIES) do
  table.sort(lines[priority], function(a, b) return a.namespace < b.namespace end)
end

local key_free
-- The next of a line that isn't passed over, nil if there is none in this call.
local function first_of(line)
  while not line.blocked do
    local run = line.items[line.at]
    if not run and not line.complete then
      local page = redis.call('ZRANGE', line.key, line.read, line.read + PAGE - 1)
      local notes = key_rate and #page > 0 and redis.call('HMGET', runs_key, unpack(page)) or {}
      for i, id in ipairs(page) do
        line.items[#line.items + 1] = {id = id, key = notes[i] and string.match(notes[i], ' (.*)$') or ''}
      end
      line.read = line.read + #page
      line.complete = #page < PAGE
      run = line.items[line.at]
    end
    if not run then
      line.blocked = true
      return nil
    end
    local free = run.key ~= '' and blocked_until(key_rate, ':' .. run.key) or nil
    if not free then return run end
    key_free = key_free and math.min(key_free, free) or free
    line.at = line.at + 1
    line.passed = line.passed + 1
    if line.passed >= scan_max then line.blocked = true end
  end
end

-- Whose turn it is: the lowest pass of the priorities, then of its lines; a tie keeps the order. Who is blocked stays so.
local closed = {}
local function choose()
  while true do
    local priority, lowest
    for i = 1, 3 do
      local name = PRIORITIES[i]
      if #lines[name] > 0 and not closed[name] and (not priority or pass(name) < lowest) then
        priority, lowest = name, pass(name)
      end
    end
    if not priority then return nil end
    while true do
      local line
      for _, one in ipairs(lines[priority]) do
        if not one.blocked and (not line or pass(one.name) < lowest) then line, lowest = one, pass(one.name) end
      end
      if not line then break end
      local run = first_of(line)
      if run then return line, run end
    end
    closed[priority] = true
  end
end

local function waiting_lines() return #lines.high + #lines.normal + #lines.low end
local function drop_line(line)
  for i, one in ipairs(lines[line.priority]) do
    if one == line then
      table.remove(lines[line.priority], i)
      return
    end
  end
end

local picked, next_us = {}, nil
while waiting_lines() > 0 and not paused and (not concurrency or active < concurrency) do
  if #picked >= most then
    next_us = now_us
    break
  end
  next_us = blocked_until(rate, '=')
  if next_us then break end
  local line, run = choose()
  if not line then
    next_us = key_free
    break
  end
  line.at = line.at + 1
  line.left = (line.left or (line.persisted and redis.call('ZCARD', line.key) or #line.items)) - 1
  line.gone = line.gone or {}
  line.gone[#line.gone + 1] = run.id
  if not line.persisted then run.gone = true end
  if line.left == 0 then
    line.empty = true
    drop_line(line)
  end
  set_pass('@', pass(line.priority))
  set_pass(line.priority, pass(line.priority) + TURN[line.priority])
  set_pass('@' .. line.priority, pass(line.name))
  set_pass(line.name, pass(line.name) + (strides[line.namespace] or plain_stride))
  if rate then start(rate, '=', 1) end
  if key_rate and run.key ~= '' then start(key_rate, ':' .. run.key, 1) end
  active = active + 1
  picked[#picked + 1] = run.id
  is_active[run.id] = true
end

for _, priority in ipairs(PRIORITIES) do
  local of, all_blocked = lines[priority], true
  for _, line in ipairs(of) do
    if line.blocked then catch_up_line(line) else all_blocked = false end
  end
  if #of > 0 and all_blocked then catch_up(priority) end
end

-- What is to be remembered.
for _, line in pairs(by_name) do
  if line.persisted then
    if line.gone then
      spread('ZREM', line.key, line.gone)
      spread('HDEL', runs_key, line.gone)
    end
    if line.empty then redis.call('ZREM', lines_key, line.name) end
  elseif not line.empty then
    local left = {}
    for _, run in ipairs(line.items) do
      if not run.gone then left[#left + 1] = run end
    end
    line.items = left
    persist(line, 1)
    redis.call('ZADD', lines_key, 0, line.name)
  end
end
remember(picked)
if waiting_lines() > 0 then
  local fields = {}
  for field in pairs(dirty) do fields[#fields + 1], fields[#fields + 2] = field, digits(passes[field]) end
  if #fields > 0 then spread('HSET', passes_key, fields) end
elseif had_lines then
  redis.call('DEL', passes_key)
end
if active > 0 or waiting_lines() > 0 or redis.call('EXISTS', marks_key) == 1 then
  redis.call('SADD', KEYS[1], ARGV[2])
else
  redis.call('SREM', KEYS[1], ARGV[2])
end

local flags = {}
for n, id in ipairs(ids) do flags[n] = is_active[id] and 1 or 0 end
return {picked, next_us and math.ceil(next_us / 1000) or -1, flags}
