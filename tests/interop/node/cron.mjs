// Next runs of cron patterns, as BullMQ computes them. One line of JSON in, one line out:
//   in   [{pattern, tz, endDate, after, fires}]   tz and endDate may be null; after and endDate in ms since 1970
//   out  [{fires: [ms, ...]} | {error: "..."}]    fewer fires than asked for: BullMQ schedules nothing further
// Each fire is computed afresh from the one before, because that is what a worker does when it claims a run.
import { createInterface } from 'node:readline';
import { getNextMillis } from 'bullmq';

function series({ pattern, tz, endDate, after, fires }) {
  const options = { pattern, ...(tz && { tz }), ...(endDate && { endDate }) };
  const found = [];
  for (let previous = after; found.length < fires; ) {
    previous = getNextMillis(previous, options);
    if (previous === undefined) break;
    found.push(previous);
  }
  return found;
}

function answer(question) {
  try {
    return { fires: series(question) };
  } catch (error) {
    return { error: error.message };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(JSON.parse(line).map(answer))}\n`);
}
