-- A stretch of a collection: read oldest first, and cut ids out of it.

local IS_LIST = { wait = true, paused = true, active = true }

local function lengthOf(queue, collection)
  return redis.call(IS_LIST[collection] and 'LLEN' or 'ZCARD', queue.base .. collection)
end

-- Up to `count` ids behind the first `offset`. A list is read from its tail, where its oldest entries are.
local function readStretch(queue, collection, offset, count)
  local key = queue.base .. collection
  if not IS_LIST[collection] then return redis.call('ZRANGE', key, offset, offset + count - 1) end
  local newestFirst = redis.call('LRANGE', key, -(offset + count), -(offset + 1))
  local ids = {}
  for i = #newestFirst, 1, -1 do ids[#ids + 1] = newestFirst[i] end
  return ids
end

-- Takes out what stands at these positions of the stretch (from 1, ascending). In a list the entries are blanked and then removed in one
-- pass: a removal each would cost the whole list each.
local function cutStretch(queue, collection, offset, ids, positions)
  if #positions == 0 then return end
  local key = queue.base .. collection
  if IS_LIST[collection] then
    for _, position in ipairs(positions) do redis.call('LSET', key, -(offset + position), '') end
    redis.call('LREM', key, -#positions, '')
    return
  end
  local gone = {}
  for i, position in ipairs(positions) do gone[i] = ids[position] end
  callInChunks('ZREM', key, gone)
end
