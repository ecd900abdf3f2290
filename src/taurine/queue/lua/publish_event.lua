--[[ publish_event: append an event of the caller's own to the queue's stream.

  KEYS    1 the queue's meta key
  ARGV    1 event name; then field · value for each field
  Returns the event's id
  Events  the caller's.  Cost O(1).
  Atomic: the stream keeps to the queue's own length limit. ]]
--@include queue events

local queue = openQueueOf(KEYS[1])
trimEvents(queue)
return redis.call('XADD', queue.events, '*', 'event', unpack(ARGV))
