-- One job per deduplication id. `de:<id>` names the owner, with or without an expiry; `dn:<id>` holds the newest job that
-- came while the owner was active and is to follow it.

local function ownerKey(queue, dedupId) return queue.base .. 'de:' .. dedupId end
local function nextKey(queue, dedupId) return queue.base .. 'dn:' .. dedupId end

local function setOwner(key, id, ttl)
  if ttl > 0 then redis.call('SET', key, id, 'PX', ttl) else redis.call('SET', key, id) end
end

-- A key that never expires and whose owner is gone would refuse for ever: the newcomer takes it over.
local function isStale(queue, key, owner)
  return redis.call('PTTL', key) == -1 and redis.call('TYPE', queue.base .. owner).ok ~= 'hash'
end

-- True when `owner` is active, or has a follower from an earlier attempt, and the newcomer was kept to follow it.
local function keepAsNext(queue, key, dedup, owner, job)
  local follower = nextKey(queue, dedup.id)
  if not redis.call('LPOS', queue.active, owner) then
    if redis.call('EXISTS', follower) == 0 then return false end
    if dedup.replace and redis.call('ZSCORE', queue.delayed, owner) then return false end
  end
  redis.call('DEL', follower)
  redis.call('HSET', follower, 'name', job.name, 'data', job.data, 'opts', job.opts, 'jid', job.id)
  if job.parentKey then
    redis.call('HSET', follower, 'pk', job.parentKey, 'pd', job.parent, 'pdk', job.parentKey .. ':dependencies')
  end
  redis.call('PERSIST', key)
  emit(queue, 'deduplicated', 'jobId', owner, 'deduplicationId', dedup.id, 'deduplicatedJobId', job.id)
  return true
end

-- True when the owner was delayed and is taken out of line. A throttle outlives its job, and the name may be another job's by now.
local function takeDelayedOwner(queue, dedup, owner)
  return redis.pcall('HGET', queue.base .. owner, 'deid') == dedup.id and redis.call('ZREM', queue.delayed, owner) == 1
end

local function rescheduleOwner(queue, dedup, owner, job)
  if not takeDelayedOwner(queue, dedup, owner) then return end
  redis.call('HSET', queue.base .. owner, 'delay', job.delay)
  placeDelayed(queue, owner, job.timestamp + job.delay)
  armDelay(queue)
end

-- A job that is replaced goes away unfinished: whoever adopted it no longer waits for it.
local function discardReplaced(queue, owner, now)
  local fields = redis.call('HMGET', queue.base .. owner, 'parentKey', 'parent')
  local parent = fields[1] and openParent(fields[1], fields[2])
  deleteJobs(queue, { owner })
  if parent then pcall(unlinkFromParent, parent, queue.base .. owner, now) end  -- its keys may be of another type
  emit(queue, 'removed', 'jobId', owner, 'prev', 'delayed')
end

-- Returns the id of the job that stands in the newcomer's way, or nil when the newcomer is to be added.
-- dedup: {id, ttl ms, extend, replace, reschedule, keepLast}; job: {id, name, data, opts, timestamp, delay, parentKey, parent}.
local function deduplicate(queue, dedup, job, now)
  local key = ownerKey(queue, dedup.id)
  local ttl = dedup.keepLast and 0 or math.floor(tonumber(dedup.ttl) or 0)
  local owner = redis.call('GET', key)
  if not owner or isStale(queue, key, owner) then
    setOwner(key, job.id, ttl)
    redis.call('DEL', nextKey(queue, dedup.id))
    return nil
  end
  if dedup.keepLast and keepAsNext(queue, key, dedup, owner, job) then return owner end
  if dedup.replace then
    if not takeDelayedOwner(queue, dedup, owner) then return owner end
    discardReplaced(queue, owner, now)
    emit(queue, 'deduplicated', 'jobId', job.id, 'deduplicationId', dedup.id, 'deduplicatedJobId', owner)
    redis.call('DEL', nextKey(queue, dedup.id))
    if dedup.extend then
      setOwner(key, job.id, ttl)
    else
      redis.call('SET', key, job.id, 'KEEPTTL')
    end
    return nil
  end
  if dedup.extend and ttl > 0 then setOwner(key, owner, ttl) end
  emit(queue, 'deduplicated', 'jobId', owner, 'deduplicationId', dedup.id, 'deduplicatedJobId', job.id)
  if dedup.reschedule then rescheduleOwner(queue, dedup, owner, job) end
  return owner
end

-- When the owner is removed, whatever its state.
local function dropDeduplication(queue, id, dedupId)
  local key = ownerKey(queue, dedupId)
  if redis.pcall('GET', key) == id then redis.call('DEL', key, nextKey(queue, dedupId)) end
end

-- Adds the job that was kept to follow `dedupId`'s owner, if there is one.
local function addFollower(queue, dedupId, now)
  local follower = nextKey(queue, dedupId)
  local fields = redis.pcall('HMGET', follower, 'name', 'data', 'opts', 'jid', 'pk', 'pd', 'pdk', 'rjk')
  if not fields[1] then return end
  local counter = redis.call('INCR', queue.id)
  local id = fields[4]
  -- The name may be taken by now, even by the job that just ended: a second hash under it would mix the two.
  if not id or id == '' or redis.call('EXISTS', queue.base .. id) == 1 then id = tostring(counter) end
  local ok, opts = pcall(cjson.decode, fields[3])
  if not ok or type(opts) ~= 'table' then opts = {} end
  local delay, priority = tonumber(opts.delay) or 0, tonumber(opts.priority) or 0
  local extra = {'deid', dedupId}
  if fields[5] then
    extra[3], extra[4], extra[5], extra[6] = 'parentKey', fields[5], 'parent', fields[6]
    redis.call('SADD', fields[7] or (fields[5] .. ':dependencies'), queue.base .. id)
  end
  if fields[8] then
    extra[#extra + 1], extra[#extra + 2] = 'rjk', fields[8]
  end
  redis.call('SET', ownerKey(queue, dedupId), id)
  storeJob(queue, id, fields[1], fields[2], fields[3], now, delay, priority, extra)
  placeStored(queue, id, now, delay, priority, opts.lifo == true)
  redis.call('DEL', follower)
end

-- When a job has ended for good: its deduplication id may be taken again, and the job that was kept to follow it is added.
local function endDeduplication(queue, id, dedupId, now)
  local key = ownerKey(queue, dedupId)
  local owner = redis.pcall('GET', key)
  if type(owner) == 'table' then return end  -- a key of another type is left alone
  -- Another job holds the id, since this one was retried or let go of it: what follows the holder waits for the holder's end.
  if owner and owner ~= id and redis.call('EXISTS', queue.base .. owner) == 1 then return end
  -- A key with a running expiry stays: it is a throttle.
  if owner == id and redis.call('PTTL', key) == -1 then redis.call('DEL', key) end
  addFollower(queue, dedupId, now)
end
