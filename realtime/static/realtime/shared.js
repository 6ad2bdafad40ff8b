/*
 * One connection for all tabs of a browser: RealtimeClient.shared(url, options) instead of new RealtimeClient(…).
 *
 *   <script src="/static/realtime/client.js"></script>
 *   <script src="/static/realtime/shared.js"></script>
 *   const client = RealtimeClient.shared("/ws/");     the interface of RealtimeClient
 *
 * The connection lives in a SharedWorker (shared-worker.js, beside this file); each tab talks to it over a port. Where a
 * browser has no SharedWorker the tab gets a RealtimeClient of its own. docs/client.md says what is shared by that.
 *
 * To the worker: {op: "attach", url, options, hasToken}, {op: "lock", name}, {op: "call", call, method, args},
 *                {op: "token", ask, token | error}, {op: "bye"}
 * From it:       {op: "event", event, detail, snapshot}, {op: "result", call, value | error, snapshot}, {op: "ask", ask}
 */
(() => {
  "use strict";

  const { RealtimeClient } = globalThis;
  const { EVENTS, RealtimeError } = RealtimeClient;
  const script = globalThis.document?.currentScript?.src;

  class SharedClient {
    #name; // of the worker: tabs with the same address and options share one
    #attachment; // what this tab says when it comes
    #token; // as in the options; stays here, since a function cannot go to a worker
    #listeners = new Map(EVENTS.map((event) => [event, new Set()]));
    #snapshot = { state: "connecting", id: null, node: null, user: null, limits: {}, rooms: [] };
    #kept = []; // rooms of a page that the browser keeps while it is not shown: [name, members]
    #calls = new Map(); // unanswered: number -> {resolve, reject, room}
    #lastCall = 0;
    #port = null; // null while the page is hidden for good, or closed
    #worker;
    #release = () => {}; // lets go of the lock that tells the worker that this tab lives

    constructor(url, { token = null, workerUrl, ...options }) {
      this.#token = token;
      this.#worker = workerUrl;
      this.#attachment = { op: "attach", url, options, hasToken: token !== null };
      this.#name = `realtime ${JSON.stringify([url, options, token !== null])}`;
      globalThis.addEventListener("pagehide", () => this.#leavePage());
      globalThis.addEventListener("pageshow", ({ persisted }) => persisted && this.#comeBack());
      this.#attach();
    }

    get state() { return this.#snapshot.state; }
    get id() { return this.#snapshot.id; }
    get node() { return this.#snapshot.node; }
    get user() { return this.#snapshot.user; }
    get limits() { return this.#snapshot.limits; }

    get rooms() {
      const joining = [...this.#calls.values()].flatMap(({ room }) => room ?? []);
      return [...new Set([...this.#snapshot.rooms.map(([room]) => room), ...joining])];
    }

    on(event, listener) {
      this.#listenersOf(event).add(listener);
      return () => this.off(event, listener);
    }

    off(event, listener) {
      this.#listenersOf(event).delete(listener);
    }

    join(room, { members = false } = {}) {
      return this.#call("join", [room, { members }], room);
    }

    leave(room) {
      const left = new RealtimeError("left", "The room was left before it was joined");
      for (const [number, call] of this.#calls) {
        if (call.room !== room) continue;
        this.#calls.delete(number);
        call.reject(left);
      }
      this.#snapshot.rooms = this.#snapshot.rooms.filter(([name]) => name !== room);
      return this.#call("leave", [room]);
    }

    broadcast(data, options = {}) { return this.#call("broadcast", [data, options]); }
    room(room, data, options = {}) { return this.#call("room", [room, data, options]); }
    private(to, data) { return this.#call("private", [to, data]); }
    authenticate(token) { return this.#call("authenticate", [token]); }
    command(type, fields = {}) { return this.#call("command", [type, fields]); }
    ping() { return this.#call("ping", []); }

    connect() {
      if (this.#port === null) this.#attach();
      else this.#port.postMessage({ op: "call", call: 0, method: "connect", args: [] });
    }

    /** This tab is done; the connection ends with its last tab. */
    close() {
      this.#detach();
      this.#become({ ...this.#snapshot, state: "closed", rooms: [] }, { code: 1000, reason: "" });
    }

    #attach() {
      this.#port = new SharedWorker(this.#worker, this.#name).port;
      this.#port.onmessage = ({ data }) => this.#receive(data);
      this.#port.postMessage(this.#attachment);
      this.#holdLock(this.#port);
    }

    #detach() {
      this.#port?.postMessage({ op: "bye" });
      this.#port?.close();
      this.#port = null;
      this.#release();
      const closed = new RealtimeError("closed", "The client is closed");
      for (const { reject } of this.#calls.values()) reject(closed);
      this.#calls.clear();
    }

    #leavePage() {
      this.#kept = this.#port === null ? [] : this.#snapshot.rooms;
      this.#detach();
    }

    /** The page was kept by the browser, is shown again, and has missed what came meanwhile. */
    async #comeBack() {
      if (this.state === "closed") return;
      this.#attach();
      const joins = this.#kept.map(([room, members]) => this.join(room, { members }));
      for (const { reason } of await Promise.allSettled(joins)) if (reason) this.#emit("error", reason);
      this.#emit("missed", { rooms: null, cause: "reconnected" });
    }

    /** A lock that the worker waits for: it gets it when this tab is gone, however it went. */
    #holdLock(port) {
      const name = `realtime tab ${Math.random()} ${Date.now()}`;
      globalThis.navigator.locks?.request(name, () => {
        port.postMessage({ op: "lock", name });
        return new Promise((resolve) => { this.#release = resolve; });
      });
    }

    #call(method, args, room = null) {
      if (this.#port === null) return Promise.reject(new RealtimeError("closed", "The client is closed"));
      const call = ++this.#lastCall;
      return new Promise((resolve, reject) => {
        this.#port.postMessage({ op: "call", call, method, args });
        this.#calls.set(call, { resolve, reject, room });
      });
    }

    #receive({ op, ...message }) {
      if (op === "ask") this.#tellToken(message.ask);
      else if (op === "result") this.#settle(message);
      else if (message.event === "state") this.#become(message.snapshot, message.detail);
      else {
        this.#snapshot = message.snapshot;
        this.#emit(message.event, message.event === "error" ? revive(message.detail) : message.detail);
      }
    }

    #settle({ call, value, error, snapshot }) {
      this.#snapshot = snapshot;
      const waiting = this.#calls.get(call);
      this.#calls.delete(call);
      if (error) waiting?.reject(revive(error));
      else waiting?.resolve(value);
    }

    async #tellToken(ask) {
      const port = this.#port;
      try {
        const token = typeof this.#token === "function" ? await this.#token() : this.#token;
        port.postMessage({ op: "token", ask, token });
      } catch (error) {
        port.postMessage({ op: "token", ask, error: String(error) });
      }
    }

    #become(snapshot, detail) {
      this.#snapshot = snapshot;
      this.#emit("state", { ...detail, state: snapshot.state });
    }

    #listenersOf(event) {
      const listeners = this.#listeners.get(event);
      if (!listeners) throw new TypeError(`RealtimeClient has no event "${event}"; it has ${EVENTS.join(", ")}`);
      return listeners;
    }

    #emit(event, detail) {
      for (const listener of [...this.#listeners.get(event)]) {
        try {
          listener(detail);
        } catch (error) {
          (globalThis.reportError ?? console.error)(error);
        }
      }
    }
  }

  function revive({ code, message, retryAfterSeconds, wasSent }) {
    return new RealtimeError(code, message, { retryAfterSeconds, wasSent });
  }

  /** The connection that all tabs of this browser share, as a client for this tab. */
  RealtimeClient.shared = (url = "/ws/", options = {}) => {
    const { workerUrl = script && new URL("shared-worker.js", script).href, ...others } = options;
    const canShare = typeof globalThis.SharedWorker === "function" && workerUrl && !others.WebSocket;
    if (!canShare) return new RealtimeClient(url, others);
    return new SharedClient(new URL(url, globalThis.location.href).href, { ...others, workerUrl });
  };
})();
