--[[ release_deduplication: let a job's deduplication id be taken again, if the job holds it.

  KEYS    1 the queue's meta key
  ARGV    1 deduplication id · 2 job id
  Returns 1 released · 0 the job does not hold it
  Events  none.  Cost O(1).
  Atomic: a job that took the id meanwhile keeps it. A job that was kept to follow this one still does. ]]
--@include queue

local queue = openQueueOf(KEYS[1])
local key = queue.base .. 'de:' .. ARGV[1]
if redis.call('GET', key) ~= ARGV[2] then return 0 end
return redis.call('DEL', key)
