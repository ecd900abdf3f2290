-- The event stream. It is trimmed once, before a script's own events are appended, so that a reader that waits gets all of them.

local function emit(queue, event, ...)
  redis.call('XADD', queue.events, '*', 'event', event, ...)
end

local function trimEvents(queue)
  local maxLength = redis.call('HGET', queue.meta, 'opts.maxLenEvents')
  if not maxLength then
    maxLength = 10000
    redis.call('HSET', queue.meta, 'opts.maxLenEvents', maxLength)
  end
  redis.call('XTRIM', queue.events, 'MAXLEN', '~', maxLength)
end
