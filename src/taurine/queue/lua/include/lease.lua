-- What a running job writes about itself is refused once another worker has the job: the other run's words are the ones kept.

-- 0 when `token` still holds the job, or when it is '' (a caller who is not its worker); else -2 no lease, -6 another's lease.
-- A lease that ran out while the job was neither put back nor started again counts as held, as it does for `renew`.
local function leaseCode(queue, id, token, attemptsStarted)
  if token == '' then return 0 end
  local holder = redis.call('GET', queue.base .. id .. ':lock')
  if holder == token then return 0 end
  if holder then return -6 end
  if redis.call('HGET', queue.base .. id, 'ats') ~= attemptsStarted then return -2 end
  return redis.call('LPOS', queue.active, id) and 0 or -2
end
