-- Where a job that is to run goes: wait, prioritized or delayed, with its event. Markers are the caller's.

local PRIORITY_STEP = 4294967296  -- 2^32: scores leave 32 bits for the order inside one priority

local function priorityScore(queue, priority)
  return priority * PRIORITY_STEP + redis.call('INCR', queue.priorityCounter) % PRIORITY_STEP
end

-- A score no other job has, unless 4,096 are due in the same millisecond.
local function delayScore(queue, due)
  local low = due * DUE_STEP
  local high = low + DUE_STEP - 1
  local last = redis.call('ZRANGE', queue.delayed, high, low, 'BYSCORE', 'REV', 'LIMIT', 0, 1, 'WITHSCORES')
  if not last[2] then return low end
  return math.min(tonumber(last[2]) + 1, high)
end

-- Last in line, or next in line with `first`.
local function placeReady(queue, id, priority, first)
  if priority > 0 then
    redis.call('ZADD', queue.prioritized, priorityScore(queue, priority), id)
  else
    redis.call(first and 'RPUSH' or 'LPUSH', queue.wait, id)
  end
end

local function placeDelayed(queue, id, due)
  redis.call('ZADD', queue.delayed, delayScore(queue, due), id)
  emit(queue, 'delayed', 'jobId', id, 'delay', due)
end

-- Moves jobs whose time has come from delayed to where workers look, at most 1,000 a call. Returns how many.
local function promoteDue(queue, now)
  local due = redis.call('ZRANGE', queue.delayed, '-inf', (now + 1) * DUE_STEP - 1, 'BYSCORE', 'LIMIT', 0, 1000)
  if #due == 0 then return 0 end
  redis.call('ZREM', queue.delayed, unpack(due))
  for _, id in ipairs(due) do
    local key = queue.base .. id
    local priority = redis.pcall('HGET', key, 'priority')
    local isHash = type(priority) ~= 'table'  -- a key of another type is left to the claim, which drops and reports it
    placeReady(queue, id, isHash and tonumber(priority) or 0, false)
    if isHash and redis.call('EXISTS', key) == 1 then redis.call('HSET', key, 'delay', 0) end
    emit(queue, 'waiting', 'jobId', id, 'prev', 'delayed')
  end
  arm(queue)
  return #due
end
