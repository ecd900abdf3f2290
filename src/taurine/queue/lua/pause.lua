#!lua flags=allow-oom
--[[ pause: let no job start, on any worker.

  KEYS    1 the queue's meta key
  Returns 1 paused now · 0 it was paused already
  Events  paused, when it was not.  Cost O(1).
  Atomic: no worker is woken between the flag and the removal of the marker. ]]
--@include queue events

local queue = openQueueOf(KEYS[1])
local was = redis.call('HEXISTS', queue.meta, 'paused')

trimEvents(queue)
redis.call('HSET', queue.meta, 'paused', 1)
redis.call('DEL', queue.marker)
if was == 1 then return 0 end
emit(queue, 'paused')
return 1
