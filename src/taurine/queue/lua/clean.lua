#!lua flags=allow-oom
--[[ clean: remove old jobs of one state, a stretch at a time.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · 2 remove what is not younger than this, ms · 3 key suffix of the collection: completed, failed, wait, paused, prioritized,
          delayed or active · 4 how many of its oldest entries were kept by earlier calls · 5 most entries to look at · 6 most to remove
  Returns { ids, kept, length }: removed and kept by this call; and how many entries the collection had before it
  Events  cleaned with the count, if not 0; waiting, of parents.
  Cost    O(entries looked at and kept); in a list, of the stretch in front of the last one removed.
  Atomic: exactly the ids that were read are removed, with their keys.
  A finished job is as old as its end, another as its last start, else as its creation. Kept are the next run of a scheduler, and active jobs
  under a lease. A parent that loses its last child goes on. ]]
--@include queue events marker placing storing deletion parents deduplication ties removal stretch

local queue = openQueueOf(KEYS[1])
local now, cutoff, collection, offset = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local most, mostRemoved = tonumber(ARGV[5]), tonumber(ARGV[6])
local isFinished = collection == 'completed' or collection == 'failed'

local function isOld(key)
  local fields = redis.pcall('HMGET', key, 'processedOn', 'timestamp')
  if fields.err then return false end
  return (tonumber(fields[1]) or tonumber(fields[2]) or 0) <= cutoff
end

local function mayGo(id)
  local key = queue.base .. id
  if collection == 'active' and redis.call('EXISTS', key .. ':lock') == 1 then return false end
  return not isArmed(queue, id) and isOld(key)
end

local length = lengthOf(queue, collection)
local ids
if isFinished then
  ids = redis.call('ZRANGE', queue.base .. collection, '-inf', cutoff, 'BYSCORE', 'LIMIT', 0, math.min(most, mostRemoved))
else
  ids = readStretch(queue, collection, offset, most)
end

local positions, gone, kept = {}, {}, 0
for position, id in ipairs(ids) do
  if #gone == mostRemoved then break end
  if isFinished or mayGo(id) then
    positions[#positions + 1] = position
    gone[#gone + 1] = id
  else
    kept = kept + 1
  end
end
cutStretch(queue, collection, offset, ids, positions)
for _, id in ipairs(gone) do cutTies(queue, id, now) end
deleteJobs(queue, gone)

if #gone > 0 then
  trimEvents(queue)
  emit(queue, 'cleaned', 'count', #gone)
  if collection == 'active' then
    callInChunks('SREM', queue.stalled, gone)
    armIfClaimable(queue)
  end
end
return { gone, kept, length }
