#!lua flags=allow-oom
--[[ remove_ended: take out jobs that have ended for the layer above, each unless a later generation of it stands here.

  KEYS    1 the queue's meta key
  ARGV    1 now, ms · then two for each job: id · the last generation that has ended
  Returns how many were removed; left are those under a lease, of a later generation, not stored, and the next run of a scheduler
  Events  none of the jobs: `removed` tells that an operator did it. waiting, of a parent that goes on.
  Cost    O(jobs); in a list, O(length) to find an id.
  Atomic: between the look at the generation and the removal nobody can add a later one. ]]
--@include queue events marker placing storing deletion parents deduplication ties removal whereabouts generation

local queue = openQueueOf(KEYS[1])
local now = tonumber(ARGV[1])

local function mayGo(id, generation)
  local key = queue.base .. id
  local opts = redis.pcall('HGET', key, 'opts')
  if type(opts) ~= 'string' or redis.call('EXISTS', key .. ':lock') == 1 or isArmed(queue, id) then return false end
  return generationIn(opts) <= generation
end

trimEvents(queue)
local removed = 0
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  if mayGo(id, tonumber(ARGV[i + 1])) then
    local stood = takeOut(queue, id)
    cutTies(queue, id, now)
    deleteJobs(queue, { id })
    if stood == 'active' then
      redis.call('SREM', queue.stalled, id)
      armIfClaimable(queue)
    end
    removed = removed + 1
  end
end
return removed
