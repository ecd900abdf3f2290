-- In which collection a job stands, by the collection's key suffix.

local SETS = { 'completed', 'failed', 'delayed', 'prioritized', 'waiting-children' }
local LISTS = { 'active', 'wait', 'paused' }

-- Nil when it stands in none. The lists come last: they are searched from end to end.
local function standsIn(queue, id)
  for _, set in ipairs(SETS) do
    if redis.call('ZSCORE', queue.base .. set, id) then return set end
  end
  for _, list in ipairs(LISTS) do
    if redis.call('LPOS', queue.base .. list, id) then return list end
  end
end

-- Takes the job out of line, and answers where it stood.
local function takeOut(queue, id)
  for _, set in ipairs(SETS) do
    if redis.call('ZREM', queue.base .. set, id) == 1 then return set end
  end
  for _, list in ipairs(LISTS) do
    if redis.call('LREM', queue.base .. list, 1, id) == 1 then return list end
  end
end
