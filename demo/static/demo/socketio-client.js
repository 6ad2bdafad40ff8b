/*
 * The same client for this page over Socket.IO: what RealtimeClient (../realtime/client.js) offers of which the page
 * makes use, on the official client (socket.io.min.js, as its package has it). The server maps the events of the one to
 * the messages of the other: docs/socketio.md.
 */

const ANSWER_MS = 10_000;
const EVENTS = ["state", "welcome", "joined", "broadcast", "room", "private", "members", "missed", "error"];

class SocketIOClient {
  #socket;
  #listeners = new Map(EVENTS.map((event) => [event, new Set()]));
  #welcome = null;
  #rooms = new Map(); // name -> options of its join
  #wasOpen = false;

  state = "connecting";

  constructor(io) {
    this.#socket = io();
    this.#socket.on("connect", () => this.#open());
    this.#socket.on("disconnect", (reason) => this.#lose(reason));
    this.#socket.on("connect_error", (error) => this.#lose(error.message));
    this.#socket.io.on("reconnect_attempt", () => this.#become("connecting"));
    this.#socket.on("message", (said) => {
      // A mere text says who joined: the list of members says that, too.
      if (typeof said === "object") this.#emit("room", { room: said.room, from: said.user, data: said.message });
    });
    for (const kind of ["broadcast", "private"]) {
      this.#socket.on(kind, ({ user, message }) => this.#emit(kind, { from: user, data: message }));
    }
    this.#socket.on("members", (change) => this.#emit("members", change));
    this.#socket.on("missed", (detail) => this.#emit("missed", { ...detail, cause: "server" }));
    this.#socket.on("error", (detail) => this.#emit("error", errorOf(detail)));
  }

  get id() { return this.#welcome?.id ?? null; }
  get node() { return this.#welcome?.node ?? null; }
  get rooms() { return [...this.#rooms.keys()]; }

  on(event, listener) {
    this.#listeners.get(event).add(listener);
  }

  async join(room, options = {}) {
    this.#rooms.set(room, options);
    if (this.state === "open") await this.#enter(room, options);
  }

  async leave(room) {
    this.#rooms.delete(room);
    await this.#ask("leave", room);
  }

  room(room, data) { return this.#ask("room", room, data); }
  broadcast(data) { return this.#ask("broadcast", data); }
  private(to, data) { return this.#ask("private", to, data); }

  async ping() {
    const start = performance.now();
    await this.#ask("ping");
    return performance.now() - start;
  }

  connect() {
    if (this.#socket.connected) return;
    this.#socket.disconnect().connect(); // at once, whatever it waits for
    this.#become("connecting");
  }

  // --- Small parts ----------------------------------------------------------------------------------------------------

  async #open() {
    this.#welcome = await this.#answer("welcome");
    const isFirst = !this.#wasOpen;
    this.#wasOpen = true;
    this.#become("open");
    this.#emit("welcome", this.#welcome);
    await Promise.allSettled([...this.#rooms].map(([room, options]) => this.#enter(room, options)));
    if (!isFirst) this.#emit("missed", { rooms: null, cause: "reconnected" });
  }

  async #enter(room, options) {
    const reply = await this.#answer("join", room, options);
    if (this.#rooms.has(room)) this.#emit("joined", reply);
  }

  #lose(reason) {
    // The official client waits a second and more by itself, and then tries again.
    if (this.#socket.active) this.#become("waiting", { reason, delaySeconds: 1 });
    else this.#become("closed", { reason });
  }

  #ask(...event) {
    if (this.state !== "open") return Promise.reject(errorOf({ code: "disconnected", message: "There is no connection" }));
    return this.#answer(...event);
  }

  async #answer(...event) {
    let answer;
    try {
      answer = await this.#socket.timeout(ANSWER_MS).emitWithAck(...event);
    } catch {
      throw errorOf({ code: "timeout", message: "No answer came in time; it may still have been done" });
    }
    if (!answer.ok) throw errorOf(answer);
    return answer;
  }

  #become(state, detail = {}) {
    if (state === this.state) return;
    this.state = state;
    this.#emit("state", { state, ...detail });
  }

  #emit(event, detail) {
    for (const listener of this.#listeners.get(event)) listener(detail);
  }
}

function errorOf({ code, message }) {
  return Object.assign(new Error(message), { code });
}

/** The client that the address asks for: `?via=socketio`, or a plain WebSocket. */
export async function makeClient({ url, socketio }) {
  const via = new URLSearchParams(location.search).get("via");
  if (via !== "socketio") return new RealtimeClient(url);
  await new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { src: socketio, onload: resolve, onerror: reject });
    document.head.append(script);
  });
  return new SocketIOClient(globalThis.io);
}

/** Let `select` show the way that is in use, and load the page again for the other one, in the same room. */
export function offerWays(select) {
  select.value = new URLSearchParams(location.search).get("via") === "socketio" ? "socketio" : "websocket";
  select.addEventListener("change", () => {
    const address = new URL(location.href);
    if (select.value === "socketio") address.searchParams.set("via", "socketio");
    else address.searchParams.delete("via");
    location.assign(address);
  });
}
