#!lua flags=allow-oom
--[[ resume: let jobs start again, and wake a worker.

  KEYS    1 the queue's meta key
  ARGV    1 most ids to move in one call
  Returns how many ids are left in the list where BullMQ 5 kept the jobs of a paused queue; call again until 0
  Events  resumed, when it was paused and none is left.  Cost O(ids moved).
  Atomic: workers see the flag gone and the jobs in line together.
  The old list is moved whole before the flag goes, so that its order holds. ]]
--@include queue events marker

local queue = openQueueOf(KEYS[1])

local moved = redis.call('LPOP', queue.paused, ARGV[1])
if moved then callInChunks('RPUSH', queue.wait, moved) end
local left = redis.call('LLEN', queue.paused)
if left > 0 then return left end

trimEvents(queue)
if redis.call('HDEL', queue.meta, 'paused') == 1 then emit(queue, 'resumed') end
armIfClaimable(queue)
return 0
