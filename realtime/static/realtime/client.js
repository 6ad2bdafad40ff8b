/*
 * RealtimeClient: a connection to the cluster that keeps itself alive. No dependencies, no build step.
 *
 *   <script src="/static/realtime/client.js"></script>           gives window.RealtimeClient
 *   import { RealtimeClient } from "/static/realtime/client.mjs"  for modules (the same code)
 *
 *   const client = new RealtimeClient("/ws/");
 *   client.on("room", ({ room, from, data }) => show(data));
 *   client.on("missed", () => reloadFromServer());
 *   await client.join("lobby");
 *   await client.room("lobby", { text: "Hello" });
 *
 * It reconnects with exponential backoff and full jitter, does what each close code asks for, joins its rooms again,
 * pings before the server's idle timeout, notices a peer that no longer answers, and says when messages may have been
 * missed. The whole interface is described in docs/client.md; the wire protocol in docs/protocol.md.
 *
 * It is one file of more than 400 lines so that a page can take it with one <script> and nothing else.
 */
(() => {
  "use strict";

  const EVENTS = ["state", "welcome", "joined", "left", "broadcast", "room", "private", "members", "missed", "error"];
  const PUSHES = new Set(["broadcast", "room", "private", "members"]);

  /** What a client does when the server ends the connection; the first row that fits wins. */
  const CLOSE_CODES = [
    { code: 1001, reason: "Server overloaded", reconnect: true, waitSeconds: 5, spreadSeconds: 5 },
    { code: 1001, reason: "Connection timeout", reconnect: true, waitSeconds: 0, spreadSeconds: 0 },
    { code: 1008, reason: null, reconnect: true, waitSeconds: 20, spreadSeconds: 20 },
    { code: 1009, reason: null, reconnect: true, waitSeconds: 1, spreadSeconds: 0 },
    { code: 1011, reason: null, reconnect: true, waitSeconds: 1, spreadSeconds: 0 },
    { code: 1012, reason: null, reconnect: true, waitSeconds: 0, spreadSeconds: 2 },
    { code: 1013, reason: null, reconnect: true, waitSeconds: 5, spreadSeconds: 10 },
    { code: 4001, reason: null, reconnect: false, waitSeconds: 0, spreadSeconds: 0 },
    { code: 4003, reason: null, reconnect: false, waitSeconds: 0, spreadSeconds: 0 },
    { code: 4008, reason: null, reconnect: true, waitSeconds: 1, spreadSeconds: 0 },
  ];
  const ANY_OTHER_CODE = { reconnect: true, waitSeconds: 0, spreadSeconds: 0 };

  /** Error codes after which the same join may succeed a moment later. */
  const TEMPORARY = new Set(["unavailable", "rate_limited", "internal_error", "timeout"]);
  const JOIN_RETRY_SECONDS = { least: 1, spread: 4 };

  const DEFAULTS = {
    token: null, // a text, or a function that returns one (or a promise of one) before each connection
    backoffMinSeconds: 0.5, // ceiling of the first wait; doubles with each failure
    backoffMaxSeconds: 20, // highest ceiling
    stableSeconds: 10, // a connection that lasted this long starts the backoff anew
    connectTimeoutSeconds: 10, // from opening the socket to the welcome
    commandTimeoutSeconds: 10, // from a command to its answer
    pingSeconds: 25, // at most; half of the server's idle timeout if that is shorter
    pongTimeoutSeconds: 10, // a peer silent for so long after a ping is dead
    WebSocket: undefined, // the WebSocket class; the platform's own by default
  };

  /** Why a command failed: `code` is the server's, or "disconnected", "timeout", "left", "removed", "closed". */
  class RealtimeError extends Error {
    constructor(code, message, retryAfterSeconds = null) {
      super(message);
      this.name = "RealtimeError";
      this.code = code;
      this.retryAfterSeconds = retryAfterSeconds;
    }
  }

  class RealtimeClient {
    #url;
    #options;
    #listeners = new Map(EVENTS.map((event) => [event, new Set()]));
    #state = "closed";
    #socket = null; // the current one; events of any other socket are ignored
    #welcome = null; // the last welcome; null before the first
    #rooms = new Map(); // wanted rooms: name -> {members, isKnown, isLate, waiters, timer}
    #commands = new Map(); // unanswered: ref -> {resolve, reject, timer}
    #lastRef = 0;
    #wasOpen = false; // once true, a gap between two connections may be a loss
    #failures = 0; // since a connection was last stable
    #openedAt = null; // when the current connection opened; null while none is open
    #mayHurry = true; // false while the server asked for the wait
    #timers = { connect: null, retry: null, ping: null, pong: null, token: null };
    #wake = (event) => this.#onWake(event);

    /** Connects at once. `url` may be relative ("/ws/") or absolute (ws:, wss:, http: or https:). */
    constructor(url = "/ws/", options = {}) {
      for (const name of Object.keys(options)) {
        if (!(name in DEFAULTS)) throw new TypeError(`RealtimeClient has no option "${name}"`);
      }
      this.#options = { ...DEFAULTS, ...options };
      this.#options.WebSocket ??= globalThis.WebSocket;
      this.#url = absolute(url);
      this.connect();
    }

    /** "connecting", "open" (commands may be sent), "waiting" (to connect again) or "closed" (for good). */
    get state() { return this.#state; }

    /** This connection's id, for private messages to it; another one after each reconnection. */
    get id() { return this.#welcome?.id ?? null; }

    /** The node that serves this connection. */
    get node() { return this.#welcome?.node ?? null; }

    /** The user that the server knows this connection as; null if anonymous. */
    get user() { return this.#welcome?.user ?? null; }

    /** The server's limits, as in the welcome. */
    get limits() { return this.#welcome?.limits ?? {}; }

    /** Names of the rooms that this client is in, or will be in again as soon as it can. */
    get rooms() { return [...this.#rooms.keys()]; }

    /** Call `listener(detail)` at each `event`; returns a function that undoes it. */
    on(event, listener) {
      this.#listenersOf(event).add(listener);
      return () => this.off(event, listener);
    }

    off(event, listener) {
      this.#listenersOf(event).delete(listener);
    }

    /**
     * Become a member of `room` and stay one over reconnections, until leave(). The promise waits for a connection and
     * outlives temporary failures; it fails when the server refuses, or on leave() and close().
     * `members: true` asks for the list of members and for "members" events.
     */
    join(room, { members = false } = {}) {
      const unknown = { members: false, isKnown: false, isLate: false, waiters: [], timer: null };
      const wanted = this.#rooms.get(room) ?? unknown;
      wanted.members ||= members;
      this.#rooms.set(room, wanted);
      return new Promise((resolve, reject) => {
        if (this.#state === "closed") {
          this.#rooms.delete(room);
          reject(new RealtimeError("closed", "The client is closed"));
          return;
        }
        wanted.waiters.push({ resolve, reject });
        if (this.#state === "open") this.#enter(room, wanted);
      });
    }

    /** Stop being a member of `room`. Without a connection it is done at once. */
    async leave(room) {
      const wanted = this.#rooms.get(room);
      if (wanted) this.#forget(room, wanted, new RealtimeError("left", "The room was left before it was joined"));
      if (this.#state !== "open") return;
      await this.#command({ type: "leave", room }).catch((error) => {
        if (error.code !== "disconnected") throw error;
      });
    }

    /** Publish to every connection; `echo: true` includes this one. Resolves when the backplane took it. */
    broadcast(data, { echo = false } = {}) {
      return this.#publish({ type: "broadcast", data, ...(echo && { echo }) });
    }

    /** Publish to the members of a room that this client is in. Resolves when the backplane took it. */
    room(room, data, { echo = false } = {}) {
      return this.#publish({ type: "room", room, data, ...(echo && { echo }) });
    }

    /** Publish to one connection (its id) or to all of a user's ("user:<id>"). Resolves when it was handed over. */
    private(to, data) {
      return this.#publish({ type: "private", to, data });
    }

    /** Say who this client is, or renew that. For every connection alike, use the option `token` instead. */
    async authenticate(token) {
      const reply = await this.#publish({ type: "authenticate", token });
      this.#welcome = { ...this.#welcome, user: reply.user };
      return reply;
    }

    /** Measure the way to the node and back; resolves to milliseconds. */
    async ping() {
      const start = performance.now();
      await this.#publish({ type: "ping" });
      return performance.now() - start;
    }

    /** Connect now: instead of waiting any longer, or again after "closed". */
    connect() {
      if (this.#state === "connecting" || this.#state === "open") return;
      clearTimeout(this.#timers.retry);
      if (this.#state === "closed") this.#watchPage();
      this.#connect();
    }

    /** End the connection for good. Everything unanswered fails. */
    close() {
      const socket = this.#release();
      this.#finish({ code: 1000, reason: "" });
      socket?.close(1000);
    }

    // --- The connection -------------------------------------------------------------------------------------------

    #connect() {
      const socket = new this.#options.WebSocket(this.#url);
      this.#socket = socket;
      const current = (handle) => (event) => { if (socket === this.#socket) handle(event); };
      socket.onmessage = current((event) => this.#receive(event.data));
      socket.onclose = current((event) => this.#lose(event.code, event.reason));
      socket.onerror = () => {}; // a close event always follows and tells more
      this.#after("connect", this.#options.connectTimeoutSeconds, () => this.#lose(1006, "No welcome in time"));
      this.#become("connecting");
    }

    /** The welcome is here: show who we are, then open for commands and take the rooms again. */
    async #open(welcome) {
      const socket = this.#socket;
      this.#welcome = welcome;
      if (this.#options.token !== null && !(await this.#signIn(socket))) return;
      clearTimeout(this.#timers.connect);
      const isFirst = !this.#wasOpen;
      this.#wasOpen = true;
      this.#openedAt = performance.now();
      this.#pingLater();
      this.#become("open");
      this.#emit("welcome", { ...this.#welcome });
      const entered = [...this.#rooms].map(([room, wanted]) => this.#enter(room, wanted));
      await Promise.all(entered);
      if (!isFirst && socket === this.#socket) this.#emit("missed", { rooms: null, cause: "reconnected" });
    }

    /** Authenticate with the option `token`; true when that worked and `socket` is still the current one. */
    async #signIn(socket) {
      try {
        await this.#useToken(socket);
        return socket === this.#socket;
      } catch (error) {
        if (socket !== this.#socket) return false;
        this.#emit("error", error);
        if (isRefusal(error)) this.#lose(4001, error.message);
        else this.#lose(1006, "Could not sign in");
        return false;
      }
    }

    async #useToken(socket) {
      const { token } = this.#options;
      const text = typeof token === "function" ? await token() : token;
      if (socket !== this.#socket) return;
      const reply = await this.#command({ type: "authenticate", token: text });
      this.#welcome = { ...this.#welcome, user: reply.user };
      const renewSeconds = Math.min(reply.expires_in * 0.8, 86400);
      if (typeof token !== "function" || !(renewSeconds > 0)) return;
      this.#after("token", renewSeconds, () => this.#renewToken(socket));
    }

    /** Renew before it expires; what fails for a moment is tried again while the old token still holds. */
    async #renewToken(socket) {
      try {
        await this.#useToken(socket);
      } catch (error) {
        if (socket !== this.#socket) return;
        this.#emit("error", error);
        if (isRefusal(error)) this.#lose(4001, error.message);
        else this.#after("token", 5 + Math.random() * 5, () => this.#renewToken(socket));
      }
    }

    /** The connection ended: do what its close code asks for. */
    #lose(code, reason) {
      const openSeconds = this.#openedAt === null ? 0 : (performance.now() - this.#openedAt) / 1000;
      const socket = this.#release();
      const rule = ruleFor(code, reason);
      if (rule.reconnect) {
        if (openSeconds >= this.#options.stableSeconds) this.#failures = 0;
        this.#wait(rule, { code, reason });
      } else {
        this.#finish({ code, reason });
      }
      socket?.close();
    }

    #wait(rule, detail) {
      const { backoffMinSeconds, backoffMaxSeconds } = this.#options;
      const ceiling = Math.min(backoffMaxSeconds, backoffMinSeconds * 2 ** this.#failures);
      const delaySeconds = rule.waitSeconds + Math.random() * Math.max(ceiling, rule.spreadSeconds);
      this.#failures += 1;
      this.#mayHurry = rule.waitSeconds === 0;
      this.#after("retry", delaySeconds, () => this.#connect());
      this.#become("waiting", { ...detail, delaySeconds });
    }

    #finish(detail) {
      const error = new RealtimeError("closed", "The client is closed");
      for (const [room, wanted] of this.#rooms) this.#forget(room, wanted, error);
      this.#unwatchPage();
      this.#become("closed", detail);
    }

    /** Let go of the socket and of everything that hangs on it; returns it. */
    #release() {
      const socket = this.#socket;
      this.#socket = null;
      this.#openedAt = null;
      Object.values(this.#timers).forEach(clearTimeout);
      this.#timers.pong = null;
      for (const { timer } of this.#rooms.values()) clearTimeout(timer);
      for (const command of this.#commands.values()) {
        clearTimeout(command.timer);
        command.reject(new RealtimeError("disconnected", "The connection was lost before the answer came"));
      }
      this.#commands.clear();
      return socket;
    }

    #become(state, detail = {}) {
      if (state === this.#state) return;
      this.#state = state;
      this.#emit("state", { state, ...detail });
    }

    // --- Messages -------------------------------------------------------------------------------------------------

    #receive(text) {
      clearTimeout(this.#timers.pong);
      this.#timers.pong = null;
      const message = parse(text);
      const { type, ref, ...detail } = message;
      if (this.#commands.has(ref)) this.#settle(ref, message);
      else if (type === "welcome") this.#open(detail);
      else if (PUSHES.has(type)) this.#emit(type, detail);
      else if (type === "left" && ref === undefined) this.#leaveAsTold(detail.room);
      else if (type === "missed") this.#emit("missed", { ...detail, cause: "server" });
      else if (type === "error") this.#emit("error", errorFrom(message));
      // Anything else comes from a newer server; it does not concern this client.
    }

    #settle(ref, message) {
      const { resolve, reject, timer } = this.#commands.get(ref);
      this.#commands.delete(ref);
      clearTimeout(timer);
      const { type, ref: _, ...detail } = message;
      if (type === "error") reject(errorFrom(message));
      else resolve(detail);
    }

    #publish(message) {
      if (this.#state !== "open") {
        return Promise.reject(new RealtimeError("disconnected", "There is no connection at this moment"));
      }
      return this.#command(message);
    }

    #command(message) {
      const ref = ++this.#lastRef;
      return new Promise((resolve, reject) => {
        const text = JSON.stringify({ ...message, ref }); // throws, which rejects, for what is not JSON
        const timer = setTimeout(() => {
          this.#commands.delete(ref);
          reject(new RealtimeError("timeout", "No answer came in time; it may still have been done"));
        }, this.#options.commandTimeoutSeconds * 1000);
        this.#commands.set(ref, { resolve, reject, timer });
        this.#socket.send(text);
      });
    }

    // --- Rooms ----------------------------------------------------------------------------------------------------

    /** Ask for one wanted room; resolves at the first answer, whatever it is. */
    async #enter(room, wanted) {
      const waiters = wanted.waiters.splice(0);
      clearTimeout(wanted.timer);
      try {
        const reply = await this.#command({ type: "join", room, ...(wanted.members && { members: true }) });
        const { isKnown, isLate } = wanted;
        Object.assign(wanted, { isKnown: true, isLate: false });
        if (this.#rooms.get(room) === wanted) this.#emit("joined", { ...reply, again: isKnown });
        if (isKnown && isLate) this.#emit("missed", { rooms: [room], cause: "reconnected" });
        for (const { resolve } of waiters) resolve(reply);
      } catch (error) {
        wanted.waiters.unshift(...waiters);
        if (this.#rooms.get(room) !== wanted) this.#forget(room, wanted, error);
        else if (TEMPORARY.has(error.code)) this.#enterLater(room, wanted, error);
        else if (error.code !== "disconnected") this.#refuse(room, wanted, error);
      }
    }

    #enterLater(room, wanted, error) {
      const { least, spread } = JOIN_RETRY_SECONDS;
      const delaySeconds = (error.retryAfterSeconds ?? least) + Math.random() * spread;
      wanted.isLate = true;
      clearTimeout(wanted.timer);
      wanted.timer = setTimeout(() => this.#enter(room, wanted), delaySeconds * 1000);
      this.#emit("error", error);
    }

    #refuse(room, wanted, error) {
      const wasAwaited = wanted.waiters.length > 0;
      this.#forget(room, wanted, error);
      if (!wasAwaited) this.#emit("error", error);
    }

    /** The server took this connection out of a room: it is not joined again. */
    #leaveAsTold(room) {
      const wanted = this.#rooms.get(room);
      if (wanted) this.#forget(room, wanted, new RealtimeError("removed", "The server took this client out of the room"));
      this.#emit("left", { room });
    }

    #forget(room, wanted, error) {
      clearTimeout(wanted.timer);
      if (this.#rooms.get(room) === wanted) this.#rooms.delete(room);
      for (const { reject } of wanted.waiters.splice(0)) reject(error);
    }

    // --- Signs of life --------------------------------------------------------------------------------------------

    #pingLater() {
      const idle = this.limits.idle_timeout_seconds || Infinity;
      const seconds = Math.min(this.#options.pingSeconds, idle / 2);
      this.#after("ping", seconds * (0.8 + 0.2 * Math.random()), () => this.#check()); // clients must not align
    }

    /** Ask the peer whether it is there; any message within the timeout is an answer. */
    #check() {
      this.ping().catch(() => {});
      if (this.#timers.pong === null) {
        this.#after("pong", this.#options.pongTimeoutSeconds, () => this.#lose(1006, "The server does not answer"));
      }
      this.#pingLater();
    }

    /** The network is back, or the page is looked at again. */
    #onWake(event) {
      if (event.type === "visibilitychange" && document.visibilityState !== "visible") return;
      if (this.#state === "open") this.#check();
      else if (this.#state === "waiting" && this.#mayHurry) this.connect();
    }

    #watchPage() {
      for (const type of ["online", "offline", "visibilitychange"]) globalThis.addEventListener?.(type, this.#wake);
    }

    #unwatchPage() {
      for (const type of ["online", "offline", "visibilitychange"]) globalThis.removeEventListener?.(type, this.#wake);
    }

    // --- Small parts ----------------------------------------------------------------------------------------------

    #after(name, seconds, action) {
      clearTimeout(this.#timers[name]);
      this.#timers[name] = setTimeout(action, seconds * 1000);
    }

    #listenersOf(event) {
      const listeners = this.#listeners.get(event);
      if (!listeners) throw new TypeError(`RealtimeClient has no event "${event}"; it has ${EVENTS.join(", ")}`);
      return listeners;
    }

    /** A listener that fails is reported and disturbs neither the others nor the client. */
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

  function absolute(url) {
    const parsed = new URL(url, globalThis.location?.href);
    parsed.protocol = { "http:": "ws:", "https:": "wss:" }[parsed.protocol] ?? parsed.protocol;
    return parsed.href;
  }

  function ruleFor(code, reason) {
    const fits = (rule) => rule.code === code && (rule.reason === null || rule.reason === reason);
    return CLOSE_CODES.find(fits) ?? ANY_OTHER_CODE;
  }

  function isRefusal(error) {
    return error.code === "unauthorized" || error.code === "forbidden";
  }

  function parse(text) {
    try {
      return JSON.parse(text) ?? {};
    } catch {
      return { type: "error", code: "bad_json", message: "The server sent something that is not JSON" };
    }
  }

  function errorFrom({ code, message, retry_after: retryAfterSeconds = null }) {
    return new RealtimeError(code, message, retryAfterSeconds);
  }

  RealtimeClient.RealtimeError = RealtimeError;
  RealtimeClient.CLOSE_CODES = Object.freeze(CLOSE_CODES);
  globalThis.RealtimeClient = RealtimeClient;
})();
