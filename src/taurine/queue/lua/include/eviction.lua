-- Keeping the finished sets short. A policy is the text "count:age:limit" (age in ms), each part empty for no limit.

local parsedPolicies = {}
local function parsePolicy(text)
  local policy = parsedPolicies[text]
  if policy then return policy end
  local count, age, limit = string.match(text, '^(%d*):(%d*):(%d*)$')
  policy = { count = tonumber(count), age = tonumber(age), limit = tonumber(limit) or 1000 }
  parsedPolicies[text] = policy
  return policy
end

-- `forget(ids)` is called with ids that are about to be deleted and leave the set.
local function evict(queue, set, policy, now, forget)
  if policy.age then
    local cutoff = now - policy.age
    local old = redis.call('ZRANGE', set, cutoff, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, policy.limit)
    if #old > 0 then
      if forget then forget(old) end
      deleteJobs(queue, old)
      callInChunks('ZREM', set, old)
    end
  end
  if policy.count then
    -- At most `limit` in one go: a set that was kept without a limit until now shrinks over many turns.
    local surplus = math.min(redis.call('ZCARD', set) - policy.count, policy.limit)
    if surplus > 0 then
      local oldest = redis.call('ZRANGE', set, 0, surplus - 1)
      if forget then forget(oldest) end
      deleteJobs(queue, oldest)
      redis.call('ZREMRANGEBYRANK', set, 0, surplus - 1)
    end
  end
end
