#!lua flags=no-writes
--[[ standings: whether some jobs are still to run, and how those ended that are not.

  KEYS    1 the queue's meta key
  ARGV    job ids
  Returns for each job 0 in line or running · -1 not stored · -2 stored, and in no collection ·
          { 1 completed or 2 failed, result JSON or reason, stack traces JSON, finished ms, processed ms, attempts started,
            attempts made, worker, opts JSON }, with '' for what is not stored
  Events  none.  Cost O(jobs); a job in no sorted set is looked for in the lists while these hold up to 1,000 ids, and is taken
          to be in them when they hold more.
  Atomic: a job that moves meanwhile is not missed. ]]
--@include queue

local queue = openQueueOf(KEYS[1])
local SEARCHED = 1000
local LISTS = { queue.active, queue.wait, queue.paused }
local FACTS = { 'stacktrace', 'finishedOn', 'processedOn', 'ats', 'atm', 'pb', 'opts' }
local NOT_STORED, NOWHERE, IN_LINE = -1, -2, 0

local listed = 0
for _, list in ipairs(LISTS) do listed = listed + redis.call('LLEN', list) end

local function isListed(id)
  if listed > SEARCHED then return true end
  for _, list in ipairs(LISTS) do
    if redis.call('LPOS', list, id) then return true end
  end
  return false
end

local function ended(key, code, valueField)
  local facts = redis.call('HMGET', key, valueField, unpack(FACTS))
  for i = 1, #FACTS + 1 do facts[i] = facts[i] or '' end
  return { code, unpack(facts, 1, #FACTS + 1) }
end

local function standingOf(id)
  local key = queue.base .. id
  if redis.call('TYPE', key).ok ~= 'hash' then return NOT_STORED end
  if redis.call('ZSCORE', queue.completed, id) then return ended(key, 1, 'returnvalue') end
  if redis.call('ZSCORE', queue.failed, id) then return ended(key, 2, 'failedReason') end
  for _, set in ipairs({ queue.delayed, queue.prioritized, queue.waitingChildren }) do
    if redis.call('ZSCORE', set, id) then return IN_LINE end
  end
  return isListed(id) and IN_LINE or NOWHERE
end

local standings = {}
for i, id in ipairs(ARGV) do standings[i] = standingOf(id) end
return standings
