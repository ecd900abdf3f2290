// BullMQ with a telemetry of our own: W3C contexts as bullmq-otel writes them, and each span is a line out when it ends.
//   argv  redis URL, key prefix, queue
//   in    {add: name, within: {trace, span}}   a job, added within a span of that trace
//         {bulk: [name, …]}                    several
//         {work: true}                         a worker begins; a job named "again" adds one named "inner"
//   out   {done: …} for each, with the ids of the jobs; {span: {name, kind, trace, span, parent, job}}

import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { Queue, Worker } from "bullmq";
import { received, send } from "./lines.mjs";

const IORedis = createRequire(import.meta.url)("ioredis");
const [url, prefix, name] = process.argv.slice(2);
const connection = new IORedis(url, { maxRetriesPerRequest: null });

const active = new AsyncLocalStorage();
const hex = (bytes) => randomBytes(bytes).toString("hex");

class Span {
  constructor(name, kind, parent) {
    this.told = { name, kind, trace: parent?.trace ?? hex(16), span: hex(8), parent: parent?.span ?? null };
  }
  setSpanOnContext() {
    return { trace: this.told.trace, span: this.told.span };
  }
  setAttribute(key, value) {
    if (key === "bullmq.job.name") this.told.job = value;
  }
  setAttributes(attributes) {
    for (const [key, value] of Object.entries(attributes)) this.setAttribute(key, value);
  }
  addEvent() {}
  recordException() {}
  end() {
    send({ span: this.told });
  }
}

const telemetry = {
  tracer: { startSpan: (name, options, context) => new Span(name, options?.kind, context ?? active.getStore()) },
  contextManager: {
    with: (context, work) => active.run(context, work),
    active: () => active.getStore(),
    root: () => undefined,
    getMetadata: (context) => JSON.stringify({ traceparent: `00-${context.trace}-${context.span}-01` }),
    fromMetadata: (_, metadata) => {
      const [, trace, span] = JSON.parse(metadata).traceparent.split("-");
      return { trace, span };
    },
  },
};

const base = { connection, prefix, telemetry };
const queue = new Queue(name, base);
let worker;

const calls = {
  add: ({ add, within }) => active.run(within, async () => (await queue.add(add, {})).id),
  bulk: async ({ bulk }) => (await queue.addBulk(bulk.map((name) => ({ name, data: {} })))).map((job) => job.id),
  work: async () => {
    worker = new Worker(name, async (job) => (job.name === "again" ? (await queue.add("inner", {})).id : null), base);
    await worker.waitUntilReady();
    return true;
  },
};

for await (const message of received()) send({ done: await calls[Object.keys(message)[0]](message) });

await worker?.close();
await queue.close();
connection.disconnect();
