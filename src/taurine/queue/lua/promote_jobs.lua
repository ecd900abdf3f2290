#!lua
--[[ promote_jobs: let delayed jobs run now, a number at a time, in the order in which they are due.

  KEYS    1 the queue's meta key
  ARGV    1 most jobs to look at
  Returns { looked at, promoted }: fewer looked at than asked for means that no more are left
  Events  waiting.  Cost O(jobs × log n).
  Atomic: each job is in one place.
  Priorities hold. An id that no job stands behind is dropped. ]]
--@include queue events marker placing

local queue = openQueueOf(KEYS[1])

local ids = redis.call('ZRANGE', queue.delayed, 0, tonumber(ARGV[1]) - 1)
if #ids == 0 then return { 0, 0 } end

trimEvents(queue)
local promoted = 0
for _, id in ipairs(ids) do
  local key = queue.base .. id
  local priority = redis.pcall('HGET', key, 'priority')
  local isHash = type(priority) ~= 'table' and redis.call('EXISTS', key) == 1
  if isHash then
    redis.call('HSET', key, 'delay', 0)
    placeReady(queue, id, tonumber(priority) or 0, false)
    emit(queue, 'waiting', 'jobId', id, 'prev', 'delayed')
    promoted = promoted + 1
  end
end
callInChunks('ZREM', queue.delayed, ids)
arm(queue)
return { #ids, promoted }
