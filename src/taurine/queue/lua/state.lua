#!lua flags=no-writes
--[[ state: where a job stands.

  KEYS    1 the queue's meta key
  ARGV    the ids under which the job may be stored, best first
  Returns the key suffix of the collection that holds the first of them that stands anywhere; false when none does
  Events  none.  Cost O(log n); O(active + waiting) for a job that is in none of the sorted sets.
  Atomic: a job that moves meanwhile is not missed. ]]
--@include queue whereabouts

local queue = openQueueOf(KEYS[1])
for _, id in ipairs(ARGV) do
  local collection = standsIn(queue, id)
  if collection then return collection end
end
return false
