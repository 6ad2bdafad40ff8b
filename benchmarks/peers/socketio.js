// Socket.IO with its Redis adapter, as its documentation shows them (socket.io/docs/v4/redis-adapter, with ioredis).
//
// Usage: node socketio.js PORT REDIS_URL
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const Redis = require("ioredis").default;

const [port, redisUrl] = process.argv.slice(2);
const publisher = new Redis(redisUrl);
const subscriber = publisher.duplicate();
const http = createServer();
const io = new Server(http, { adapter: createAdapter(publisher, subscriber) });

io.on("connection", (socket) => {
  socket.on("join", async (room) => {
    await socket.join(room);
    socket.emit("joined", room);
  });
  socket.on("room", (room, data) => {
    socket.to(room).emit("room", { room, from: socket.id, data });
  });
  socket.on("private", (to, data) => {
    socket.to(to).emit("private", { from: socket.id, data });
  });
});

http.listen({ host: "127.0.0.1", port: Number(port), backlog: 1024 });
