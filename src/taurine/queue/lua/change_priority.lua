--[[ change_priority: give a job another priority, and another place in line if it is in line.

  KEYS    1 the queue's meta key
  ARGV    1 job id · 2 priority, 0 for none · 3 '1' to be next of its priority, '' to be last
  Returns 0 done · -1 not stored
  Events  none, as in BullMQ.  Cost O(log n) for a prioritized job, O(waiting) for one without a priority.
  Atomic: the job is always in exactly one place.
  A job in another state keeps its place; the priority counts when it is in line again. ]]
--@include queue events marker placing

local queue = openQueueOf(KEYS[1])
local id, priority, first = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local key = queue.base .. id

if redis.call('EXISTS', key) == 0 then return -1 end
redis.call('HSET', key, 'priority', priority)
if redis.call('ZREM', queue.prioritized, id) == 0 and redis.call('LREM', queue.wait, 1, id) == 0 then return 0 end
if first and priority > 0 then
  redis.call('ZADD', queue.prioritized, priority * PRIORITY_STEP, id)
else
  placeReady(queue, id, priority, first)
end
-- In front of a priority as well: a worker that sleeps may have missed the marker of the job's first placing.
arm(queue)
return 0
