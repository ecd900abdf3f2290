#!lua flags=allow-oom
--[[ configure: set or remove limits of a queue, and wake a worker if it may claim now.

  KEYS    1 the queue's meta key
  ARGV    1 version of this library · 2 '1' to lift a limit that holds now, '' not · then field · value of the meta hash, a value of ''
          to remove the field
  Returns 1 when a limit was lifted, else 0
  Events  none.  Cost O(fields).
  Atomic: workers see related fields together. A worker that was held back by the old limit would otherwise sleep on. ]]
--@include queue marker

local queue = openQueueOf(KEYS[1])
local lifted = 0

if ARGV[2] == '1' then lifted = redis.call('DEL', queue.limiter) end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', queue.meta, ARGV[i])
  else
    redis.call('HSET', queue.meta, ARGV[i], ARGV[i + 1])
  end
end
-- Whoever set the queue up first is named in it, as BullMQ on Node does.
if #ARGV > 2 then redis.call('HSETNX', queue.meta, 'version', ARGV[1]) end
armIfClaimable(queue)
return lifted
