#!lua flags=allow-oom
--[[ sweep: put jobs back whose worker is gone.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · 2 for how long this look counts for all workers, ms · 3 how often a job may be put back before it is marked to fail
  Returns the ids that were put back; false when a look that still counts was there
  Events  waiting, stalled.  Cost O(active).
  Atomic: a job is suspected in one sweep and put back in a later one only if no lease was taken on it between.
  A job put back too often is marked (`defa`): whoever claims it next fails it without running it. The next run of
  a scheduler is never marked before the one after it is made, or one crash too many would end the schedule. ]]
--@include queue events marker removal

local queue = openQueueOf(KEYS[1])
local now, countsMs, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])

if not redis.call('SET', queue.stalledCheck, now, 'PX', countsMs, 'NX') then return false end
trimEvents(queue)

-- Counts from anew when the count that stands there is no number.
local function countStall(key)
  local stalls = redis.pcall('HINCRBY', key, 'stc', 1)
  if type(stalls) == 'number' then return stalls end
  redis.call('HSET', key, 'stc', 1)
  return 1
end

local function putBack(id)
  local key = queue.base .. id
  -- No job behind the id, or a key of another type: the id only leaves active.
  if redis.call('TYPE', key).ok ~= 'hash' then return false end
  local stalls = countStall(key)
  if stalls > limit and not isArmed(queue, id) then
    redis.call('HSET', key, 'defa', 'job stalled more than allowable limit')
  end
  redis.call('RPUSH', queue.wait, id)
  emit(queue, 'waiting', 'jobId', id, 'prev', 'active')
  emit(queue, 'stalled', 'jobId', id)
  return true
end

local recovered = {}
for _, id in ipairs(redis.call('SMEMBERS', queue.stalled)) do
  if redis.call('EXISTS', queue.base .. id .. ':lock') == 0 and redis.call('LREM', queue.active, 1, id) == 1 then
    if putBack(id) then recovered[#recovered + 1] = id end
  end
end
redis.call('DEL', queue.stalled)
callInChunks('SADD', queue.stalled, redis.call('LRANGE', queue.active, 0, -1))
if #recovered > 0 then arm(queue) end
return recovered
