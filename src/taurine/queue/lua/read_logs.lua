#!lua flags=no-writes
--[[ read_logs: a page of a job's log.

  KEYS    1 the queue's meta key
  ARGV    1 first line, from 0 · 2 last line, included; both count from the end when negative · then the ids under which the job
          may be stored, best first
  Returns { total, lines }, of the first id that a job is stored under, else of the last
  Events  none.  Cost O(lines read, and passed over).
  Atomic: the total is that of the moment when the lines were read. ]]
--@include queue

local queue = openQueueOf(KEYS[1])
local id = ARGV[#ARGV]
for i = 3, #ARGV do
  if redis.call('EXISTS', queue.base .. ARGV[i]) == 1 then
    id = ARGV[i]
    break
  end
end
local logs = queue.base .. id .. ':logs'
return { redis.call('LLEN', logs), redis.call('LRANGE', logs, ARGV[1], ARGV[2]) }
