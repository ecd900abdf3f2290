-- Finished jobs per minute: a counter, and a list with one number a minute, newest first.

local function countFinished(queue, kind, finished, maxPoints, now)
  local key = queue.base .. 'metrics:' .. kind
  local fields = redis.call('HMGET', key, 'count', 'prevTS', 'prevCount')
  local before = tonumber(fields[1]) or 0
  redis.call('HSET', key, 'count', before + finished)
  if not fields[2] then
    redis.call('HSET', key, 'prevTS', now, 'prevCount', 0)
    return
  end
  local minutes = math.min(math.floor(now / 60000) - math.floor(tonumber(fields[2]) / 60000), maxPoints)
  if minutes <= 0 then return end
  local points = { before - (tonumber(fields[3]) or 0) }
  for i = 2, minutes do points[i] = 0 end
  local data = key .. ':data'
  callInChunks('LPUSH', data, points)
  redis.call('LTRIM', data, 0, maxPoints - 1)
  redis.call('HSET', key, 'prevCount', before, 'prevTS', now)
end
