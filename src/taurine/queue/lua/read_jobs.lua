#!lua flags=no-writes
--[[ read_jobs: the hashes of some jobs.

  KEYS    1 the queue's meta key
  ARGV    job ids
  Returns for each its fields and values in turn; empty for an id that no hash stands under
  Events  none.  Cost O(fields).
  A key of another type is no reason to refuse the rest of the page, as a plain HGETALL would. ]]
--@include queue

local queue = openQueueOf(KEYS[1])
local jobs = {}
for i, id in ipairs(ARGV) do
  local fields = redis.pcall('HGETALL', queue.base .. id)
  jobs[i] = fields.err and {} or fields
end
return jobs
