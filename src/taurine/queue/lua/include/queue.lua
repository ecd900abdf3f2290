-- The keys of one queue, from its base `<prefix>:<queue>:`; and what its meta hash says.

local function openQueue(base)
  return {
    base = base,
    wait = base .. 'wait',
    active = base .. 'active',
    prioritized = base .. 'prioritized',
    delayed = base .. 'delayed',
    waitingChildren = base .. 'waiting-children',
    completed = base .. 'completed',
    failed = base .. 'failed',
    paused = base .. 'paused',
    stalled = base .. 'stalled',
    stalledCheck = base .. 'stalled-check',
    marker = base .. 'marker',
    limiter = base .. 'limiter',
    meta = base .. 'meta',
    id = base .. 'id',
    priorityCounter = base .. 'pc',
    events = base .. 'events',
    schedulers = base .. 'repeat',
  }
end

-- KEYS[1] is always a queue's meta key: it routes the call to the node that owns all of the queue's keys.
local function openQueueOf(metaKey)
  return openQueue(string.sub(metaKey, 1, -5))
end

-- True when nothing may start: paused, or as many jobs active as the queue allows over all workers.
local function isBlocked(queue)
  local meta = redis.call('HMGET', queue.meta, 'paused', 'concurrency')
  if meta[1] then return true end
  return meta[2] and redis.call('LLEN', queue.active) >= tonumber(meta[2])
end

-- Lua's unpack fails near 8,000 values; every long argument list goes through here.
local CHUNK = 5000
local function callInChunks(command, key, values)
  for first = 1, #values, CHUNK do
    redis.call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end
