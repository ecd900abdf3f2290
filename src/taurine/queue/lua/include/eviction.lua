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
      local fields = redis.call('HMGET', queue.base .. id, 'parentKey', 'parent')
      local parent = fields[1] and openParent(fields[1], fields[2])
      if parent then unlinkFromParent(parent, queue.base .. id, now) end
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
    local surplus = redis.call('ZRANGE', set, 0, -(policy.count + 1))
    if #surplus > 0 then
      forgetFinished(queue, set, surplus, now)
      redis.call('ZREMRANGEBYRANK', set, 0, -(policy.count + 1))
    end
  end
end
