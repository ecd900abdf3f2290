--[[ update_progress: record how far a job is, and tell listeners.

  KEYS    1 the queue's meta key
  ARGV    1 job id · 2 progress, JSON · 3 token of the caller's lease, '' for none · 4 attempts started at its claim, '' for none
  Returns 0 done · -1 not stored · -2 no lease · -6 another's lease
  Events  progress.  Cost O(1); O(active) once the caller's lease has run out.
  Atomic: listeners and readers see the same values in the same order. ]]
--@include queue events lease

local queue = openQueueOf(KEYS[1])
local id, progress, token, attemptsStarted = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = queue.base .. id

if redis.call('EXISTS', key) == 0 then return -1 end
local code = leaseCode(queue, id, token, attemptsStarted)
if code ~= 0 then return code end
trimEvents(queue)
redis.call('HSET', key, 'progress', progress)
emit(queue, 'progress', 'jobId', id, 'data', progress)
return 0
