-- Keeping the finished sets short. A policy is the text "count:age:limit" (age in ms), each part empty for no limit.

local policies = {}
local function parsePolicy(text)
  local policy = policies[text]
  if policy then return policy end
  local count, age, limit = string.match(text, '^(%d*):(%d*):(%d*)$')
  policy = { count = tonumber(count), age = tonumber(age), limit = tonumber(limit) or 1000 }
  policies[text] = policy
  return policy
end

-- An evicted job that never completed may still be awaited by its parent.
local function forgetFinished(queue, set, ids, now)
  if set == queue.failed then
    for _, id in ipairs(ids) do
      local fields = redis.pcall('HMGET', queue.base .. id, 'parentKey', 'parent')
      local parent = not fields.err and fields[1] and openParent(fields[1], fields[2])
      if parent then pcall(unlinkFromParent, parent, queue.base .. id, now) end  -- its keys may be of another type
    end
  end
  deleteJobs(queue, ids)
end

local function evict(queue, set, policyText, now)
  local policy = parsePolicy(policyText)
  if policy.age then
    local cutoff = now - policy.age
    local old = redis.call('ZRANGE', set, cutoff, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, policy.limit)
    if #old > 0 then
      forgetFinished(queue, set, old, now)
      callInChunks('ZREM', set, old)
    end
  end
  if policy.count then
    -- At most `limit` in one go: a set that was kept without a limit until now shrinks over many turns.
    local surplus = math.min(redis.call('ZCARD', set) - policy.count, policy.limit)
    if surplus > 0 then
      forgetFinished(queue, set, redis.call('ZRANGE', set, 0, surplus - 1), now)
      redis.call('ZREMRANGEBYRANK', set, 0, surplus - 1)
    end
  end
end
