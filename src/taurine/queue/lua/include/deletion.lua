-- Deleting jobs with all that is kept beside them.

local function deleteJobs(queue, ids)
  local base = queue.base
  for first = 1, #ids, 800 do
    local keys, n = {}, 0
    for i = first, math.min(first + 799, #ids) do
      local key = base .. ids[i]
      keys[n + 1], keys[n + 2], keys[n + 3] = key, key .. ':logs', key .. ':dependencies'
      keys[n + 4], keys[n + 5], keys[n + 6] = key .. ':processed', key .. ':failed', key .. ':unsuccessful'
      n = n + 6
    end
    redis.call('DEL', unpack(keys))
  end
end
