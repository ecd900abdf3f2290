-- Removing jobs: which may not go.

-- The next run of a scheduler: without it the schedule would end. The last run of a series keeps its place in the record after it has
-- finished; nothing hangs on it then.
local function isArmed(queue, id)
  local scheduler, due = string.match(id, '^repeat:(.+):(%d+)$')
  if not scheduler then return false end
  local armed = redis.call('ZSCORE', queue.schedulers, scheduler)
  if not armed or tonumber(armed) ~= tonumber(due) then return false end
  return redis.pcall('HEXISTS', queue.base .. id, 'finishedOn') ~= 1
end
