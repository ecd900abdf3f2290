-- What hangs on a job beside its own keys.

-- A job that goes away frees its deduplication id, and its parent no longer waits for it. A key that is no hash has no ties.
-- With `takeParent`, a parent in the same queue that has lost its last child leaves the line too, and its id is returned.
local function cutTies(queue, id, now, takeParent)
  local key = queue.base .. id
  local fields = redis.pcall('HMGET', key, 'parentKey', 'parent', 'deid')
  if fields.err then return nil end
  if fields[3] then
    dropDeduplication(queue, id, fields[3])
    -- It may have let go of the id before: then only its follower itself knows whom it was to follow.
    local follower = queue.base .. 'dn:' .. fields[3]
    if redis.pcall('HGET', follower, 'of') == id then redis.call('DEL', follower) end
  end
  local parent = fields[1] and openParent(fields[1], fields[2])
  if not parent then return nil end
  if not takeParent or parent.queue.base ~= queue.base then
    unlinkFromParent(parent, key, now)
    return nil
  end
  local dependencies = parent.key .. ':dependencies'
  if redis.call('SREM', dependencies, key) == 0 or redis.call('EXISTS', dependencies) == 1 then return nil end
  return redis.call('ZREM', queue.waitingChildren, parent.id) == 1 and parent.id or nil
end
