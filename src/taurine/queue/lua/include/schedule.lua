-- The runs of job schedulers. A scheduler's next run, the armed one, is the job `repeat:<scheduler>:<ms>`, whose ms is the scheduler's
-- score in `repeat`; its record is the hash `repeat:<scheduler>`.

local MOST_SLOTS = 1000  -- taken slots of an interval that are passed over before a call gives up
local SLOT_TAKEN, SLOTS_TAKEN, NO_RUN_LEFT = -10, -11, -12

local function runId(schedulerId, ms)
  return 'repeat:' .. schedulerId .. ':' .. string.format('%.0f', ms)
end

-- The first run of an interval that starts now. Without an offset it is due at once; with one, runs are due at multiples of the
-- interval since 1970 plus the offset.
local function firstRun(every, offset, start, now)
  if start then return math.max(start, now) end
  if not offset then return now end
  local slot = math.floor(now / every) * every + offset
  return slot > now and slot or slot + every
end

-- The run after the one at `previous`. Slots that have passed are skipped: a queue that is behind gets one run, not all it missed.
local function followingRun(previous, every, offset, now)
  if previous + every >= now then return previous + every end
  local slot = math.floor(now / every) * every + offset
  return slot > now and slot or slot + every
end

-- `replacedMs`: when the run is due that is about to go, or nil; its slot counts as free.
local function isTaken(queue, schedulerId, ms, replacedMs)
  return ms ~= replacedMs and redis.call('EXISTS', queue.base .. runId(schedulerId, ms)) == 1
end

-- The first free slot of an interval from `ms` on, or a code.
local function freeSlot(queue, schedulerId, ms, every, ending, replacedMs)
  for _ = 1, MOST_SLOTS do
    if ending and ms > ending then return NO_RUN_LEFT end
    if not isTaken(queue, schedulerId, ms, replacedMs) then return ms end
    ms = ms + every
  end
  return SLOTS_TAKEN
end

-- The first free one of a pattern's times, which are `times` from position `first` on, or a code.
local function freeTime(queue, schedulerId, times, first, replacedMs)
  for i = first, #times do
    local ms = tonumber(times[i])
    if not isTaken(queue, schedulerId, ms, replacedMs) then return ms end
  end
  return SLOT_TAKEN
end

-- Removes a run that was never started, wherever it waits, also while the queue is paused. An id in line that has lost its job goes
-- without an event.
local function withdrawRun(queue, id, now)
  local stood = takeOut(queue, id)
  if redis.call('EXISTS', queue.base .. id) == 0 then return end
  cutTies(queue, id, now)
  deleteJobs(queue, { id })
  emit(queue, 'removed', 'jobId', id, 'prev', stood or 'unknown')
end

-- Makes the run at `ms` the scheduler's next one. run: {name, data, optionsHead, ofPattern, priority, lifo, dedupId}; the head is the
-- options' JSON up to the run's own number. Returns its id, options and delay.
local function armRun(queue, schedulerId, ms, run, now)
  local id, delay = runId(schedulerId, ms), math.max(0, ms - now)
  local options = string.format('%s%.0f","delay":%.0f', run.optionsHead, ms, delay)
  if run.ofPattern then options = string.format('%s,"prevMillis":%.0f', options, ms) end
  options = options .. '}'

  redis.call('ZADD', queue.schedulers, string.format('%.0f', ms), schedulerId)
  redis.call('INCR', queue.id)
  local extra = { 'rjk', schedulerId }
  if run.dedupId ~= '' then extra[3], extra[4] = 'deid', run.dedupId end
  storeJob(queue, id, run.name, run.data, options, now, delay, run.priority, extra)
  placeStored(queue, id, now, delay, run.priority, run.lifo)
  return id, options, delay
end
