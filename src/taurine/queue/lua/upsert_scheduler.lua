#!lua
--[[ upsert_scheduler: create or change a job scheduler, and arm its next run.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · 2 scheduler id · 3 job name · 4 template data, JSON · 5 template options, JSON · 6 options of the run, JSON up
          to the number that ends its job id · 7 priority, 0 for none · 8 lifo, 1 or ''
          then the schedule, '' where nothing is given: 9 every, ms · 10 offset, ms · 11 pattern · 12 time zone · 13 start, ms ·
          14 end, ms · 15 limit, runs
          from 16 on, for a pattern: its next times, ms, ascending
  Returns { job id, options, delay ms }; or, with nothing changed:
          -10 jobs stand under the ids of all these times: call again with later ones
          -11 the same for the next 1,000 slots of an interval · -12 the interval has no run before the end
  Events  removed of the run that is replaced; added; waiting or delayed.
  Cost    O(log n); O(wait) when the run to replace stands in `wait`, or nowhere; O(taken slots).
  Atomic: there is one armed run before and after. A run that was started is left to end, and is not the armed one any more.

  A run that was due and not started stays due when every, offset, pattern and time zone are as before, so that changing a
  scheduler of a queue that is behind loses no run. An armed run that is lost (flushed, drained away) is made again. ]]
--@include queue events marker placing storing deletion parents deduplication ties whereabouts schedule

local queue = openQueueOf(KEYS[1])
local now, schedulerId, name, data, templateOptions = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local optionsHead, priority, lifo = ARGV[6], tonumber(ARGV[7]), ARGV[8] == '1'
local every, offset, pattern, zone = tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11], ARGV[12]
local start, ending, limit = tonumber(ARGV[13]), tonumber(ARGV[14]), ARGV[15]
local FIRST_TIME = 16

local record = queue.schedulers .. ':' .. schedulerId
local before = redis.call('HMGET', record, 'every', 'offset', 'pattern', 'tz', 'ic')
local armedMs = tonumber((redis.call('ZSCORE', queue.schedulers, schedulerId)))
local armedKey = armedMs and queue.base .. runId(schedulerId, armedMs)
local armedExists = armedKey and redis.call('EXISTS', armedKey) == 1
local replaceable = armedKey and redis.call('HEXISTS', armedKey, 'ats') == 0

local sameInterval = every and tonumber(before[1]) == every and (not offset or offset == tonumber(before[2]))
local samePattern = not every and before[3] == pattern and (before[4] or '') == zone
if sameInterval then offset = tonumber(before[2]) end

local replacedMs = replaceable and armedMs or nil

local function slotOfInterval()
  if not armedMs or not sameInterval then return firstRun(every, offset, start, now) end
  if replaceable and (armedExists or armedMs >= now) then return armedMs end
  return followingRun(armedMs, every, offset or 0, now)
end

local function nextOfInterval()
  local ms = slotOfInterval()
  if start then ms = math.max(ms, start) end
  return freeSlot(queue, schedulerId, ms, every, ending, replacedMs)
end

local function nextOfPattern()
  if samePattern and replaceable and armedExists and armedMs <= now then return armedMs end
  return freeTime(queue, schedulerId, ARGV, FIRST_TIME, replacedMs)
end

local nextMs = every and nextOfInterval() or nextOfPattern()
if nextMs < 0 then return nextMs end

trimEvents(queue)
if replaceable then withdrawRun(queue, runId(schedulerId, armedMs), now) end

local fields = { 'name', name, 'ic', before[5] or 1, 'offset', every and (offset or nextMs % every) or 0 }
local function keep(field, value)
  if value and value ~= '' then fields[#fields + 1], fields[#fields + 2] = field, value end
end
keep('every', ARGV[9])
keep('pattern', pattern)
keep('tz', zone)
keep('startDate', ARGV[13])
keep('endDate', ARGV[14])
keep('limit', limit)
if templateOptions ~= '{}' then keep('opts', templateOptions) end
if data ~= '{}' then keep('data', data) end
redis.call('DEL', record)
redis.call('HSET', record, unpack(fields))

return { armRun(queue, schedulerId, nextMs, {
  name = name, data = data, optionsHead = optionsHead, ofPattern = not every, priority = priority, lifo = lifo, dedupId = '',
}, now) }
