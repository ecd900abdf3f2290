--[[ update_data: replace the data of a stored job, in whatever state it is.

  KEYS    1 the queue's meta key
  ARGV    1 job id · 2 data, JSON · 3 token of the caller's lease, '' for none · 4 attempts started at its claim, '' for none
  Returns 0 done · -1 not stored · -2 no lease · -6 another's lease
  Events  none.  Cost O(1); O(active) once the caller's lease has run out.
  Atomic: a job that goes away meanwhile must not come back as a hash with nothing but data. ]]
--@include queue lease

local queue = openQueueOf(KEYS[1])
local id, data, token, attemptsStarted = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = queue.base .. id

if redis.call('EXISTS', key) == 0 then return -1 end
local code = leaseCode(queue, id, token, attemptsStarted)
if code == 0 then redis.call('HSET', key, 'data', data) end
return code
