-- Writing a job's hash. `extra` is a table of further fields and values, in turn, or nil.

local function storeJob(queue, id, name, data, opts, timestamp, delay, priority, extra)
  local key = queue.base .. id
  redis.call('HSET', key, 'name', name, 'data', data, 'opts', opts, 'timestamp', timestamp,
             'delay', delay, 'priority', priority)
  if extra and #extra > 0 then redis.call('HSET', key, unpack(extra)) end
  emit(queue, 'added', 'jobId', id, 'name', name)
end

-- Places a stored job by delay, priority and lifo, with its event and marker. Returns the due time, or 0.
local function placeStored(queue, id, now, delay, priority, lifo)
  if delay > 0 then
    local due = now + delay
    placeDelayed(queue, id, due)
    armDelay(queue)
    return due
  end
  placeReady(queue, id, priority, lifo)
  emit(queue, 'waiting', 'jobId', id)
  arm(queue)
  return 0
end
