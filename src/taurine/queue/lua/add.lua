#!lua
--[[ add: store a batch of jobs and put each where it is to wait.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms
          then eight for each job: id ('' for the next number) · name · data, JSON · opts, JSON · timestamp, ms · delay, ms ·
          priority, 0 for none · extras, JSON or '': lifo, parentKey, parent (JSON text), replaceFinished (true, or 'other': one of
          another timestamp), dedup {id, ttl ms, extend, replace, reschedule, keepLast}
  Returns { ids, refused }: for each job its id, the id of the job that stood in its way, or a code; and the positions, from 1, of
          those that were not added. Codes: -5 the parent is not stored · -7 the job exists under another parent that is still
          stored · -13 a key that the job needs holds a value of another type
  Events  added, waiting, delayed; duplicated; deduplicated, removed. None of a job that is replaced: events name jobs by id alone,
          and who waits for the newcomer would take it for gone.
  Cost    O(jobs); O(log n) more for a delayed or prioritized one; O(active) for a follower of an active job; O(waiting) for
          a job that replaces an earlier generation of it which waits.
  Atomic: a job exists and is in line, or neither; deduplication sees the jobs of its own batch in order. Types are looked at
          before the first write for a job: a call that raised half-way would leave a part of the batch. ]]
--@include queue events marker placing storing deletion parents deduplication ties generation

local queue = openQueueOf(KEYS[1])
local now = tonumber(ARGV[1])
local FIELDS = 8
local PARENT_NOT_FOUND, PARENT_NOT_REPLACEABLE, WRONG_TYPE = -5, -7, -13
local jobCount = (#ARGV - 1) / FIELDS
-- What most jobs with an id of their own bring, decoded once: whole lists do.
local REPLACE_OTHER_TEXT, REPLACE_OTHER = '{"replaceFinished":"other"}', { replaceFinished = 'other' }

trimEvents(queue)
local lastNumber = redis.call('INCRBY', queue.id, jobCount)
local ids, refused = {}, {}
local ready, anyReady, anyDelayed = {}, false, false

local function flushReady()
  callInChunks('LPUSH', queue.wait, ready)
  ready = {}
end

local function holds(kind, key)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end

-- The job exists. A parent that asks for it gets it, unless another parent that still stands has it.
local function attachExisting(job, key)
  local fields = redis.call('HMGET', key, 'parentKey', 'returnvalue')
  local current = fields[1]
  if current and current ~= job.parentKey and redis.call('EXISTS', current) == 1 then
    if job.parentKey then return PARENT_NOT_REPLACEABLE end
  elseif job.parentKey then
    if not holds('hash', job.parentKey .. ':processed') then return WRONG_TYPE end
    local parent = openParent(job.parentKey, job.parent)
    if redis.call('ZSCORE', queue.completed, job.id) then
      redis.call('HSET', parent.key .. ':processed', key, fields[2] or 'null')
      releaseIfNothingPending(parent, now)
    else
      redis.call('SADD', parent.key .. ':dependencies', key)
    end
    redis.call('HSET', key, 'parentKey', job.parentKey, 'parent', job.parent)
  end
  emit(queue, 'duplicated', 'jobId', job.id)
  return job.id
end

-- An earlier generation of the job may still wait, with the data that it had then.
local function leaveLine(job, key)
  if redis.call('EXISTS', key .. ':lock') == 1 then return false end
  if generationIn(job.opts) <= generationIn(redis.call('HGET', key, 'opts')) then return false end
  local id = job.id
  return redis.call('ZREM', queue.delayed, id) + redis.call('ZREM', queue.prioritized, id) > 0
    or redis.call('LREM', queue.wait, 1, id) + redis.call('LREM', queue.paused, 1, id) > 0
end

-- True when the job had ended, or waited as an earlier generation, and is gone with everything of it: the name is free for another run. A parent
-- that the newcomer shares with it waits on, for the newcomer.
local function makeRoom(job, which)
  local id, key = job.id, queue.base .. job.id
  if which == 'other' and tonumber(redis.call('HGET', key, 'timestamp') or '') == job.timestamp then return false end
  if redis.call('ZREM', queue.completed, id) + redis.call('ZREM', queue.failed, id) == 0 and not leaveLine(job, key) then
    return false
  end
  if job.parentKey and redis.call('HGET', key, 'parentKey') == job.parentKey then
    pcall(relinkToParent, { key = job.parentKey }, key)  -- its keys may be of another type, here and below
    redis.call('HDEL', key, 'parentKey')
  end
  pcall(cutTies, queue, id, now)
  deleteJobs(queue, { id })
  return true
end

-- The code or id that keeps the job out, or nil.
local function refuse(job, extras, custom)
  local key = queue.base .. job.id
  if not holds('hash', key) then return WRONG_TYPE end
  if job.parentKey then
    if redis.call('TYPE', job.parentKey).ok ~= 'hash' then return PARENT_NOT_FOUND end
    if not holds('set', job.parentKey .. ':dependencies') then return WRONG_TYPE end
  end
  if custom and redis.call('EXISTS', key) == 1 then
    if not (extras and extras.replaceFinished and makeRoom(job, extras.replaceFinished)) then return attachExisting(job, key) end
  end
  if not extras or not extras.dedup then return nil end
  if not holds('string', ownerKey(queue, extras.dedup.id)) then return WRONG_TYPE end
  return deduplicate(queue, extras.dedup, job, now)
end

for i = 1, jobCount do
  local at = 1 + (i - 1) * FIELDS
  local id, name, data, opts = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local timestamp, delay, priority = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
  local extras
  if ARGV[at + 8] == REPLACE_OTHER_TEXT then
    extras = REPLACE_OTHER
  elseif ARGV[at + 8] ~= '' then
    extras = cjson.decode(ARGV[at + 8])
  end
  local custom = id ~= ''
  if not custom then id = string.format('%.0f', lastNumber - jobCount + i) end

  local outcome
  if custom or extras then
    outcome = refuse({ id = id, name = name, data = data, opts = opts, timestamp = tonumber(timestamp),
                       delay = tonumber(delay), parentKey = extras and extras.parentKey,
                       parent = extras and extras.parent }, extras, custom)
  end
  if not outcome then
    local more = {}
    if extras and extras.parentKey then
      more = { 'parentKey', extras.parentKey, 'parent', extras.parent }
      redis.call('SADD', extras.parentKey .. ':dependencies', queue.base .. id)
    end
    if extras and extras.dedup then
      more[#more + 1], more[#more + 2] = 'deid', extras.dedup.id
    end
    -- For a plain job with an automatic number this is the first look at its key, and the first write.
    if not pcall(storeJob, queue, id, name, data, opts, timestamp, delay, priority, more) then outcome = WRONG_TYPE end
  end
  if outcome then
    ids[i] = outcome
    refused[#refused + 1] = i
  else
    if delay ~= '0' then
      placeDelayed(queue, id, tonumber(timestamp) + tonumber(delay))
      anyDelayed = true
    else
      if priority ~= '0' then
        placeReady(queue, id, tonumber(priority), false)
      elseif extras and extras.lifo then
        flushReady()
        placeReady(queue, id, 0, true)
      else
        ready[#ready + 1] = id
      end
      emit(queue, 'waiting', 'jobId', id)
      anyReady = true
    end
    ids[i] = id
  end
end

flushReady()
if anyReady then arm(queue) end
if anyDelayed then armDelay(queue) end
return { ids, refused }
