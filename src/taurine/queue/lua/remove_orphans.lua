#!lua flags=allow-oom
--[[ remove_orphans: remove those of some jobs that stand in no collection.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · then job ids
  Returns the ids that were removed
  Events  waiting, of a parent that was still waiting for one of them.
  Cost    O(jobs × (active + waiting)): the caller sends few, and only those that it did not see in a list itself.
  Atomic: a job that came to stand somewhere since the caller looked is left alone.
  A hash that is no job's, a job under a lease, and keys of another type are left alone too. ]]
--@include queue events marker placing storing deletion parents deduplication ties removal whereabouts

local queue = openQueueOf(KEYS[1])
local now = tonumber(ARGV[1])

-- A scheduler's record is a hash under the queue as well, with none of these fields.
local function isJobOrGone(key)
  local fields = redis.pcall('HMGET', key, 'timestamp', 'ats', 'delay', 'priority')
  if fields.err then return false end
  return fields[1] or fields[2] or fields[3] or fields[4] or redis.call('EXISTS', key) == 0
end

local removed = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local key = queue.base .. id
  if redis.call('EXISTS', key .. ':lock') == 0 and isJobOrGone(key) and not standsIn(queue, id) then
    cutTies(queue, id, now)
    removed[#removed + 1] = id
  end
end
deleteJobs(queue, removed)
return removed
