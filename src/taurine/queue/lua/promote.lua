--[[ promote: let a delayed job run now.

  KEYS    1 the queue's meta key
  ARGV    1 job id
  Returns 0 done · -1 not stored · -3 not delayed
  Events  waiting.  Cost O(log n).
  Atomic: the job is always in exactly one place.
  An id in the delayed set that no job stands behind is taken out and answered with -1: giving it a place in line would make half a job. ]]
--@include queue events marker placing

local queue = openQueueOf(KEYS[1])
local id = ARGV[1]
local key = queue.base .. id

if redis.call('EXISTS', key) == 0 then
  redis.call('ZREM', queue.delayed, id)
  return -1
end
if redis.call('ZREM', queue.delayed, id) == 0 then return -3 end
trimEvents(queue)
redis.call('HSET', key, 'delay', 0)
placeReady(queue, id, tonumber(redis.call('HGET', key, 'priority')) or 0, false)
emit(queue, 'waiting', 'jobId', id, 'prev', 'delayed')
arm(queue)
return 0
