#!lua flags=allow-oom
--[[ release_deduplication: let a deduplication id be taken again, though the job that holds it goes on.

  KEYS    1 the queue's meta key
  ARGV    1 deduplication id · 2 the job that is to hold it, '' for whoever does
  Returns 1 released · 0 the job does not hold it, or nobody does
  Events  none.  Cost O(1).
  Atomic: a job that took the id meanwhile keeps it. A job that was kept to follow the holder still does: it notes whom, since it would stay for
          ever if that one was removed. ]]
--@include queue

local queue = openQueueOf(KEYS[1])
local dedupId, wanted = ARGV[1], ARGV[2]
local key, follower = queue.base .. 'de:' .. dedupId, queue.base .. 'dn:' .. dedupId
local holder = redis.pcall('GET', key)
if wanted ~= '' and holder ~= wanted then return 0 end
if type(holder) == 'string' and redis.call('EXISTS', follower) == 1 then redis.pcall('HSET', follower, 'of', holder) end
return redis.call('DEL', key)
