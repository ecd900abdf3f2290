#!lua flags=allow-oom
--[[ drain: remove jobs that wait, a stretch at a time.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · 2 key suffix of the collection: wait, paused, prioritized or delayed · 3 how many of its oldest entries were kept by earlier
          calls · 4 most entries to look at
  Returns { removed, looked at, kept, length }: of this call; and how many entries the collection had before it
  Events  none for the jobs, as with BullMQ: their number may be that of the whole queue; waiting, of parents in other queues.
  Cost    O(entries looked at and kept); in a list, of the stretch in front of the last one removed.
  Atomic: exactly the ids that were read are removed, with their keys.
  Kept is the next run of a scheduler, or its schedule would end. A parent in this queue that loses its last child is removed with it, since it
  would only come to wait here; a parent in another queue goes on. ]]
--@include queue events marker placing storing deletion parents deduplication ties removal stretch

local queue = openQueueOf(KEYS[1])
local now, collection, offset, count = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local length = lengthOf(queue, collection)
local ids = readStretch(queue, collection, offset, count)
local positions, gone = {}, {}
for position, id in ipairs(ids) do
  if not isArmed(queue, id) then
    positions[#positions + 1] = position
    gone[#gone + 1] = id
  end
end
cutStretch(queue, collection, offset, ids, positions)

local next = 1
while next <= #gone do  -- parents join the list as they lose their last child
  local parentId = cutTies(queue, gone[next], now, true)
  if parentId then gone[#gone + 1] = parentId end
  next = next + 1
end
deleteJobs(queue, gone)
return { #gone, #ids, #ids - #positions, length }
