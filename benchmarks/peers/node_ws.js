// Node's `ws` with Redis pub/sub through `ioredis`: one Redis channel per room that has local members and one for
// private messages; every node sends what it receives to its own clients. Sending is the loop of ws' README
// ("Server broadcast"), with the JSON built once per publication.
//
// Usage: node node_ws.js PORT REDIS_URL
"use strict";

const { randomUUID } = require("node:crypto");
const { WebSocketServer, WebSocket } = require("ws");
const Redis = require("ioredis").default;

const [port, redisUrl] = process.argv.slice(2);
const publisher = new Redis(redisUrl);
const subscriber = new Redis(redisUrl);
const clients = new Map(); // id -> socket
const rooms = new Map(); // name -> Set of sockets

const handlers = {
  async join(socket, { room }) {
    if (!rooms.has(room)) rooms.set(room, new Set());
    rooms.get(room).add(socket);
    socket.rooms.add(room);
    await subscriber.subscribe(`ws:room:${room}`);
    socket.send(JSON.stringify({ type: "joined", room }));
  },
  room(socket, { room, data }) {
    publisher.publish(`ws:room:${room}`, JSON.stringify({ type: "room", room, from: socket.id, data }));
  },
  private(socket, { to, data }) {
    publisher.publish("ws:private", JSON.stringify({ to, message: { type: "private", from: socket.id, data } }));
  },
};

function leave(socket, room) {
  const members = rooms.get(room);
  members.delete(socket);
  if (members.size === 0) {
    rooms.delete(room);
    subscriber.unsubscribe(`ws:room:${room}`);
  }
}

subscriber.on("message", (channel, text) => {
  if (channel === "ws:private") {
    const { to, message } = JSON.parse(text);
    const socket = clients.get(to);
    if (socket) socket.send(JSON.stringify(message));
    return;
  }
  const message = JSON.parse(text);
  for (const socket of rooms.get(message.room) ?? []) {
    if (socket.id !== message.from && socket.readyState === WebSocket.OPEN) socket.send(text);
  }
});

subscriber.subscribe("ws:private").then(() => {
  const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port), backlog: 1024 });
  server.on("connection", (socket) => {
    socket.id = randomUUID();
    socket.rooms = new Set();
    clients.set(socket.id, socket);
    socket.on("message", (text) => {
      const command = JSON.parse(text);
      handlers[command.type]?.(socket, command);
    });
    socket.on("close", () => {
      clients.delete(socket.id);
      for (const room of socket.rooms) leave(socket, room);
    });
    socket.on("error", () => socket.terminate());
    socket.send(JSON.stringify({ type: "welcome", id: socket.id }));
  });
});
