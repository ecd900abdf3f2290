-- The keys of one queue, from its base `<prefix>:<queue>:`; and what its meta hash says.

local SUFFIXES = {
  wait = 'wait', active = 'active', prioritized = 'prioritized', delayed = 'delayed', waitingChildren = 'waiting-children',
  completed = 'completed', failed = 'failed', paused = 'paused', stalled = 'stalled', stalledCheck = 'stalled-check',
  marker = 'marker', limiter = 'limiter', meta = 'meta', id = 'id', priorityCounter = 'pc', events = 'events',
  schedulers = 'repeat',
}

-- A name is put together when it is first used: most scripts need few of them.
local queueNames = {
  __index = function(queue, name)
    local key = rawget(queue, 'base') .. SUFFIXES[name]
    rawset(queue, name, key)
    return key
  end,
}

local function openQueue(base)
  return setmetatable({ base = base }, queueNames)
end

-- KEYS[1] is always a queue's meta key: it routes the call to the node that owns all of the queue's keys.
local function openQueueOf(metaKey)
  return openQueue(string.sub(metaKey, 1, -5))
end

-- True when nothing may start: paused, or as many jobs active as the queue allows over all workers.
local function isBlocked(queue)
  local meta = redis.call('HMGET', queue.meta, 'paused', 'concurrency')
  if meta[1] then return true end
  local limit = tonumber(meta[2])  -- what is no number is no limit
  return limit ~= nil and redis.call('LLEN', queue.active) >= limit
end

-- Lua's unpack fails near 8,000 values; every long argument list goes through here.
local CHUNK = 5000
local function callInChunks(command, key, values)
  for first = 1, #values, CHUNK do
    redis.call(command, key, unpack(values, first, math.min(first + CHUNK - 1, #values)))
  end
end
