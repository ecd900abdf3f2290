// Talk to the test in lines of JSON: one object a line, in by stdin, out by stdout.

import { createInterface } from "node:readline";

export const send = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

// What the test sends, until it closes our input.
export async function* received() {
  for await (const line of createInterface({ input: process.stdin })) {
    yield JSON.parse(line);
  }
}
