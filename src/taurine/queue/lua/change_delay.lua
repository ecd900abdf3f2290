--[[ change_delay: move the due time of a delayed job.

  KEYS    1 the queue's meta key
  ARGV    1 job id · 2 now, ms · 3 delay from now, ms
  Returns 0 done · -1 not stored · -3 not delayed
  Events  delayed.  Cost O(log n).
  Atomic: no worker sees the job between its two due times. ]]
--@include queue events marker placing

local queue = openQueueOf(KEYS[1])
local id, now, delay = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key = queue.base .. id

if redis.call('EXISTS', key) == 0 then return -1 end
if redis.call('ZREM', queue.delayed, id) == 0 then return -3 end
trimEvents(queue)
redis.call('HSET', key, 'delay', delay)
placeDelayed(queue, id, now + delay)
armDelay(queue)
return 0
