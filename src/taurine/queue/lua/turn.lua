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
          fail, retry and delay may have a trace context after a line break in keep: that of the attempt, stored as `tm`
  Returns { codes, jobs, dropped, wait, due }
          codes     for each attempt: 0 settled · 1 children: none is pending, the job is still active · -1 not stored ·
                    -2 no lease · -3 not active · -4 pending children · -6 another's lease · -9 a child failed ·
                    -12 kept as failed, since data of it or of its parent is broken
          jobs      for each claimed job: id · attempts started · how many follow · its hash before the claim: fields and values in turn,
                    or, where 0 are said to follow, six values, of a job as it was added: name · data · opts · timestamp · delay · priority
          dropped   ids that were in line with no job stored under them
          wait      ms until the rate limit allows more; 0 none; -1 paused, or as many active as the queue allows
          due       when the first delayed job is due, ms; 0 none
  Events  completed, failed, retries-exhausted, delayed, waiting, waiting-children, drained; active; and of parents and followers.
  Cost    O(attempts + claims); removing an id from active scans from its oldest end. Eviction costs the evicted, at most 1,000 a policy.
          After a lost reply, once O(active).
  Atomic: a slot that a settled job frees is counted before jobs are claimed, and no job is in two places. ]]
--@include queue events marker deletion eviction

-- Local names: to look up a global one costs more than most steps here.
local call, ARGV, unpack, tonumber = redis.call, ARGV, unpack, tonumber
local queue = openQueueOf(KEYS[1])
local base, events = queue.base, queue.events
-- Numbers that only pass through stay text: turning a number into text is what Lua does slowest here.
local nowText, token, leaseMs, want = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = tonumber(nowText)
local workerName, limitMax, limitWindow = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local metricsPoints, lostTokens = tonumber(ARGV[8]), ARGV[9]
local HEADER, FIELDS = 9, 6
local attemptCount = (#ARGV - HEADER) / FIELDS

-- Small counts as text, made once each.
local countText = setmetatable({}, {
  __index = function(texts, count)
    local text = tostring(count)
    texts[count] = text
    return text
  end,
})

local meta = call('HMGET', queue.meta, 'paused', 'concurrency', 'max', 'duration', 'opts.maxLenEvents')
local isPaused, concurrency = meta[1], tonumber(meta[2])  -- what is no number is no limit
local rateMax = tonumber(meta[3]) or limitMax
local rateWindow = limitWindow or tonumber(meta[4])

-- In the order of the attempts: ids, keys, lock keys and the tokens there; and two keys of children for each.
local ids, keys, lockKeys, holders, childKeys = {}, {}, {}, {}, {}
local dropped = {}
local toFront, postponed, releasedParents = {}, false, {}

-- The claimed jobs in one flat list: for each list within a reply the server takes 16 KB, since it cannot know how long it will be.
local jobs, jobsEnd, claimed = {}, 0, 0
local function report(id, starts, fields, isNew)
  local count = #fields
  jobs[jobsEnd + 1], jobs[jobsEnd + 2], jobs[jobsEnd + 3] = id, starts, isNew and 0 or count
  jobsEnd = jobsEnd + 3
  for i = 1, count do jobs[jobsEnd + i] = fields[i] end
  jobsEnd = jobsEnd + count
  claimed = claimed + 1
end

-- What few turns need: to define all of it costs the server as much as to settle a job, so it is left to the first use.
local function defineRare()
--@include placing storing parents deduplication metrics

  local function priorityOf(key)
    return tonumber(call('HGET', key, 'priority')) or 0
  end

  local rare = {
    releaseIfNothingPending = releaseIfNothingPending,
    endDeduplication = endDeduplication,
    countFinished = countFinished,
    promoteDue = promoteDue,
  }

  function rare.parentOf(key, parentKey)
    return openParent(parentKey, call('HGET', key, 'parent'))
  end

  function rare.tellParent(parent, kind, key, value)
    if kind == 'fail' then
      childFailed(parent, key, value, now)
    elseif childCompleted(parent, key, value) and not releasedParents[parent.key] then
      releasedParents[parent.key] = true
      releasedParents[#releasedParents + 1] = parent
    end
  end

  function rare.unlinkFromParent(parent, key)
    unlinkFromParent(parent, key, now)
  end

  -- An evicted job that never completed may still be awaited by its parent.
  function rare.unlinkEvicted(evicted)
    for _, id in ipairs(evicted) do
      local fields = redis.pcall('HMGET', base .. id, 'parentKey', 'parent')
      local parent = not fields.err and fields[1] and openParent(fields[1], fields[2])
      if parent then pcall(unlinkFromParent, parent, base .. id, now) end  -- its keys may be of another type
    end
  end

  function rare.retryNow(id, key, attemptsMade, side)
    call('HSET', key, 'atm', countText[attemptsMade])
    placeReady(queue, id, priorityOf(key), side == 'lifo')
    emit(queue, 'waiting', 'jobId', id, 'prev', 'active')
  end

  function rare.retryLater(id, key, pause)
    call('HSET', key, 'delay', pause)
    placeDelayed(queue, id, now + pause)
    postponed = true
  end

  -- In front of the line: of `wait`, or of the job's own priority. Those of `wait` go there together, in their old order.
  function rare.release(id, key)
    local priority = priorityOf(key)
    if priority > 0 then
      call('ZADD', queue.prioritized, priority * PRIORITY_STEP, id)
    else
      toFront[#toFront + 1] = id
    end
    emit(queue, 'waiting', 'jobId', id, 'prev', 'active')
  end

  function rare.awaitChildren(id)
    call('ZADD', queue.waitingChildren, now, id)
    emit(queue, 'waiting-children', 'jobId', id, 'prev', 'active')
  end

  -- A job that cannot be settled, since a key of it or of its parent holds something else than it should, must not take its batch along:
  -- it is kept as failed, to be looked at.
  function rare.keepBroken(id)
    local key = base .. id
    local reason = 'it could not be settled: data of it, or of its parent, is broken'
    call('LREM', queue.active, -1, id)
    redis.pcall('HSET', key, 'failedReason', reason, 'finishedOn', nowText)
    call('ZADD', queue.failed, nowText, id)
    emit(queue, 'failed', 'jobId', id, 'failedReason', reason, 'prev', 'active')
  end

  -- A job that is only picked up to be failed costs nobody a start.
  function rare.countStarts(claimedIds)
    local starts = 0
    for _, id in ipairs(claimedIds) do
      if call('HEXISTS', base .. id, 'defa') == 0 then starts = starts + 1 end
    end
    if starts == 0 then return end
    local started = redis.pcall('INCRBY', queue.limiter, starts)  -- a counter that is no number limits nobody
    if started == starts and rateWindow then
      call('PEXPIRE', queue.limiter, math.floor(math.abs(rateWindow)))
    end
  end

  -- Jobs that a turn claimed whose reply never came: they are active under its token, and nobody works on them.
  function rare.reclaimLost()
    local lost = {}
    for lostToken in string.gmatch(lostTokens, '[^,]+') do lost[lostToken] = true end
    for _, id in ipairs(call('LRANGE', queue.active, 0, -1)) do
      local lock = base .. id .. ':lock'
      if lost[call('GET', lock)] then
        local fields = redis.pcall('HGETALL', base .. id)
        if #fields == 0 then
          dropped[#dropped + 1] = id
        else
          call('SET', lock, token, 'PX', leaseMs)
          report(id, tonumber(call('HGET', base .. id, 'ats')) or 1, fields)
        end
      end
    end
  end

  return rare
end

local rareFunctions
local function rare()
  rareFunctions = rareFunctions or defineRare()
  return rareFunctions
end

-- Settling ---------------------------------------------------------------------------------------------------------------

local finished = {
  completed = { count = 0, scores = {}, policies = {} },
  failed = { count = 0, scores = {}, policies = {} },
}
local releasedIds, releasedLocks, releases, gaveUp = {}, {}, 0, {}

local function readAttempts()
  local at = HEADER + 2
  for i = 1, attemptCount do
    local id = ARGV[at]
    local key = base .. id
    ids[i], keys[i], lockKeys[i] = id, key, key .. ':lock'
    childKeys[2 * i - 1], childKeys[2 * i] = key .. ':dependencies', key .. ':unsuccessful'
    at = at + FIELDS
  end
end

-- Children are looked at before any job of the batch is settled: a parent that ends together with its last child is refused, as
-- it would be had it come a moment earlier.
local function pendingChildren()
  local any = 0
  for first = 1, #childKeys, CHUNK do
    any = any + call('EXISTS', unpack(childKeys, first, math.min(first + CHUNK - 1, #childKeys)))
  end
  local codes = {}
  if any == 0 then return codes end
  for i = 1, attemptCount do
    if call('EXISTS', childKeys[2 * i]) == 1 then
      codes[i] = -9
    elseif call('EXISTS', childKeys[2 * i - 1]) == 1 then
      codes[i] = -4
    end
  end
  return codes
end

local function leaseHolders()
  for first = 1, attemptCount, CHUNK do
    local part = call('MGET', unpack(lockKeys, first, math.min(first + CHUNK - 1, attemptCount)))
    for i = 1, #part do holders[first + i - 1] = part[i] end
  end
  return holders
end

local function finish(kind, id, key, job, value, keep)
  local event, field, limit = 'completed', 'returnvalue', nil
  if kind == 'fail' then
    event, field = 'failed', 'failedReason'
    keep, limit = string.match(keep, '^(.*)/(%d*)$')
  end
  local attemptsMade = (tonumber(job[2]) or 0) + 1

  if job[4] then rare().endDeduplication(queue, id, job[4], now) end
  local parent = job[3] and rare().parentOf(key, job[3])
  if parent then rare().tellParent(parent, kind, key, value) end

  local policy, group = parsePolicy(keep), finished[event]
  group.count = group.count + 1
  if policy.count == 0 then
    deleteJobs(queue, { id })
    if parent then rare().unlinkFromParent(parent, key) end
  else
    local scores, n = group.scores, #group.scores
    scores[n + 1], scores[n + 2] = nowText, id
    group.policies[policy] = true
    call('HSET', key, field, value, 'finishedOn', nowText, 'atm', countText[attemptsMade])
    if kind == 'fail' then call('HDEL', key, 'defa') end
  end
  call('XADD', events, '*', 'event', event, 'jobId', id, field, value, 'prev', 'active')
  if limit and attemptsMade >= (tonumber(limit) or 0) then
    emit(queue, 'retries-exhausted', 'jobId', id, 'attemptsMade', attemptsMade)
  end
end

-- Jobs tend to end in the order in which they were claimed. Then the ids at the old end of active are the batch's own, and go in one cut;
-- any other id is looked for by itself.
local cut = {}  -- by id: true when it was cut out of active, false when it ends and was not
local function cutActive(childCodes)
  local at = HEADER
  for i = 1, attemptCount do
    if holders[i] == ARGV[at + 3] and not childCodes[i] and ARGV[at + 1] ~= 'children' then cut[ids[i]] = false end
    at = at + FIELDS
  end
  local oldest = call('LRANGE', queue.active, -attemptCount, -1)
  local count = 0
  for i = #oldest, 1, -1 do
    local id = oldest[i]
    if cut[id] ~= false then break end
    cut[id] = true
    count = count + 1
  end
  if count > 0 then call('LTRIM', queue.active, 0, -(count + 1)) end
end

-- The lease is checked before anything is written, and given up only by its owner.
local function settle(i, childCode)
  local at = HEADER + (i - 1) * FIELDS
  local kind, value = ARGV[at + 1], ARGV[at + 4]
  local id, key, holder = ids[i], keys[i], holders[i]
  local job = redis.pcall('HMGET', key, 'name', 'atm', 'parentKey', 'deid')
  if job.err or not job[1] and call('EXISTS', key) == 0 then return -1 end
  if childCode and (kind == 'complete' or (kind == 'children' and childCode == -9)) then return childCode end
  if kind == 'children' and childCode ~= -4 then return 1 end
  if not holder or gaveUp[id] then return -2 end
  if holder ~= ARGV[at + 3] then return -6 end
  gaveUp[id] = true
  releases = releases + 1
  releasedIds[releases], releasedLocks[releases] = id, lockKeys[i]
  if not cut[id] and call('LREM', queue.active, -1, id) == 0 then return -3 end

  local detail, last = ARGV[at + 5], ARGV[at + 6]
  if kind == 'complete' then
    finish(kind, id, key, job, value, last)
    return 0
  end
  if kind == 'fail' or kind == 'retry' or kind == 'delay' then
    local lineBreak = string.find(last, '\n', 1, true)
    if lineBreak then
      call('HSET', key, 'failedReason', value, 'stacktrace', detail, 'tm', string.sub(last, lineBreak + 1))
      last = string.sub(last, 1, lineBreak - 1)
    else
      call('HSET', key, 'failedReason', value, 'stacktrace', detail)
    end
  end
  local attemptsMade = (tonumber(job[2]) or 0) + 1
  if kind == 'fail' then
    finish(kind, id, key, job, value, last)
  elseif kind == 'retry' then
    rare().retryNow(id, key, attemptsMade, last)
  elseif kind == 'delay' then
    call('HSET', key, 'atm', attemptsMade)
    rare().retryLater(id, key, tonumber(last))
  elseif kind == 'snooze' then
    rare().retryLater(id, key, tonumber(value))
  elseif kind == 'release' then
    rare().release(id, key)
  else
    rare().awaitChildren(id)
  end
  return 0
end

-- One call for all: within the script nobody sees a settled job that is still locked.
local function giveUpLeases()
  for first = 1, releases, CHUNK do
    call('DEL', unpack(releasedLocks, first, math.min(first + CHUNK - 1, releases)))
  end
  callInChunks('SREM', queue.stalled, releasedIds)
end

local function recordFinished(event)
  local group = finished[event]
  if group.count == 0 then return end
  callInChunks('ZADD', queue[event], group.scores)
  local forget = event == 'failed' and rare().unlinkEvicted
  for policy in pairs(group.policies) do evict(queue, queue[event], policy, now, forget) end
  if metricsPoints > 0 then rare().countFinished(queue, event, group.count, metricsPoints, now) end
end

local function settleAt(i, childCode)
  local ok, code = pcall(settle, i, childCode)
  if ok then return code end
  rare().keepBroken(ids[i])
  return -12
end

-- Parents that are to wait for children go first: a child that ends in the same batch would else find nobody waiting, and the parent would
-- wait for ever.
local function settleAll()
  readAttempts()
  holders = leaseHolders()
  local childCodes, codes = pendingChildren(), {}
  cutActive(childCodes)
  for i, childCode in pairs(childCodes) do
    if childCode == -4 and ARGV[HEADER + (i - 1) * FIELDS + 1] == 'children' then codes[i] = settleAt(i, childCode) end
  end
  for i = 1, attemptCount do codes[i] = codes[i] or settleAt(i, childCodes[i]) end
  giveUpLeases()
  local front = {}
  for i = #toFront, 1, -1 do front[#front + 1] = toFront[i] end
  callInChunks('RPUSH', queue.wait, front)
  for _, parent in ipairs(releasedParents) do pcall(rare().releaseIfNothingPending, parent, now) end
  recordFinished('completed')
  recordFinished('failed')
  return codes
end

-- Claiming ---------------------------------------------------------------------------------------------------------------

local AD_HOC_LIMIT = 9007199254740991

-- How many starts the limits leave, and what to tell a worker that gets fewer than it wanted.
local function budget()
  local started = tonumber(call('GET', queue.limiter))
  -- A limit set by hand holds on a queue without a limit of its own too.
  if started and started >= (rateMax or AD_HOC_LIMIT) then
    local ttl = call('PTTL', queue.limiter)
    if ttl > 0 then return 0, ttl end
    if ttl == 0 then call('DEL', queue.limiter) end
    started = nil
  end
  if isPaused then return 0, -1 end
  local free = want
  if concurrency then
    free = math.min(free, concurrency - call('LLEN', queue.active))
    if free <= 0 then return 0, -1 end
  end
  if rateMax then free = math.min(free, rateMax - (started or 0)) end
  return free, 0
end

local function takeIds(count)
  local taken = call('RPOP', queue.wait, count) or {}
  if #taken < count then
    local byPriority = call('ZPOPMIN', queue.prioritized, count - #taken)
    for i = 1, #byPriority, 2 do taken[#taken + 1] = byPriority[i] end
    if #byPriority == 0 then call('DEL', queue.priorityCounter) end
  end
  return taken
end

-- How often a job was started, by its hash; nil if it is no job's.
local function startsOf(fields)
  local starts, isJob = 0, false
  for at = 1, #fields, 2 do
    local field = fields[at]
    if field == 'ats' then
      starts = tonumber(fields[at + 1]) or 0
    elseif field == 'name' or field == 'data' then
      isJob = true
    end
  end
  return isJob and starts or nil
end

-- The values of a job as it was added, which has just these six fields; nil for any other. Most are such, and to ask for them by name costs
-- the server less: it cannot know how long a whole hash will be, and takes 16 KB to find out.
local NEW_JOB_FIELDS = 6
local function newJob(key)
  if redis.pcall('HLEN', key) ~= NEW_JOB_FIELDS then return nil end
  local values = call('HMGET', key, 'name', 'data', 'opts', 'timestamp', 'delay', 'priority')
  for i = 1, NEW_JOB_FIELDS do
    if not values[i] then return nil end
  end
  return values
end

-- Turns one id active. False for an id that no job stands behind: it is dropped, since writing to it would make half a job.
local function activate(id)
  local key = base .. id
  local fields, starts = newJob(key), 0
  local isNew = fields ~= nil
  if not isNew then
    fields = redis.pcall('HGETALL', key)
    starts = startsOf(fields)
    if not starts then
      dropped[#dropped + 1] = id
      return false
    end
  end
  starts = starts + 1
  call('PSETEX', key .. ':lock', leaseMs, token)
  if workerName == '' then
    call('HSET', key, 'processedOn', nowText, 'ats', countText[starts])
  else
    call('HSET', key, 'processedOn', nowText, 'ats', countText[starts], 'pb', workerName)
  end
  call('XADD', events, '*', 'event', 'active', 'jobId', id, 'prev', 'waiting')
  report(id, starts, fields, isNew)
  return true
end

local function claim()
  local free, waitMs = budget()
  local activeIds, count = {}, 0
  -- Dropped ids free their place in the batch; each round takes ids out, so this ends.
  while count < free do
    local taken = takeIds(free - count)
    if #taken == 0 then break end
    for i = 1, #taken do
      local id = taken[i]
      if activate(id) then
        count = count + 1
        activeIds[count] = id
      end
    end
  end
  callInChunks('LPUSH', queue.active, activeIds)
  if rateMax then rare().countStarts(activeIds) end
  return waitMs
end

-- The turn -----------------------------------------------------------------------------------------------------------------

-- When the first delayed job is due, in ms; 0 if there is none.
local function nextDue()
  local first = call('ZRANGE', queue.delayed, 0, 0, 'WITHSCORES')
  return first[2] and math.floor(tonumber(first[2]) / DUE_STEP) or 0
end

call('XTRIM', queue.events, 'MAXLEN', '~', meta[5] or 10000)

local codes = {}
if attemptCount > 0 then codes = settleAll() end

local due = nextDue()
if due > 0 and due <= now and rare().promoteDue(queue, now) > 0 then due = nextDue() end

local waitMs = 0
if lostTokens ~= '' then rare().reclaimLost() end
want = want - claimed
if want > 0 then waitMs = claim() end

if attemptCount > 0 or claimed > 0 then
  if call('EXISTS', queue.wait, queue.prioritized) > 0 then
    local isFull = concurrency and call('LLEN', queue.active) >= concurrency
    if not isPaused and not isFull then armNow(queue) end  -- the next idle worker, here or elsewhere
  elseif attemptCount > 0 and claimed == 0 and call('EXISTS', queue.active) == 0 then
    emit(queue, 'drained')
  end
end
if postponed then armDelay(queue) end
return { codes, jobs, dropped, waitMs, due }
