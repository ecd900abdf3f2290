// Job schedulers on Node. argv: redis url, prefix, queue. One line of JSON in, one out:
//   {upsert: id, repeat, template}   -> {id, now} of the next run, and the time before the call; or {error}
//   {run: true}                      -> {id, name, data, count} of the next job, claimed (so advanced) and completed; or {id: null}
//   {claim: true}                    -> the same, left active
//   {retry: id}                      -> {} puts a claimed job back in line
//   {list: true}                     -> {schedulers} as BullMQ reads them
//   {remove: id}                     -> {removed}
import { createRequire } from "node:module";
import { Queue, Worker } from "bullmq";
import { received, send } from "./lines.mjs";

const IORedis = createRequire(import.meta.url)("ioredis");
const [url, prefix, name] = process.argv.slice(2);
const connection = new IORedis(url, { maxRetriesPerRequest: null });
const queue = new Queue(name, { connection, prefix });
const worker = new Worker(name, null, { connection, prefix });
const token = "node";
const claimed = new Map();

async function claim() {
  const job = await worker.getNextJob(token, { block: false });
  if (!job) return { id: null };
  claimed.set(job.id, job);
  return { id: job.id, name: job.name, data: job.data, count: job.opts.repeat?.count };
}

const actions = {
  async upsert({ upsert, repeat, template }) {
    const now = Date.now();
    const job = await queue.upsertJobScheduler(upsert, repeat, template);
    return { id: job?.id ?? null, now };
  },
  claim,
  async run() {
    const job = await claim();
    if (job.id !== null) await claimed.get(job.id).moveToCompleted("done", token, false);
    return job;
  },
  async retry({ retry }) {
    await claimed.get(retry).retry("failed", { token }).catch(() => claimed.get(retry).moveToWait(token));
    return {};
  },
  list: async () => ({ schedulers: await queue.getJobSchedulers(0, -1, true) }),
  remove: async ({ remove }) => ({ removed: await queue.removeJobScheduler(remove) }),
};

for await (const message of received()) {
  const action = actions[Object.keys(message)[0]];
  try {
    send(await action(message));
  } catch (error) {
    send({ error: error.message });
  }
}
await worker.close();
await queue.close();
connection.disconnect();
