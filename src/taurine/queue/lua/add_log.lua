--[[ add_log: append a line to a job's log.

  KEYS    1 the queue's meta key
  ARGV    1 job id · 2 line · 3 newest lines to keep, '' for all · 4 token of the caller's lease, '' for none ·
          5 attempts started at its claim, '' for none
  Returns how many lines the log has now · -1 not stored · -2 no lease · -6 another's lease
  Events  none.  Cost O(lines cut); O(active) once the caller's lease has run out.
  Atomic: a log without a job would stay for ever. ]]
--@include queue lease

local queue = openQueueOf(KEYS[1])
local id, line, keep, token, attemptsStarted = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local logs = queue.base .. id .. ':logs'

if redis.call('EXISTS', queue.base .. id) == 0 then return -1 end
local code = leaseCode(queue, id, token, attemptsStarted)
if code ~= 0 then return code end
local length = redis.call('RPUSH', logs, line)
if not keep or length <= keep then return length end
if keep == 0 then
  redis.call('DEL', logs)
else
  redis.call('LTRIM', logs, -keep, -1)
end
return keep
