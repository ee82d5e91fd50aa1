// Receive billing webhooks: verify, answer fast, work later, once per id.
//
// npm install standardwebhooks && WEBHOOK_SECRET=whsec_… node examples/receiver/receiver.mjs [PORT]
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.WEBHOOK_SECRET);
const seen = new Set(); // in production a table with a unique key

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  let event;
  try {
    // The raw text is what was signed: verify it before parsing.
    event = webhook.verify(Buffer.concat(chunks).toString("utf8"), request.headers);
  } catch {
    response.writeHead(401).end();
    return;
  }
  response.writeHead(204).end(); // within 15 s, or it is sent again
  if (seen.has(event.id)) return; // a retry or a replay of what was handled before
  seen.add(event.id);
  console.log(event.type, JSON.stringify(event.data));
});
server.listen(Number(process.argv[2] ?? 8099), "127.0.0.1", () =>
  console.log(`listening on http://127.0.0.1:${server.address().port}`));
