// Receive billing webhooks: verify, answer fast, work later, once per id.
//
// WEBHOOK_SECRET=whsec_… node examples/receiver/receiver.mjs [PORT]
//
// Needs Node alone; the package standardwebhooks verifies if it is there (npm install
// standardwebhooks). While a secret is being rotated give both, with a space between them.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const standard = await import("standardwebhooks").catch(() => null);
const secrets = process.env.WEBHOOK_SECRET.split(" ");
const LARGEST = 1_000_000; // bytes; events are smaller than 256 KiB
const TOLERANCE = 300; // seconds: an older request may be somebody's who has listened
const seen = new Set(); // in production a table with a unique key, written before the answer

// Whether the holder of the secret sent this, a moment ago.
function isGenuine(secret, body, headers) {
  if (standard) {
    try {
      new standard.Webhook(secret).verify(body, headers);
      return true;
    } catch {
      return false;
    }
  }
  const sentAt = headers["webhook-timestamp"] ?? "";
  if (!/^\d+$/.test(sentAt) || Math.abs(Date.now() / 1000 - sentAt) > TOLERANCE) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const signed = createHmac("sha256", key).update(`${headers["webhook-id"]}.${sentAt}.`);
  const expected = Buffer.from(`v1,${signed.update(body).digest("base64")}`);
  return (headers["webhook-signature"] ?? "").split(" ").map((one) => Buffer.from(one))
    .some((one) => one.length === expected.length && timingSafeEqual(one, expected));
}

const server = createServer(async (request, response) => {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > LARGEST) {
      response.writeHead(413, { connection: "close" }).end();
      return;
    }
    chunks.push(chunk);
  }
  // The raw bytes are what was signed: verify them before parsing.
  const body = Buffer.concat(chunks);
  if (!secrets.some((secret) => isGenuine(secret, body, request.headers))) {
    response.writeHead(401).end();
    return;
  }
  const event = JSON.parse(body);
  const isNew = !seen.has(event.id); // or a retry, or a replay of what was handled before
  seen.add(event.id);
  response.writeHead(204).end(); // within 15 s, or it is sent again
  if (isNew) setImmediate(() => console.log(event.type, JSON.stringify(event.data))); // the work
});
server.listen(Number(process.argv[2] ?? 8099), "127.0.0.1", () =>
  console.log(`listening on http://127.0.0.1:${server.address().port}`));
