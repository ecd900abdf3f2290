#!lua flags=allow-oom
--[[ obliterate: destroy a queue, a number of jobs at a time.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · 2 '1' for the first call, which pauses the queue · 3 '1' to take active jobs too · 4 most jobs to remove
  Returns { code, removed }: 1 more may be left, call again · 0 done · -1 somebody has resumed the queue · -2 jobs are active
  Events  waiting, of parents in other queues; none in this one, whose stream goes too.
  Cost    O(jobs removed).
  Atomic: the queue is paused only if it may be destroyed, so that no job starts meanwhile; its keys go last and at once. ]]
--@include queue events marker placing storing deletion parents deduplication

local queue = openQueueOf(KEYS[1])
local now, isFirst, force, most = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3] == '1', tonumber(ARGV[4])

if not force and redis.call('EXISTS', queue.active) == 1 then return { -2, 0 } end
if isFirst then
  redis.call('DEL', queue.marker)
  redis.call('HSET', queue.meta, 'paused', 1)
elseif redis.call('HEXISTS', queue.meta, 'paused') == 0 then
  return { -1, 0 }
end

local function takeFromList(list, count)
  return redis.call('RPOP', list, count) or {}
end

local function takeFromSet(set, count)
  local ids = {}
  local popped = redis.call('ZPOPMIN', set, count)
  for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end
  return ids
end

-- Every deduplication id that is met goes, whoever holds it: all jobs of the queue do.
local function destroy(ids)
  local keys = {}
  for _, id in ipairs(ids) do
    local key = queue.base .. id
    keys[#keys + 1] = key .. ':lock'
    local fields = redis.pcall('HMGET', key, 'parentKey', 'parent', 'deid')
    if not fields.err then
      if fields[3] then
        keys[#keys + 1], keys[#keys + 2] = queue.base .. 'de:' .. fields[3], queue.base .. 'dn:' .. fields[3]
      end
      local parent = fields[1] and openParent(fields[1], fields[2])
      if parent and parent.queue.base ~= queue.base then unlinkFromParent(parent, key, now) end
    end
  end
  deleteJobs(queue, ids)
  for first = 1, #keys, CHUNK do
    redis.call('DEL', unpack(keys, first, math.min(first + CHUNK - 1, #keys)))
  end
end

local left = most
for _, list in ipairs({ queue.active, queue.wait, queue.paused }) do
  if left > 0 then
    local ids = takeFromList(list, left)
    destroy(ids)
    left = left - #ids
  end
end
for _, set in ipairs({ queue.prioritized, queue.delayed, queue.waitingChildren, queue.completed, queue.failed }) do
  if left > 0 then
    local ids = takeFromSet(set, left)
    destroy(ids)
    left = left - #ids
  end
end
local removed = most - left
if left > 0 then
  local schedulers = takeFromSet(queue.schedulers, left)
  for _, scheduler in ipairs(schedulers) do redis.call('DEL', queue.schedulers .. ':' .. scheduler) end
  left = left - #schedulers
end
if left == 0 then return { 1, removed } end

local metrics = queue.base .. 'metrics:'
redis.call('UNLINK', queue.meta, queue.id, queue.priorityCounter, queue.events, queue.marker, queue.limiter, queue.stalled,
           queue.stalledCheck, metrics .. 'completed', metrics .. 'completed:data', metrics .. 'failed',
           metrics .. 'failed:data', queue.base .. 'priority', queue.base .. 'delay')
return { 0, removed }
