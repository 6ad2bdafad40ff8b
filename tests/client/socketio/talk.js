// The official Socket.IO client, moved by lines of JSON on stdin, telling what happens by lines on stdout.
//
// Usage: node talk.js URL OPTIONS
//   ["emit", event, ...arguments]         ["ask", number, event, ...arguments]
// Bytes are written {"$hex": "0102"}, both ways.
"use strict";

const readline = require("node:readline");
const { io } = require("socket.io-client");

const [url, options] = process.argv.slice(2);
const socket = io(url, { reconnectionDelay: 100, reconnectionDelayMax: 300, ...JSON.parse(options) });

function tell(fields) {
  process.stdout.write(`${JSON.stringify(fields, (key, value) => (value?.type === "Buffer" ? { $hex: Buffer.from(value.data).toString("hex") } : value))}\n`);
}

function revived(value) {
  if (Array.isArray(value)) return value.map(revived);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.$hex === "string") return Buffer.from(value.$hex, "hex");
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, revived(each)]));
}

socket.on("connect", () => {
  const { engine } = socket.io;
  tell({ connect: socket.id, transport: engine.transport.name });
  engine.once("upgrade", () => tell({ upgrade: engine.transport.name }));
});
socket.on("connect_error", (error) => tell({ connect_error: error.message, data: error.data ?? null }));
socket.on("disconnect", (reason) => tell({ disconnect: reason }));
socket.onAny((event, ...args) => tell({ event, args }));

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [verb, ...rest] = revived(JSON.parse(line));
  if (verb === "emit") {
    socket.emit(...rest);
  } else {
    const [number, event, ...args] = rest;
    socket.timeout(20000).emit(event, ...args, (error, ...answer) => tell({ ack: number, error: error?.message ?? null, args: answer }));
  }
}).on("close", () => process.exit(0));
