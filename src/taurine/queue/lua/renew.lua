#!lua flags=allow-oom
--[[ renew: prolong the leases of a batch of running jobs.

  KEYS    1 the queue's meta key
  ARGV    1 lease, ms; then three for each job: id · token · attempts started when it was claimed
  Returns for each job 1: renewed; 0: lost, another worker has it or it is no longer active
  Events  none.  Cost O(jobs); a lease that has run out costs one scan of active.
  Atomic: the owner is checked and the lease prolonged with nobody between.
  A lease that ran out while nobody took the job (its id is still active and it was not started again) is given back: that
  happens when the server was away for longer than a lease. ]]
--@include queue

local queue = openQueueOf(KEYS[1])
local leaseMs = ARGV[1]
local results, renewed = {}, {}

local function isStillOurs(id, key, attemptsStarted)
  return redis.call('HGET', key, 'ats') == attemptsStarted and redis.call('LPOS', queue.active, id) ~= false
end

for at = 2, #ARGV, 3 do
  local id, token, attemptsStarted = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local key = queue.base .. id
  local holder = redis.call('GET', key .. ':lock')
  if holder == token or (not holder and isStillOurs(id, key, attemptsStarted)) then
    redis.call('SET', key .. ':lock', token, 'PX', leaseMs)
    renewed[#renewed + 1] = id
    results[#results + 1] = 1
  else
    results[#results + 1] = 0
  end
end
callInChunks('SREM', queue.stalled, renewed)
return results
