/*
 * The SharedWorker behind RealtimeClient.shared(): one RealtimeClient, and a port to each tab. shared.js has the messages.
 *
 * A room is joined while some tab wants it. What a tab publishes reaches the other tabs as everybody else, in the order
 * of the room: it is published with `echo`, and its echo is handed to all tabs but the one that sent it.
 */
"use strict";

importScripts("client.js");

const TOKEN_SECONDS = 10;

const tabs = new Set();
const asked = new Map(); // open questions for a token: number -> {resolve, reject}
let lastAsk = 0;
let client = null; // while there is a tab
let published = []; // whose echo is still to come: {tab, key, wantsEcho, isTaken}

class Tab {
  rooms = new Map(); // wanted: name -> {members, isKnown}

  constructor(port) {
    this.port = port;
    port.onmessage = ({ data }) => this.receive(data);
  }

  receive({ op, ...message }) {
    if (op === "attach") this.attach(message);
    else if (op === "lock") navigator.locks.request(message.name, () => this.detach());
    else if (op === "call") this.call(message);
    else if (op === "token") answer(message);
    else if (op === "bye") this.detach();
  }

  attach({ url, options, hasToken }) {
    tabs.add(this);
    if (client === null) {
      open(url, { ...options, token: hasToken ? askForToken : null });
      return;
    }
    if (client.state === "closed") client.connect();
    else this.tell("state", {});
    if (client.state === "open") {
      const { id, node, user, limits } = client;
      this.tell("welcome", { id, node, user, limits });
    }
  }

  detach() {
    if (!tabs.delete(this)) return;
    for (const room of [...this.rooms.keys()]) this.leave(room);
    if (tabs.size > 0) return;
    client.close();
    client = null;
    published = [];
  }

  async call({ call, method, args }) {
    try {
      const value = await (this[method] ? this[method](...args) : client[method](...args));
      this.port.postMessage({ op: "result", call, value, snapshot: snapshot(this) });
    } catch (error) {
      this.port.postMessage({ op: "result", call, error: plain(error), snapshot: snapshot(this) });
    }
  }

  async join(room, { members }) {
    const wanted = this.rooms.get(room) ?? { members: false, isKnown: false };
    wanted.members ||= members;
    this.rooms.set(room, wanted);
    try {
      return await client.join(room, { members });
    } catch (error) {
      this.rooms.delete(room);
      throw error;
    }
  }

  async leave(room) {
    const wasIn = this.rooms.delete(room);
    if (wasIn && ![...tabs].some((tab) => tab.rooms.has(room))) await client.leave(room).catch(() => {});
  }

  broadcast(data, options) {
    return this.publish(keyOf("broadcast", null, data), options, (echo) => client.broadcast(data, echo));
  }

  room(room, data, options) {
    return this.publish(keyOf("room", room, data), options, (echo) => client.room(room, data, echo));
  }

  /** With other tabs there it is published with echo, for them. */
  async publish(key, { echo: wantsEcho = false }, publish) {
    const echo = wantsEcho || tabs.size > 1;
    const entry = { tab: this, key, wantsEcho, isTaken: false };
    if (echo) published.push(entry);
    try {
      const reply = await publish({ echo });
      entry.isTaken = true;
      return reply;
    } catch (error) {
      published = published.filter((other) => other !== entry);
      throw error;
    }
  }

  tell(event, detail) {
    this.port.postMessage({ op: "event", event, detail, snapshot: snapshot(this) });
  }
}

const DELIVER = {
  room(detail) {
    const but = senderOf("room", detail);
    for (const tab of tabs) if (tab !== but && tab.rooms.has(detail.room)) tab.tell("room", detail);
  },

  broadcast(detail) {
    const but = senderOf("broadcast", detail);
    for (const tab of tabs) if (tab !== but) tab.tell("broadcast", detail);
  },

  members(detail) {
    for (const tab of tabs) if (tab.rooms.get(detail.room)?.members) tab.tell("members", detail);
  },

  joined(detail) {
    for (const tab of tabs) {
      const wanted = tab.rooms.get(detail.room);
      if (!wanted) continue;
      tab.tell("joined", { ...detail, again: wanted.isKnown });
      wanted.isKnown = true;
    }
  },

  left(detail) {
    for (const tab of tabs) if (tab.rooms.delete(detail.room)) tab.tell("left", detail);
  },

  missed({ rooms, cause }) {
    for (const tab of tabs) {
      const own = rooms?.filter((room) => tab.rooms.has(room)) ?? null;
      if (own === null || own.length > 0) tab.tell("missed", { rooms: own, cause });
    }
  },

  error(error) {
    const rooms = new Set(client.rooms); // a room may be lost: its rejoin was refused
    for (const tab of tabs) {
      for (const [room, { isKnown }] of tab.rooms) if (isKnown && !rooms.has(room)) tab.rooms.delete(room);
      tab.tell("error", plain(error));
    }
  },

  state(detail) {
    // Echoes of what the backplane took do not come any more; what waits to be sent has its echo to come.
    if (detail.state !== "open") published = published.filter(({ isTaken }) => !isTaken);
    if (detail.state === "closed") for (const tab of tabs) tab.rooms.clear();
    for (const tab of tabs) tab.tell("state", detail);
  },
};

function open(url, options) {
  client = new RealtimeClient(url, options);
  for (const event of RealtimeClient.EVENTS) {
    const toAll = (detail) => { for (const tab of tabs) tab.tell(event, detail); };
    client.on(event, DELIVER[event] ?? toAll);
  }
}

/** The tab that published this and wants no echo; null when it came from elsewhere. */
function senderOf(kind, { from, room = null, data }) {
  if (from !== client.id) return null;
  const key = keyOf(kind, room, data);
  const index = published.findIndex((entry) => entry.key === key);
  if (index < 0) return null;
  const [{ tab, wantsEcho }] = published.splice(index, 1);
  return wantsEcho ? null : tab;
}

function keyOf(kind, room, data) {
  return JSON.stringify([kind, room, data]);
}

/** Any tab may answer; one that was closed a moment ago does not. */
function askForToken() {
  const ask = ++lastAsk;
  for (const tab of tabs) tab.port.postMessage({ op: "ask", ask });
  return new Promise((resolve, reject) => {
    asked.set(ask, { resolve, reject });
    setTimeout(() => answer({ ask, error: "No tab had a token in time" }), TOKEN_SECONDS * 1000);
  });
}

function answer({ ask, token, error }) {
  const question = asked.get(ask);
  asked.delete(ask);
  if (error) question?.reject(new Error(error));
  else question?.resolve(token);
}

/** What a tab shows of the connection, and its rooms as [name, members]. */
function snapshot(tab) {
  const rooms = [...tab.rooms].map(([room, { members }]) => [room, members]);
  if (client === null) return { state: "closed", id: null, node: null, user: null, limits: {}, rooms };
  const { state, id, node, user, limits } = client;
  return { state, id, node, user, limits, rooms };
}

function plain({ code = "internal_error", message, retryAfterSeconds = null, wasSent = false }) {
  return { code, message, retryAfterSeconds, wasSent };
}

globalThis.onconnect = ({ ports: [port] }) => { new Tab(port); };
