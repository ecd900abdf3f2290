#!lua flags=allow-oom
--[[ turn: settle a batch of attempts that ended, and claim a batch of jobs to start.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · 2 token of the new leases · 3 lease, ms · 4 most jobs to claim · 5 worker name, '' for none ·
          6 the worker's own limit, jobs a window, '' for none · 7 its window, ms · 8 metrics points to keep, 0 for none ·
          9 tokens of turns whose replies were lost, joined by ','
          then six for each attempt: kind · id · token · value · detail · keep
            kind      value               detail                  keep
            complete  result, JSON        ''                      policy "count:age ms:limit"
            fail      reason              stack traces, JSON      policy, and the attempts limit after a '/'
            retry     reason              stack traces, JSON      'lifo' or ''            run again now, attempt charged
            delay     reason              stack traces, JSON      pause, ms               run again later, attempt charged
            snooze    pause, ms           ''                      ''                      run again later, not charged
            release   ''                  ''                      ''                      back in front of the line, not charged
            children  ''                  ''                      ''                      wait for children, not charged
  Returns { codes, jobs, dropped, wait, due }
          codes     for each attempt: 0 settled · 1 children: none is pending, the job is still active · -1 not stored ·
                    -2 no lease · -3 not active · -4 pending children · -6 another's lease · -9 a child failed ·
                    -12 kept as failed, since data of it or of its parent is broken
          jobs      for each claimed job: id · attempts started · its hash before the claim, fields and values in turn
          dropped   ids that were in line with no job stored under them
          wait      ms until the rate limit allows more; 0 none; -1 paused, or as many active as the queue allows
          due       when the first delayed job is due, ms; 0 none
  Events  completed, failed, retries-exhausted, delayed, waiting, waiting-children, drained; active; and of parents and followers.
  Cost    O(attempts + claims); removing an id from active scans from its oldest end. Eviction costs the evicted, at most 1,000 a policy.
          After a lost reply, once O(active).
  Atomic: a slot that a settled job frees is counted before jobs are claimed, and no job is in two places. ]]
--@include queue events marker placing storing parents deduplication eviction metrics

local queue = openQueueOf(KEYS[1])
-- Numbers that only pass through stay text: turning a number into text is what Lua does slowest here.
local nowText, token, leaseMs, want = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = tonumber(nowText)
local workerName, limitMax, limitWindow = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local metricsPoints, lostTokens = tonumber(ARGV[8]), ARGV[9]
local HEADER, FIELDS = 9, 6
local attemptCount = (#ARGV - HEADER) / FIELDS

-- Small counts as text, made once each.
local countTexts = {}
local function countText(count)
  local text = countTexts[count]
  if not text then
    text = tostring(count)
    countTexts[count] = text
  end
  return text
end

-- Settling ---------------------------------------------------------------------------------------------------------------

local finishedIds = { completed = {}, failed = {} }
local finishedCounts = { completed = 0, failed = 0 }
local policies = { completed = {}, failed = {} }
local released, gaveUp, releasedParents, postponed = {}, {}, {}, false

-- Children are looked at before any job of the batch is settled: a parent that ends together with its last child is refused, as
-- it would be had it come a moment earlier.
local function pendingChildren()
  local keys = {}
  for i = 1, attemptCount do
    local key = queue.base .. ARGV[HEADER + (i - 1) * FIELDS + 2]
    keys[#keys + 1], keys[#keys + 2] = key .. ':dependencies', key .. ':unsuccessful'
  end
  local any = 0
  for first = 1, #keys, CHUNK do
    any = any + redis.call('EXISTS', unpack(keys, first, math.min(first + CHUNK - 1, #keys)))
  end
  local codes = {}
  if any == 0 then return codes end
  for i = 1, attemptCount do
    if redis.call('EXISTS', keys[2 * i]) == 1 then
      codes[i] = -9
    elseif redis.call('EXISTS', keys[2 * i - 1]) == 1 then
      codes[i] = -4
    end
  end
  return codes
end

local lockKeys = {}
local function leaseHolders()
  local holders = {}
  for i = 1, attemptCount do lockKeys[i] = queue.base .. ARGV[HEADER + (i - 1) * FIELDS + 2] .. ':lock' end
  for first = 1, attemptCount, CHUNK do
    local part = redis.call('MGET', unpack(lockKeys, first, math.min(first + CHUNK - 1, attemptCount)))
    for i, holder in ipairs(part) do holders[first + i - 1] = holder end
  end
  return holders
end

local function finish(kind, id, key, job, value, keep)
  local event, field = 'completed', 'returnvalue'
  if kind == 'fail' then event, field = 'failed', 'failedReason' end
  local set = queue[event]
  local attemptsMade = (tonumber(job[2]) or 0) + 1

  if job[5] then endDeduplication(queue, id, job[5], now) end
  local parent = job[3] and openParent(job[3], job[4])
  if parent then
    if kind == 'complete' then
      if childCompleted(parent, key, value) and not releasedParents[parent.key] then
        releasedParents[parent.key] = true
        releasedParents[#releasedParents + 1] = parent
      end
    else
      childFailed(parent, key, value, now)
    end
  end

  finishedCounts[event] = finishedCounts[event] + 1
  local policy, limit = keep, nil
  if kind == 'fail' then policy, limit = string.match(keep, '^(.*)/(%d*)$') end
  if string.sub(policy, 1, 2) == '0:' then
    deleteJobs(queue, { id })
    if parent then unlinkFromParent(parent, key, now) end
  else
    local ids = finishedIds[event]
    ids[#ids + 1], ids[#ids + 2] = nowText, id
    redis.call('HSET', key, field, value, 'finishedOn', nowText, 'atm', countText(attemptsMade))
    if kind == 'fail' then redis.call('HDEL', key, 'defa') end
    if policy ~= '::' then policies[event][policy] = true end
  end
  emit(queue, event, 'jobId', id, field, value, 'prev', 'active')
  if limit and attemptsMade >= (tonumber(limit) or 0) then
    emit(queue, 'retries-exhausted', 'jobId', id, 'attemptsMade', attemptsMade)
  end
end

local function priorityOf(key)
  return tonumber(redis.call('HGET', key, 'priority')) or 0
end

local function retryNow(id, key, job, side)
  redis.call('HSET', key, 'atm', countText((tonumber(job[2]) or 0) + 1))
  placeReady(queue, id, priorityOf(key), side == 'lifo')
  emit(queue, 'waiting', 'jobId', id, 'prev', 'active')
end

local function retryLater(id, key, pause)
  redis.call('HSET', key, 'delay', pause)
  placeDelayed(queue, id, now + pause)
  postponed = true
end

-- In front of the line: of `wait`, or of the job's own priority. Those of `wait` go there together, in their old order.
local toFront = {}
local function release(id, key)
  local priority = priorityOf(key)
  if priority > 0 then
    redis.call('ZADD', queue.prioritized, priority * PRIORITY_STEP, id)
  else
    toFront[#toFront + 1] = id
  end
  emit(queue, 'waiting', 'jobId', id, 'prev', 'active')
end

local function awaitChildren(id)
  redis.call('ZADD', queue.waitingChildren, now, id)
  emit(queue, 'waiting-children', 'jobId', id, 'prev', 'active')
end

-- Jobs tend to end in the order in which they were claimed. Then the ids at the old end of active are the batch's own, and go in one cut;
-- any other id is looked for by itself.
local cut = {}
local function cutActive(childCodes, holders)
  local ending = {}
  for i = 1, attemptCount do
    local at = HEADER + (i - 1) * FIELDS
    if holders[i] == ARGV[at + 3] and not childCodes[i] and ARGV[at + 1] ~= 'children' then ending[ARGV[at + 2]] = true end
  end
  local oldest = redis.call('LRANGE', queue.active, -attemptCount, -1)
  local count = 0
  for i = #oldest, 1, -1 do
    local id = oldest[i]
    if not ending[id] or cut[id] then break end
    cut[id] = true
    count = count + 1
  end
  if count > 0 then redis.call('LTRIM', queue.active, 0, -(count + 1)) end
end

local function leaveActive(id)
  return cut[id] or redis.call('LREM', queue.active, -1, id) == 1
end

-- The lease is checked before anything is written, and given up only by its owner.
local function settle(kind, id, owner, holder, value, detail, keep, childCode)
  local key = queue.base .. id
  local job = redis.pcall('HMGET', key, 'timestamp', 'atm', 'parentKey', 'parent', 'deid')
  if job.err or not job[1] and redis.call('EXISTS', key) == 0 then return -1 end
  if childCode and (kind == 'complete' or (kind == 'children' and childCode == -9)) then return childCode end
  if kind == 'children' and childCode ~= -4 then return 1 end
  if not holder or gaveUp[id] then return -2 end
  if holder ~= owner then return -6 end
  gaveUp[id] = true
  released[#released + 1] = id
  if not leaveActive(id) then return -3 end

  if kind == 'complete' then
    finish(kind, id, key, job, value, keep)
    return 0
  end
  if kind == 'fail' or kind == 'retry' or kind == 'delay' then
    redis.call('HSET', key, 'failedReason', value, 'stacktrace', detail)
  end
  if kind == 'fail' then
    finish(kind, id, key, job, value, keep)
  elseif kind == 'retry' then
    retryNow(id, key, job, keep)
  elseif kind == 'delay' then
    redis.call('HSET', key, 'atm', (tonumber(job[2]) or 0) + 1)
    retryLater(id, key, tonumber(keep))
  elseif kind == 'snooze' then
    retryLater(id, key, tonumber(value))
  elseif kind == 'release' then
    release(id, key)
  else
    awaitChildren(id)
  end
  return 0
end

-- One call for all: within the script nobody sees a settled job that is still locked.
local function giveUpLeases()
  local keys = {}
  for i, id in ipairs(released) do keys[i] = queue.base .. id .. ':lock' end
  for first = 1, #keys, CHUNK do
    redis.call('DEL', unpack(keys, first, math.min(first + CHUNK - 1, #keys)))
  end
  callInChunks('SREM', queue.stalled, released)
end

local function recordFinished(event)
  callInChunks('ZADD', queue[event], finishedIds[event])
  for policy in pairs(policies[event]) do evict(queue, queue[event], policy, now) end
  if metricsPoints > 0 and finishedCounts[event] > 0 then
    countFinished(queue, event, finishedCounts[event], metricsPoints, now)
  end
end

-- A job that cannot be settled, since a key of it or of its parent holds something else than it should, must not take its batch along:
-- it is kept as failed, to be looked at.
local function keepBroken(id)
  local key = queue.base .. id
  local reason = 'it could not be settled: data of it, or of its parent, is broken'
  redis.call('LREM', queue.active, -1, id)
  redis.pcall('HSET', key, 'failedReason', reason, 'finishedOn', nowText)
  redis.call('ZADD', queue.failed, nowText, id)
  emit(queue, 'failed', 'jobId', id, 'failedReason', reason, 'prev', 'active')
end

local function settleAt(i, holders, childCodes)
  local at = HEADER + (i - 1) * FIELDS
  local id, owner = ARGV[at + 2], ARGV[at + 3]
  local ok, code = pcall(settle, ARGV[at + 1], id, owner, holders[i], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], childCodes[i])
  if ok then return code end
  keepBroken(id)
  return -12
end

-- Parents that are to wait for children go first: a child that ends in the same batch would else find nobody waiting, and the parent would
-- wait for ever.
local function settleAll()
  local codes = {}
  local childCodes, holders = pendingChildren(), leaseHolders()
  cutActive(childCodes, holders)
  for i in pairs(childCodes) do
    if childCodes[i] == -4 and ARGV[HEADER + (i - 1) * FIELDS + 1] == 'children' then
      codes[i] = settleAt(i, holders, childCodes)
    end
  end
  for i = 1, attemptCount do codes[i] = codes[i] or settleAt(i, holders, childCodes) end
  giveUpLeases()
  local front = {}
  for i = #toFront, 1, -1 do front[#front + 1] = toFront[i] end
  callInChunks('RPUSH', queue.wait, front)
  for _, parent in ipairs(releasedParents) do pcall(releaseIfNothingPending, parent, now) end
  recordFinished('completed')
  recordFinished('failed')
  return codes
end

-- Claiming ---------------------------------------------------------------------------------------------------------------

local meta = redis.call('HMGET', queue.meta, 'paused', 'concurrency', 'max', 'duration', 'opts.maxLenEvents')
local rateMax = tonumber(meta[3]) or limitMax
local rateWindow = limitWindow or tonumber(meta[4])
local AD_HOC_LIMIT = 9007199254740991

-- How many starts the limits leave, and what to tell a worker that gets fewer than it wanted.
local function budget()
  local started = tonumber(redis.call('GET', queue.limiter))
  -- A limit set by hand holds on a queue without a limit of its own too.
  if started and started >= (rateMax or AD_HOC_LIMIT) then
    local ttl = redis.call('PTTL', queue.limiter)
    if ttl > 0 then return 0, ttl end
    if ttl == 0 then redis.call('DEL', queue.limiter) end
    started = nil
  end
  if meta[1] then return 0, -1 end
  local free = want
  local concurrency = tonumber(meta[2])
  if concurrency then
    free = math.min(free, concurrency - redis.call('LLEN', queue.active))
    if free <= 0 then return 0, -1 end
  end
  if rateMax then free = math.min(free, rateMax - (started or 0)) end
  return free, 0
end

local function takeIds(count)
  local ids = redis.call('RPOP', queue.wait, count) or {}
  if #ids < count then
    local byPriority = redis.call('ZPOPMIN', queue.prioritized, count - #ids)
    for i = 1, #byPriority, 2 do ids[#ids + 1] = byPriority[i] end
    if #byPriority == 0 then redis.call('DEL', queue.priorityCounter) end
  end
  return ids
end

local dropped = {}

-- Turns one id active. Nil for an id that no job stands behind: it is dropped, since writing to it would make half a job.
local function activate(id)
  local key = queue.base .. id
  local fields = redis.pcall('HGETALL', key)
  local started, named = 0, false
  for at = 1, #fields, 2 do
    local field = fields[at]
    if field == 'ats' then
      started = tonumber(fields[at + 1]) or 0
    elseif field == 'name' or field == 'data' then
      named = true
    end
  end
  if not named then
    dropped[#dropped + 1] = id
    return nil
  end
  started = started + 1
  redis.call('PSETEX', key .. ':lock', leaseMs, token)
  if workerName == '' then
    redis.call('HSET', key, 'processedOn', nowText, 'ats', countText(started))
  else
    redis.call('HSET', key, 'processedOn', nowText, 'ats', countText(started), 'pb', workerName)
  end
  emit(queue, 'active', 'jobId', id, 'prev', 'waiting')
  return { id, started, fields }
end

-- A job that is only picked up to be failed costs nobody a start.
local function countStarts(jobs)
  local starts = 0
  for _, job in ipairs(jobs) do
    if redis.call('HEXISTS', queue.base .. job[1], 'defa') == 0 then starts = starts + 1 end
  end
  if starts == 0 then return end
  local started = redis.pcall('INCRBY', queue.limiter, starts)  -- a counter that is no number limits nobody
  if started == starts and rateWindow then
    redis.call('PEXPIRE', queue.limiter, math.floor(math.abs(rateWindow)))
  end
end

local function claim()
  local free, waitMs = budget()
  local jobs, activeIds = {}, {}
  -- Dropped ids free their place in the batch; each round takes ids out, so this ends.
  while #jobs < free do
    local ids = takeIds(free - #jobs)
    if #ids == 0 then break end
    for _, id in ipairs(ids) do
      local job = activate(id)
      if job then
        jobs[#jobs + 1] = job
        activeIds[#activeIds + 1] = id
      end
    end
  end
  callInChunks('LPUSH', queue.active, activeIds)
  if rateMax then countStarts(jobs) end
  return jobs, waitMs
end

-- Jobs that a turn claimed whose reply never came: they are active under its token, and nobody works on them.
local function reclaimLost(jobs)
  local lost = {}
  for lostToken in string.gmatch(lostTokens, '[^,]+') do lost[lostToken] = true end
  for _, id in ipairs(redis.call('LRANGE', queue.active, 0, -1)) do
    local lock = queue.base .. id .. ':lock'
    if lost[redis.call('GET', lock)] then
      local fields = redis.pcall('HGETALL', queue.base .. id)
      if #fields == 0 then
        dropped[#dropped + 1] = id
      else
        redis.call('SET', lock, token, 'PX', leaseMs)
        jobs[#jobs + 1] = { id, tonumber(redis.call('HGET', queue.base .. id, 'ats')) or 1, fields }
      end
    end
  end
end

-- The turn -----------------------------------------------------------------------------------------------------------------

redis.call('XTRIM', queue.events, 'MAXLEN', '~', meta[5] or 10000)

local codes = {}
if attemptCount > 0 then codes = settleAll() end

local due = nextDue(queue)
if due > 0 and due <= now and promoteDue(queue, now) > 0 then due = nextDue(queue) end

local jobs, waitMs = {}, 0
if lostTokens ~= '' then reclaimLost(jobs) end
want = want - #jobs
if want > 0 then
  local claimed
  claimed, waitMs = claim()
  if #jobs == 0 then jobs = claimed else for _, job in ipairs(claimed) do jobs[#jobs + 1] = job end end
end

if attemptCount > 0 or #jobs > 0 then
  local more = redis.call('EXISTS', queue.wait, queue.prioritized) > 0
  if more then
    arm(queue)  -- the next idle worker, here or elsewhere
  elseif attemptCount > 0 and #jobs == 0 and redis.call('EXISTS', queue.active) == 0 then
    emit(queue, 'drained')
  end
end
if postponed then armDelay(queue) end
return { codes, jobs, dropped, waitMs, due }
