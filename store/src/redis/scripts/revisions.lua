-- revisions.lua: what a job's record says of an entry. Put behind the prelude of the scripts that read the minute tier.

-- The present revision of an entry's job: a text; false if there is no such job; '?' if its record, or the entry, can't be read.
-- Then the job, and its `overlap` field if it has one.
local revisions_of, rules_of = {}, {}
local function revision_of(prefix, entry)
  local job = string.match(entry, '^(.-)@')
  if not job then return '?' end
  local known = revisions_of[job]
  if known == nil then
    local record = try('HMGET', prefix .. 'job:' .. job, 'revision', 'v', 'overlap')
    if not record then known = '?'
    elseif not record[1] and not record[2] then known = false
    else known = tonumber(record[1] or '') and record[1] or '?' end
    revisions_of[job] = known
    rules_of[job] = record and record[3] or nil
  end
  return known, job, rules_of[job]
end
