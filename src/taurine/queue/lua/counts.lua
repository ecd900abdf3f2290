#!lua flags=no-writes
--[[ counts: how many jobs stand in each collection, all at one moment.

  KEYS    1 the queue's meta key
  ARGV    the collections' key suffixes
  Returns a number for each
  Events  none.  Cost O(collections).
  Atomic: a job that moves is counted once. ]]
--@include queue stretch

local queue = openQueueOf(KEYS[1])
local counts = {}
for i, collection in ipairs(ARGV) do counts[i] = lengthOf(queue, collection) end
return counts
