// client.js in Node.js, moved by lines of JSON on stdin: [number, body of an async function]; each is answered by a
// line, {number, value} or {number, error}. The functions share what they put into globalThis.
import { createInterface } from "node:readline";
import WebSocket from "ws";
import { RealtimeClient, RealtimeError } from "../../../realtime/static/realtime/client.mjs";

Object.assign(globalThis, { TestWebSocket: WebSocket, RealtimeClient, RealtimeError });
await import("../live.js");

const AsyncFunction = (async () => {}).constructor;

createInterface({ input: process.stdin }).on("line", async (line) => {
  const [number, body] = JSON.parse(line);
  let answer;
  try {
    answer = { number, value: (await inTime(new AsyncFunction(body))) ?? null };
  } catch (error) {
    answer = { number, error: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}).on("close", () => process.exit(0));
