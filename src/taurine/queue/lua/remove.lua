#!lua flags=allow-oom
--[[ remove: remove one job, in whatever state, with or without its children.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · 2 '1' with its children, theirs too, in whatever queue; '' without · then the ids under which the job may be stored,
          best first
  Returns 1 removed · 0 a lease is held on it or on one of the children · -1 not stored · -8 the next run of a scheduler
  Events  removed, for each job in its own queue, children first; waiting, of a parent that goes on.
  Cost    O(jobs removed); in a list, O(length) to find an id.
  Atomic: all go or none, and a parent that waits elsewhere for the last of them goes on. ]]
--@include queue events marker placing storing deletion parents deduplication ties removal whereabouts

local queue = openQueueOf(KEYS[1])
local now, withChildren = tonumber(ARGV[1]), ARGV[2] == '1'

-- The job of a full key. Prefix and id may hold colons, so its queue is the shortest beginning under which a queue's keys stand.
local function openJobKey(key)
  if string.sub(key, 1, #queue.base) == queue.base then
    return { key = key, id = string.sub(key, #queue.base + 1), queue = queue }
  end
  local colon = string.find(key, ':', 1, true)
  while colon do
    local base = string.sub(key, 1, colon)
    if redis.call('EXISTS', base .. 'meta', base .. 'id') > 0 then
      return { key = key, id = string.sub(key, colon + 1), queue = openQueue(base) }
    end
    colon = string.find(key, ':', colon + 1, true)
  end
end

local function childKeys(key)
  local keys = redis.call('SMEMBERS', key .. ':dependencies')
  for _, part in ipairs({ redis.call('HKEYS', key .. ':processed'), redis.call('HKEYS', key .. ':failed'),
                          redis.call('ZRANGE', key .. ':unsuccessful', 0, -1) }) do
    for _, child in ipairs(part) do keys[#keys + 1] = child end
  end
  return keys
end

-- Lists the job behind all its children; false when one of them is being worked on.
local function collect(job, doomed)
  if doomed[job.key] then return true end
  doomed[job.key] = true
  if redis.call('EXISTS', job.key .. ':lock') == 1 then return false end
  if withChildren then
    for _, childKey in ipairs(childKeys(job.key)) do
      local child = openJobKey(childKey)
      -- An ended child may be gone, and its id taken by a job that has nothing to do with this one.
      if child and redis.call('HGET', childKey, 'parentKey') == job.key and not collect(child, doomed) then return false end
    end
  end
  doomed[#doomed + 1] = job
  return true
end

local function find()
  for i = 3, #ARGV do
    local id = ARGV[i]
    local key = queue.base .. id
    if redis.call('EXISTS', key) == 1 or standsIn(queue, id) then return { key = key, id = id, queue = queue } end
  end
end

local job = find()
if not job then return -1 end
if isArmed(queue, job.id) then return -8 end
local doomed = {}
if not collect(job, doomed) then return 0 end

trimEvents(queue)
-- All leave their places before ties are cut, or a parent in the list would be started by the loss of its last child.
for _, each in ipairs(doomed) do each.stood = takeOut(each.queue, each.id) end
for _, each in ipairs(doomed) do
  cutTies(each.queue, each.id, now)
  deleteJobs(each.queue, { each.id })
  emit(each.queue, 'removed', 'jobId', each.id, 'prev', each.stood or 'unknown')
  if each.stood == 'active' then
    redis.call('SREM', each.queue.stalled, each.id)
    armIfClaimable(each.queue)
  end
end
return 1
