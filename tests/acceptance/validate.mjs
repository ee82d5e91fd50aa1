// Judge the published documents by other people's validators: ajv, and AsyncAPI's own meta-schema.
//
// node validate.mjs SCHEMAS_FOLDER; prints what is wrong as JSON, [] if nothing is.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const Ajv = require("ajv").default;
const Ajv2020 = require("ajv/dist/2020").default;
const addFormats = require("ajv-formats").default;
const folder = process.argv[2];
const read = (path) => JSON.parse(readFileSync(`${folder}/${path}`, "utf8"));
const faults = [];

function judge(what, validate, value) {
  if (!validate(value)) faults.push({ what, errors: validate.errors.slice(0, 3) });
}

// Each topic's schema, its example, and examples that must not pass.
for (const file of readdirSync(`${folder}/events`)) {
  const schema = read(`events/${file}`);
  const ajv = new Ajv2020({ strict: "log", strictTypes: false, strictRequired: false });
  addFormats(ajv);
  if (!ajv.validateSchema(schema)) faults.push({ what: file, errors: ajv.errors });
  const validate = ajv.compile(schema);
  const [example] = schema.examples;
  judge(`${file} example`, validate, example);
  judge(`${file} with more`, validate, { ...example, more: 1, data: { ...example.data, more: 1 } });
  judge(`${file} thin`, validate, { ...example, truncated: true, data: {} });
  const wrong = {
    "without data": { ...example, data: {} },
    "of another type": { ...example, type: "billing.other" },
    "of another version": { ...example, schema_version: 99 },
    "with a float for text": {
      ...example, data: { ...example.data, [Object.keys(example.data)[0]]: 1.5 },
    },
  };
  for (const [how, value] of Object.entries(wrong))
    if (validate(value)) faults.push({ what: `${file} ${how} passes` });
}

// The document, by the meta-schema that AsyncAPI publishes, and its payloads by themselves.
const asyncapi = read("asyncapi.json");
const meta = require("@asyncapi/specs/schemas/3.0.0-without-$id.json");
const ajv = new Ajv({ strict: false, validateFormats: false });
const validate = ajv.compile(meta);
judge("asyncapi.json", validate, asyncapi);
for (const broken of [{ ...asyncapi, channels: [] }, { ...asyncapi, info: {} }])
  if (validate(broken)) faults.push({ what: "a broken asyncapi.json passes" });
for (const [topic, message] of Object.entries(asyncapi.components.messages)) {
  const draft7 = new Ajv({ strict: false });
  addFormats(draft7);
  for (const { payload } of message.examples)
    judge(`asyncapi.json ${topic}`, draft7.compile(message.payload), payload);
}
console.log(JSON.stringify(faults));
