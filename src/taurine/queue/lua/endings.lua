--[[ endings: what became of some jobs, and where the event stream stood at that moment.

  KEYS    1 the queue's meta key
  ARGV    job ids
  Returns { last, endings }: the id of the newest event ('0-0' for none), and for each job 0 not ended · -1 not stored ·
          { 1, result JSON } completed · { 2, reason } failed
  Events  none.  Cost O(jobs).
  Atomic: an end that is not in the answer has its event after `last`, so a reader that goes on from there cannot miss it. ]]
--@include queue

local queue = openQueueOf(KEYS[1])

local function endingOf(id)
  local key = queue.base .. id
  if redis.call('EXISTS', key) == 0 then return -1 end
  if redis.call('ZSCORE', queue.completed, id) then return { 1, redis.call('HGET', key, 'returnvalue') or 'null' } end
  if redis.call('ZSCORE', queue.failed, id) then return { 2, redis.call('HGET', key, 'failedReason') or '' } end
  return 0
end

local endings = {}
for i, id in ipairs(ARGV) do endings[i] = endingOf(id) end
local newest = redis.call('XREVRANGE', queue.events, '+', '-', 'COUNT', 1)
return { newest[1] and newest[1][1] or '0-0', endings }
