#!lua flags=allow-oom
--[[ limit_for: let no job start for a while, unless a limit that is reached now holds for longer.

  KEYS    1 the queue's meta key
  ARGV    1 how long, ms · 2 starts per window that the caller's worker allows, '' without a limit of its own
  Returns for how long no job starts now, ms
  Events  none.  Cost O(1).
  Atomic: of two workers that were told different times, the longer one counts, whoever comes first. ]]
--@include queue

local queue = openQueueOf(KEYS[1])
local duration = tonumber(ARGV[1])
local AD_HOC_LIMIT = 9007199254740991

local started = tonumber(redis.pcall('GET', queue.limiter))
local most = tonumber(redis.call('HGET', queue.meta, 'max')) or tonumber(ARGV[2]) or AD_HOC_LIMIT
if started and started >= most then
  local left = redis.call('PTTL', queue.limiter)
  if left >= duration then return left end
end
redis.call('SET', queue.limiter, string.format('%.0f', AD_HOC_LIMIT), 'PX', duration)
return duration
