#!lua
--[[ retry_jobs: put finished jobs back in line, a number at a time, oldest first.

  KEYS    1 the queue's meta key
  ARGV    1 state: failed or completed · 2 retry what ended not later than this, ms · 3 most jobs to look at
  Returns { looked at, retried }: fewer looked at than asked for means that no more are left
  Events  waiting.  Cost O(jobs × log n).
  Atomic: each job is in one place, and parents that still stand wait for it again.
  Priorities hold. An id that no job stands behind is dropped. ]]
--@include queue events marker placing storing parents

local queue = openQueueOf(KEYS[1])
local state, cutoff, most = ARGV[1], ARGV[2], ARGV[3]
local resultField = state == 'failed' and 'failedReason' or 'returnvalue'

local ids = redis.call('ZRANGE', queue[state], '-inf', cutoff, 'BYSCORE', 'LIMIT', 0, most)
if #ids == 0 then return { 0, 0 } end

trimEvents(queue)
local retried = 0
for _, id in ipairs(ids) do
  local key = queue.base .. id
  local fields = redis.pcall('HMGET', key, 'priority', 'parentKey', 'parent')
  if not fields.err and redis.call('EXISTS', key) == 1 then
    redis.call('HDEL', key, 'finishedOn', 'processedOn', resultField)
    redis.call('HSET', key, 'delay', 0)
    local parent = fields[2] and openParent(fields[2], fields[3])
    if parent then relinkToParent(parent, key) end
    placeReady(queue, id, tonumber(fields[1]) or 0, false)
    emit(queue, 'waiting', 'jobId', id, 'prev', state)
    retried = retried + 1
  end
end
callInChunks('ZREM', queue[state], ids)
arm(queue)
return { #ids, retried }
