-- A job that waits for children stands in its queue's waiting-children set; a child names it in `parent` (JSON, which also
-- holds the failure policy) and `parentKey`. The parent's queue may be another one: its own marker, counter and events are used.

local function openParent(parentKey, parentJson)
  local ok, parent = pcall(cjson.decode, parentJson or '')
  if not ok or type(parent) ~= 'table' or type(parent.queueKey) ~= 'string' then return nil end
  if type(parent.id) ~= 'string' and type(parent.id) ~= 'number' then return nil end
  return {
    key = parentKey,
    id = tostring(parent.id),
    queue = openQueue(parent.queueKey .. ':'),
    policy = parent.fpof and 'fail' or parent.cpof and 'continue' or parent.idof and 'ignore'
      or parent.rdof and 'remove' or 'wait',
  }
end

-- Starts a parent that waits for children. The removal from its set guards against a second release.
local function releaseParent(parent, now)
  local queue, id = parent.queue, parent.id
  if redis.call('ZREM', queue.waitingChildren, id) == 0 then return end
  local fields = redis.call('HMGET', parent.key, 'priority', 'delay', 'timestamp')
  if not fields[3] then return end
  local priority, delay = tonumber(fields[1]) or 0, tonumber(fields[2]) or 0
  if delay > 0 then
    placeDelayed(queue, id, now + delay)
    armDelay(queue)
    return
  end
  placeReady(queue, id, priority, true)
  emit(queue, 'waiting', 'jobId', id, 'prev', 'waiting-children')
  arm(queue)
end

local function releaseIfNothingPending(parent, now)
  if redis.call('SCARD', parent.key .. ':dependencies') == 0 then releaseParent(parent, now) end
end

-- True when the parent was waiting for this child. Its release is left to the caller, who may settle siblings first.
local function childCompleted(parent, childKey, value)
  if redis.call('SREM', parent.key .. ':dependencies', childKey) == 0 then return false end
  redis.call('HSET', parent.key .. ':processed', childKey, value)
  return true
end

local function failParent(parent, childKey, now)
  redis.call('ZADD', parent.key .. ':unsuccessful', now, childKey)
  if redis.call('EXISTS', parent.key) == 0 then return end
  local queue, id = parent.queue, parent.id
  local reason = 'child ' .. childKey .. ' failed'
  local waiting = redis.call('ZSCORE', queue.waitingChildren, id)
  if not waiting and redis.call('ZREM', queue.delayed, id) == 1 then
    redis.call('HSET', parent.key, 'delay', 0)
    redis.call('ZADD', queue.waitingChildren, now, id)
    waiting = true
  end
  if waiting then
    redis.call('HSET', parent.key, 'defa', reason)
    releaseParent(parent, now)
  elseif not redis.call('ZSCORE', queue.failed, id) then
    redis.call('HSET', parent.key, 'defa', reason)
  end
end

local function childFailed(parent, childKey, reason, now)
  local dependencies = parent.key .. ':dependencies'
  if parent.policy == 'wait' then return end  -- the child stays pending until it is retried or removed
  if redis.call('SREM', dependencies, childKey) == 0 then return end
  if parent.policy == 'fail' then
    failParent(parent, childKey, now)
  elseif parent.policy == 'continue' then
    redis.call('HSET', parent.key .. ':failed', childKey, reason)
    releaseParent(parent, now)
  elseif parent.policy == 'ignore' then
    redis.call('HSET', parent.key .. ':failed', childKey, reason)
    releaseIfNothingPending(parent, now)
  else
    releaseIfNothingPending(parent, now)
  end
end

-- For a child that goes away unfinished: its parent no longer waits for it.
local function unlinkFromParent(parent, childKey, now)
  if redis.call('SREM', parent.key .. ':dependencies', childKey) == 1 then
    releaseIfNothingPending(parent, now)
  end
end

-- For a finished child that is to run again: its parent waits for it again. The parent's own state is not changed.
local function relinkToParent(parent, childKey)
  if redis.call('EXISTS', parent.key) == 0 then return end
  local was = redis.call('ZREM', parent.key .. ':unsuccessful', childKey)
    + redis.call('HDEL', parent.key .. ':failed', childKey)
    + redis.call('HDEL', parent.key .. ':processed', childKey)
  if was > 0 then redis.call('SADD', parent.key .. ':dependencies', childKey) end
end
