#!lua flags=allow-oom
--[[ remove_scheduler: end a schedule.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · 2 scheduler id
  Returns 1 removed; 0 there is none
  Events  removed, of the next run.  Cost O(log n); O(wait) when the next run stands in `wait`.
  Atomic: the schedule and its next run go together. A run that was started is left to end, its retries included. ]]
--@include queue events marker placing storing deletion parents deduplication ties whereabouts schedule

local queue = openQueueOf(KEYS[1])
local now, schedulerId = tonumber(ARGV[1]), ARGV[2]
local armed = redis.call('ZSCORE', queue.schedulers, schedulerId)
if not armed then return 0 end

trimEvents(queue)
local armedId = 'repeat:' .. schedulerId .. ':' .. armed
if redis.call('HEXISTS', queue.base .. armedId, 'ats') == 0 then withdrawRun(queue, armedId, now) end
redis.call('ZREM', queue.schedulers, schedulerId)
redis.call('DEL', queue.schedulers .. ':' .. schedulerId)
return 1
