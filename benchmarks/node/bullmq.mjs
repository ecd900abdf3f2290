// BullMQ on Node as a benchmark peer: the same actions and the same lines on stdout as peers/program.py.
//
//   node bullmq.mjs ACTION --url URL [--jobs N] [--concurrency C] [--chunk K] [--gap MS] [--queues Q] [--seconds S]

import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Queue, Worker } from "bullmq";

const QUEUE = "bench";
const JOB = "noop";
const PAYLOAD = { i: 1, user: "u1" };
const JOB_OPTIONS = { attempts: 3, removeOnComplete: { count: 1000 } };

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string" },
    jobs: { type: "string", default: "20000" },
    concurrency: { type: "string", default: "100" },
    chunk: { type: "string", default: "1000" },
    gap: { type: "string", default: "20" },
    queues: { type: "string", default: "1" },
    seconds: { type: "string", default: "20" },
  },
});
const number = (name) => Number(values[name]);
const { hostname: host, port } = new URL(values.url);
const connection = { host, port: Number(port) };

const orders = createInterface({ input: process.stdin });
const report = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");
const wallMs = () => performance.timeOrigin + performance.now();

async function measured(work) {
  report("ready");
  await once(orders, "line");
  const cpu = process.cpuUsage();
  const start = performance.now();
  const fields = await work();
  const used = process.cpuUsage(cpu);
  const seconds = fields?.seconds ?? (performance.now() - start) / 1000;
  report("done", { ...fields, seconds, cpu_seconds: (used.user + used.system) / 1e6 });
}

async function withQueue(use) {
  const queue = new Queue(QUEUE, { connection, defaultJobOptions: JOB_OPTIONS });
  await queue.waitUntilReady();
  await use(queue);
  await queue.close();
}

async function withWorkers(names, handler, use) {
  const concurrency = number("concurrency");
  const workers = names.map((name) => new Worker(name, handler, { connection, concurrency, autorun: false }));
  await Promise.all(workers.map((worker) => worker.waitUntilReady()));
  await use(workers);
  await once(orders, "close");
}

async function addInChunks(queue) {
  const chunk = Array.from({ length: number("chunk") }, () => ({ name: JOB, data: PAYLOAD }));
  for (let left = number("jobs"); left > 0; left -= chunk.length) {
    await queue.addBulk(left < chunk.length ? chunk.slice(0, left) : chunk);
  }
}

const actions = {
  async fill() {
    await withQueue((queue) => measured(() => addInChunks(queue)));
  },

  async add_many() {
    await withQueue(async (queue) => {
      await queue.add(JOB, PAYLOAD);
      await measured(() => addInChunks(queue));
    });
  },

  async add_concurrent() {
    const width = number("chunk");
    await withQueue(async (queue) => {
      await queue.add(JOB, PAYLOAD);
      await measured(async () => {
        for (let left = number("jobs"); left > 0; left -= width) {
          await Promise.all(Array.from({ length: Math.min(left, width) }, () => queue.add(JOB, PAYLOAD)));
        }
      });
    });
  },

  async add_one() {
    await withQueue(async (queue) => {
      await queue.add(JOB, PAYLOAD);
      await measured(async () => {
        const delays = [];
        for (let left = number("jobs"); left > 0; left -= 1) {
          const start = performance.now();
          await queue.add(JOB, PAYLOAD);
          delays.push(Number(((performance.now() - start) / 1000).toFixed(6))); // a report of one line must fit the pipe
        }
        return { delays };
      });
    });
  },

  async pace() {
    await withQueue((queue) =>
      measured(async () => {
        for (let left = number("jobs"); left > 0; left -= 1) {
          await sleep(number("gap") * (0.75 + Math.random() / 2));
          await queue.add(JOB, { ...PAYLOAD, at: wallMs() / 1000 });
        }
      }),
    );
  },

  async drain() {
    await withWorkers([QUEUE], async () => {}, ([worker]) =>
      measured(
        () =>
          new Promise((resolve) => {
            let left = number("jobs");
            worker.on("completed", () => {
              left -= 1;
              if (left === 0) resolve();
            });
            worker.run();
          }),
      ),
    );
  },

  async listen() {
    const delays = [];
    let heard;
    const all = new Promise((resolve) => (heard = resolve));
    const handler = async (job) => {
      delays.push(wallMs() / 1000 - job.data.at);
      if (delays.length === number("jobs")) heard();
    };
    await withWorkers([QUEUE], handler, ([worker]) => {
      worker.run();
      return measured(async () => {
        await all;
        return { delays };
      });
    });
  },

  async idle() {
    const names = Array.from({ length: number("queues") }, (_, i) => `${QUEUE}-${i}`);
    await withWorkers(names, async () => {}, async (workers) => {
      for (const worker of workers) worker.run();
      await sleep(2000);
      await measured(() => sleep(number("seconds") * 1000));
    });
  },
};

await actions[positionals[0]]();
process.exit(0);
