// Send usage events from Node: Celery's message protocol, version 2, as plain JSON and LPUSH.
//
// npm install redis && BROKER_URL=redis://127.0.0.1:6379/0 node examples/node/produce.mjs
import { randomUUID } from "node:crypto";
import { createClient } from "redis";

const redis = createClient({ url: process.env.BROKER_URL });
await redis.connect();

const taskId = randomUUID();
const events = Array.from({ length: 10 }, (_, number) => ({
  tenant_id: "acme",
  metric: "input_tokens",
  amount: String(100 + number), // a decimal as text: no float ever touches a bill
  at: new Date().toISOString(),
  idempotency_key: `node-${taskId}-${number}`, // the same key is the same event
}));
const body = [[], { events }, { callbacks: null, errbacks: null, chain: null, chord: null }];
const message = {
  body: Buffer.from(JSON.stringify(body)).toString("base64"),
  "content-type": "application/json",
  "content-encoding": "utf-8",
  headers: { lang: "js", task: "billing.record_usage", id: taskId, root_id: taskId },
  properties: {
    correlation_id: taskId,
    delivery_info: { exchange: "", routing_key: "usage" },
    delivery_mode: 2,
    delivery_tag: randomUUID(),
    body_encoding: "base64",
  },
};
await redis.lPush("usage", JSON.stringify(message));

// Keep the events until the answer is there, and send them again otherwise.
let answer = null;
for (let tries = 0; tries < 300 && answer === null; tries += 1) {
  const stored = JSON.parse((await redis.get(`celery-task-meta-${taskId}`)) ?? "{}");
  if (stored.status === "SUCCESS" || stored.status === "FAILURE") answer = stored;
  else await new Promise((resolve) => setTimeout(resolve, 100));
}
redis.destroy();
if (answer?.status !== "SUCCESS") {
  console.error("no answer after 30 s: send the same events again", answer?.result);
  process.exit(1);
}
console.log(answer.result.accepted, "accepted,", answer.result.duplicate, "duplicate");
