/*
 * What tests of client.js stand on, inside a browser page: time that the test moves, chance that it sets, and the
 * other end of the WebSocket. client.js itself is the real one.
 *
 *   const client = connect();             a RealtimeClient on a Peer
 *   await open();                         the last peer accepts and says welcome
 *   peer().answer("join", {type: "joined", room: "a"})
 *   await advance(5);                     five seconds pass
 */
(() => {
  const real = { setTimeout, MessageChannel };
  let nowMs = 0;
  let lastTimer = 0;
  const timers = new Map(); // id -> {at, action}

  globalThis.setTimeout = (action, ms = 0) => {
    timers.set(++lastTimer, { at: nowMs + ms, action });
    return lastTimer;
  };
  globalThis.clearTimeout = (id) => timers.delete(id);
  performance.now = () => nowMs;

  globalThis.chance = 0.5; // what Math.random() gives
  Math.random = () => globalThis.chance;

  /** Let every promise that can settle do so. */
  globalThis.settle = async () => {
    for (let turn = 0; turn < 3; turn += 1) {
      await new Promise((resolve) => {
        const channel = new real.MessageChannel();
        channel.port1.onmessage = resolve;
        channel.port2.postMessage(null);
      });
    }
  };

  /** Let that many seconds pass; timers run in their order. */
  globalThis.advance = async (seconds) => {
    const end = nowMs + seconds * 1000;
    for (;;) {
      await settle();
      const [id, next] = [...timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [null, { at: Infinity }];
      if (next.at > end) break;
      timers.delete(id);
      nowMs = next.at;
      next.action();
    }
    nowMs = end;
    await settle();
  };

  /** The server's end of one WebSocket. */
  class Peer {
    static all = [];

    constructor(url, protocols = []) {
      this.url = url;
      this.protocols = protocols;
      this.received = [];
      this.closedWith = null; // the code with which the client closed
      Peer.all.push(this);
    }

    // What client.js calls.
    send(text) { this.received.push(JSON.parse(text)); }
    close(code = 1005) { this.closedWith ??= code; }

    // What a test lets the server do.
    say(message) { this.onmessage({ data: JSON.stringify(message) }); }
    end(code, reason = "") { this.onclose({ code, reason }); }
    commands(type) { return this.received.filter((message) => message.type === type); }
    answer(type, reply) { this.say({ ...reply, ref: this.commands(type).at(-1).ref }); }
    welcome(more = {}) {
      const limits = { message_max_bytes: 1048576, command_max_bytes: 1048576, rooms_max: 128 };
      this.say({ type: "welcome", id: `c${Peer.all.length}`, node: `n${Peer.all.length}`, user: null, limits, ...more });
    }
  }

  globalThis.Peer = Peer;
  globalThis.peer = () => Peer.all.at(-1);
  globalThis.seen = []; // every event of the client, as [event, detail]

  globalThis.connect = (options = {}, url = "/ws/") => {
    const client = new RealtimeClient(url, { WebSocket: Peer, ...options });
    for (const event of RealtimeClient.EVENTS) {
      client.on(event, (detail) => seen.push([event, detail]));
    }
    return client;
  };

  globalThis.events = (wanted) => seen.filter(([event]) => event === wanted).map(([, detail]) => detail);

  globalThis.open = async (welcome = {}) => {
    await settle();
    peer().welcome(welcome);
    await settle();
  };

  /** How a promise stands: "pending", ["resolved", value] or ["rejected", code, retryAfterSeconds]. */
  globalThis.outcome = async (promise) => {
    await settle();
    const settled = promise.then((value) => ["resolved", value], (error) => ["rejected", error.code, error.retryAfterSeconds]);
    return Promise.race([settled, settle().then(() => "pending")]);
  };
})();
