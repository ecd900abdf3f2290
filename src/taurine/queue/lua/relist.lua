--[[ relist: put a job back in line that is stored, and stands in no collection.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · 2 job id
  Returns 1 put back · 0 it stands somewhere, or is leased · -1 not stored
  Events  waiting, or delayed.  Cost O(active + waiting).
  Atomic: the job is never in two places.
  Such a job is what is left when a collection was deleted, or evicted, under its jobs. ]]
--@include queue events marker placing whereabouts

local queue = openQueueOf(KEYS[1])
local now, id = tonumber(ARGV[1]), ARGV[2]
local key = queue.base .. id

if redis.call('TYPE', key).ok ~= 'hash' then return -1 end
if redis.call('EXISTS', key .. ':lock') == 1 or standsIn(queue, id) then return 0 end
trimEvents(queue)
local fields = redis.call('HMGET', key, 'timestamp', 'delay', 'priority')
local due = (tonumber(fields[1]) or 0) + (tonumber(fields[2]) or 0)
if due > now then
  placeDelayed(queue, id, due)
  armDelay(queue)
else
  placeReady(queue, id, tonumber(fields[3]) or 0, false)
  emit(queue, 'waiting', 'jobId', id)
  arm(queue)
end
return 1
