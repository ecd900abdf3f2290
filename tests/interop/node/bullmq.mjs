// BullMQ, driven by a test: every line in is one call, and its answer is a line out with the same number.
//   argv  redis URL, key prefix
//   in    {call, do, queue, …}      out  {call, value} or {call, error}
// Calls on different jobs overlap; answers come as they are ready. What a worker does is said by the job's data: see perform().

import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { FlowProducer, Job, Queue, QueueEvents, UnrecoverableError, Worker } from "bullmq";
import { received, send } from "./lines.mjs";

const [url, prefix] = process.argv.slice(2);
const { hostname, port } = new URL(url);
const connection = { host: hostname, port: Number(port) };
const base = { connection, prefix };

const queues = new Map();
const listeners = new Map();
const workers = new Map();
let flows;

function queueOf(name) {
  if (!queues.has(name)) queues.set(name, new Queue(name, base));
  return queues.get(name);
}

async function jobOf({ queue, job }) {
  const found = await Job.fromId(queueOf(queue), job);
  if (!found) throw new Error(`no job ${job}`);
  return found;
}

// The work ------------------------------------------------------------------------------------------------------------

// ms: take this long · hold: never end · failures: how many attempts fail, with `error`; final: for good ·
// children: return what the children left · size: return a text of this length · result: return this.
async function perform(job) {
  const task = job.data;
  if (task.ms) await pause(task.ms);
  if (task.hold) await new Promise(() => {});
  if (job.attemptsMade < (task.failures ?? 0)) throw new (task.final ? UnrecoverableError : Error)(task.error);
  if (task.children) return { results: await job.getChildrenValues(), ignored: await job.getIgnoredChildrenFailures() };
  return task.size ? "x".repeat(task.size) : task.result;
}

// The same lines as tests/support/history.py writes; both stamps are the machine's monotonic clock.
class History {
  constructor(directory, worker) {
    this.directory = directory;
    this.worker = worker;
  }

  append(file, line) {
    const at = Number(process.hrtime.bigint()) / 1e9;
    appendFileSync(join(this.directory, file), `${JSON.stringify({ ...line, worker: this.worker, at })}\n`);
  }

  start(job, token) {
    job.lease = `${token}/${job.id}/${job.attemptsStarted}`;
    this.append("history.jsonl", { kind: "start", job: job.id, token: job.lease });
    this.append("effects.jsonl", { job: job.id, token: job.lease });
  }

  finish(job, outcome) {
    this.append("history.jsonl", { kind: "finish", job: job.id, token: job.lease, outcome });
  }
}

function startWorker({ queue, name, history: directory, options }) {
  const history = directory && new History(directory, name);
  const run = (job, token) => {
    history?.start(job, token);
    return perform(job);
  };
  const worker = new Worker(queue, run, { ...base, name, ...options });
  worker.on("error", (error) => console.error(error));
  if (history) {
    worker.on("completed", (job) => history.finish(job, "completed"));
    worker.on("failed", (job) => job && history.finish(job, job.finishedOn ? "failed" : "retried"));
  }
  workers.set(name, worker);
  return worker.waitUntilReady();
}

// By hand: a job is claimed by one call and settled by another.
const manual = new Map();
const held = new Map();

async function take({ queue }) {
  if (!manual.has(queue)) manual.set(queue, new Worker(queue, null, { ...base, autorun: false, lockDuration: 60_000 }));
  const job = await manual.get(queue).getNextJob("by hand", { block: false });
  if (job) held.set(job.id, job);
  return plain(job);
}

async function settle({ job, result, error }) {
  const claimed = held.get(job);
  if (error) await claimed.moveToFailed(new Error(error), "by hand", false);
  else await claimed.moveToCompleted(result, "by hand", false);
}

// Events --------------------------------------------------------------------------------------------------------------

async function listen({ queue }) {
  const seen = {};
  const events = new QueueEvents(queue, { ...base, lastEventId: "0" });
  events.on("error", (error) => (seen.error ??= []).push(String(error)));
  for (const event of ["added", "waiting", "active", "delayed", "completed", "failed", "stalled", "paused", "resumed",
                       "drained", "removed", "duplicated", "deduplicated", "waiting-children", "retries-exhausted"]) {
    events.on(event, (args) => (seen[event] ??= []).push(args));
  }
  listeners.set(queue, { events, seen });
  await events.waitUntilReady();
}

async function waitUntilFinished(message) {
  const job = await jobOf(message);
  return { result: (await job.waitUntilFinished(listeners.get(message.queue).events, message.ttl)) ?? null };
}

// The calls -----------------------------------------------------------------------------------------------------------

const plain = (value) => {
  if (Array.isArray(value)) return value.map(plain);
  if (!(value instanceof Job)) return value ?? null;
  const { id, name, data, returnvalue, failedReason, attemptsMade, attemptsStarted, stalledCounter, deduplicationId } = value;
  return { id, name, data, returnvalue, failedReason, attemptsMade, attemptsStarted, stalledCounter, deduplicationId };
};

const calls = {
  queue: async ({ queue, method, args }) => plain(await queueOf(queue)[method](...args)),
  job: async (message) => plain(await (await jobOf(message))[message.method](...message.args)),
  flow: async ({ tree }) => {
    flows ??= new FlowProducer(base);
    const ids = ({ job, children = [] }) => ({ id: job.id, children: children.map(ids) });
    return ids(await flows.add(tree));
  },
  worker: startWorker,
  take,
  settle,
  worker_call: async ({ name, method, args }) => plain(await workers.get(name)[method](...args)),
  listen,
  seen: ({ queue, event, field }) => (listeners.get(queue).seen[event] ?? []).map((args) => (field ? args[field] : args)),
  waitUntilFinished,
};

async function answer(message) {
  try {
    send({ call: message.call, value: (await calls[message.do](message)) ?? null });
  } catch (error) {
    send({ call: message.call, error: String(error?.message ?? error) });
  }
}

for await (const message of received()) answer(message);

// A held job would keep a worker that closes politely.
await Promise.all([...workers.values(), ...manual.values()].map((worker) => worker.close(true)));
await Promise.all([...[...listeners.values()].map(({ events }) => events), ...queues.values(), ...(flows ? [flows] : [])].map((part) => part.close()));
process.exit(0);
