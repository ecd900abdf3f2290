--[[ retry_job: put a finished job back in line.

  KEYS    1 the queue's meta key
  ARGV    1 job id · 2 the state it is in: failed or completed · 3 '1' to be next in line, '' to be last ·
          4 '1' to forget the attempts made, '' not · 5 '1' to forget the attempts started, '' not
  Returns 0 done · -1 not stored · -3 not in that state
  Events  waiting.  Cost O(log n).
  Atomic: the job is in one place, and a parent that still stands waits for it again. ]]
--@include queue events marker placing storing parents

local queue = openQueueOf(KEYS[1])
local id, state, first, resetMade, resetStarted = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4] == '1', ARGV[5] == '1'
local key = queue.base .. id

if redis.call('EXISTS', key) == 0 then return -1 end
if redis.call('ZREM', queue[state], id) == 0 then return -3 end
trimEvents(queue)
redis.call('HDEL', key, 'finishedOn', 'processedOn', state == 'failed' and 'failedReason' or 'returnvalue')
redis.call('HSET', key, 'delay', 0)
if resetMade then redis.call('HDEL', key, 'atm', 'attemptsMade') end
if resetStarted then redis.call('HDEL', key, 'ats') end

local fields = redis.call('HMGET', key, 'priority', 'parentKey', 'parent')
local parent = fields[2] and openParent(fields[2], fields[3])
if parent then relinkToParent(parent, key) end
placeReady(queue, id, tonumber(fields[1]) or 0, first)
emit(queue, 'waiting', 'jobId', id, 'prev', state)
arm(queue)
return 0
