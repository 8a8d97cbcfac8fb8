// Reads a daemon with the client of the Jolokia project; prints what it got.
import Jolokia from "jolokia.js";

const [url, token] = process.argv.slice(2);
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const client = new Jolokia({ url, headers });
const flow = "ringmain:type=Flow,name=plant";
const read = (attribute, path) => ({ type: "read", mbean: flow, attribute, path });

const value = (answer) => answer.value;
const asked = {
  version: await client.request({ type: "version" }).then(value),
  // By GET, with the escaping of paths.
  get: await client
    .request({ type: "read", mbean: flow, attribute: "MessagesIn" }, { method: "get" })
    .then(value),
  post: await client.request(read("MessagesIn"), { method: "post" }).then(value),
  several: await client.request(read(["Status", "MessagesOut"]), { method: "post" }).then(value),
  path: await client
    .request({ type: "read", mbean: "java.lang:type=Memory", attribute: "HeapMemoryUsage", path: "max" })
    .then(value),
  pattern: await client
    .request({ type: "read", mbean: "ringmain:type=Component,*", attribute: "MessagesIn" })
    .then(value),
  search: await client.request({ type: "search", mbean: "ringmain:type=Flow,*" }).then(value),
  list: await client.request({ type: "list", path: "java.lang/type=Memory" }).then(value),
  shallow: await client.request({ type: "list" }, { maxDepth: 1, method: "post" }).then(value),
  // In bulk, one of them refused.
  bulk: await client.request([read("Status"), read("Nope"), { type: "version" }]),
  // A list of attributes of which one is not there.
  ignored: await client
    .request(read(["Status", "Nope"]), { method: "post", ignoreErrors: true })
    .then(value),
  stop: await client.request({ type: "exec", mbean: flow, operation: "stop" }),
  stopped: await client.request(read("Status")).then(value),
  start: await client.request({ type: "exec", mbean: flow, operation: "start()" }),
};
console.log(JSON.stringify(asked));
