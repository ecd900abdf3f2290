#!lua flags=allow-oom
--[[ advance_scheduler: arm the run after the one that was claimed.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · 2 scheduler id · 3 id of the claimed job · 4 options of the next run, JSON up to the number that ends its job
          id · 5 priority, 0 for none · 6 lifo, 1 or '' · 7 deduplication id, '' for none · 8 every, ms, '' for a pattern ·
          9 end, ms, '' for none
          from 10 on, for a pattern: its next times, ms, ascending
  Returns the id of the next run; or, with nothing changed:
          0 the claimed job is not the armed run: it was advanced before, or the scheduler is gone or was changed
          -10 jobs stand under the ids of all these times: call again with later ones
          -11 the same for the next 1,000 slots of an interval · -12 the interval has no run left before the end
  Events  added; waiting or delayed.  Cost O(log n), O(taken slots).
  Atomic: only the armed run arms the next, so retries, redeliveries and repeated calls change nothing.
  It runs while memory is full: a schedule that is refused its next run would end. ]]
--@include queue events marker placing storing deletion parents deduplication ties whereabouts schedule

local queue = openQueueOf(KEYS[1])
local now, schedulerId, claimedId, optionsHead = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local priority, lifo, dedupId = tonumber(ARGV[5]), ARGV[6] == '1', ARGV[7]
local every, ending = tonumber(ARGV[8]), tonumber(ARGV[9])
local FIRST_TIME = 10
local NOT_ARMED = 0

local armed = redis.call('ZSCORE', queue.schedulers, schedulerId)
if not armed or claimedId ~= 'repeat:' .. schedulerId .. ':' .. armed then return NOT_ARMED end

local recordKey = queue.schedulers .. ':' .. schedulerId
local record = redis.call('HMGET', recordKey, 'name', 'data', 'offset')
if not record[1] then  -- the record is lost, and the claimed job is all that is left of it
  local claimed = redis.call('HMGET', queue.base .. claimedId, 'name', 'data')
  record[1], record[2] = claimed[1] or schedulerId, claimed[2]
end

local nextMs
if every then
  local slot = followingRun(tonumber(armed), every, tonumber(record[3]) or 0, now)
  nextMs = freeSlot(queue, schedulerId, slot, every, ending)
else
  nextMs = freeTime(queue, schedulerId, ARGV, FIRST_TIME)
end
if nextMs < 0 then return nextMs end

trimEvents(queue)
redis.call('HINCRBY', recordKey, 'ic', 1)
return (armRun(queue, schedulerId, nextMs, {
  name = record[1], data = record[2] or '{}', optionsHead = optionsHead, ofPattern = not every,
  priority = priority, lifo = lifo, dedupId = dedupId,
}, now))
