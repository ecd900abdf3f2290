-- The marker is the wake-up channel of idle workers: member 0 says "claim now", member 1 "a job is due at my score".

local DUE_STEP = 4096  -- scores of delayed leave 12 bits for the order inside one millisecond

local function armNow(queue)
  redis.call('ZADD', queue.marker, 0, '0')
end

local function arm(queue)
  if not isBlocked(queue) then armNow(queue) end
end

local function armDelay(queue)
  local first = redis.call('ZRANGE', queue.delayed, 0, 0, 'WITHSCORES')
  if first[2] then redis.call('ZADD', queue.marker, tonumber(first[2]) / DUE_STEP, '1') end
end

-- For changes that may free a slot or lift a limit: wakes a worker if anything can be claimed now. The due time is told in any case: a pause
-- has taken it away, and in a queue that stays blocked nobody is woken who would learn of it.
local function armIfClaimable(queue)
  armDelay(queue)
  if redis.call('EXISTS', queue.wait, queue.prioritized) > 0 then arm(queue) end
end
