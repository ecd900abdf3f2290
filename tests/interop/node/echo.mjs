// Sends back what it gets, after a first line that says which Node and BullMQ this is.

import { createRequire } from "node:module";
import { Queue } from "bullmq";
import { received, send } from "./lines.mjs";

const { version } = createRequire(import.meta.url)("bullmq/package.json");
send({ node: process.versions.node, bullmq: version, queue: typeof Queue, argv: process.argv.slice(2) });

for await (const message of received()) {
  if (message.fail) throw new Error(message.fail);
  if (!message.ignore) send(message);
}
