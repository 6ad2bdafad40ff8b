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
 * missed. The whole interface is described in docs/client.md, its types in client.d.ts; the wire protocol in
 * docs/protocol.md.
 *
 * It is one file of more than 400 lines so that a page can take it with one <script> and nothing else. Its parts: what
 * is known beforehand (codes, options), waiting times, Commands (what waits to be sent or answered), RealtimeClient.
 */
(() => {
  "use strict";

  const EVENTS = ["state", "welcome", "joined", "left", "broadcast", "room", "private", "members", "missed", "error"];
  const PUSHES = new Set(["broadcast", "room", "private", "members"]);
  const PUBLICATIONS = new Set(["broadcast", "room", "private"]);

  /** What a client does when the server ends the connection; the first row that fits wins. */
  const CLOSE_CODES = [
    { code: 1001, reason: "Server overloaded", reconnect: true, waitSeconds: 5, spreadSeconds: 5 },
    { code: 1001, reason: "Connection timeout", reconnect: true, waitSeconds: 0, spreadSeconds: 0 },
    { code: 1008, reason: null, reconnect: "once", waitSeconds: 20, spreadSeconds: 20 },
    { code: 1009, reason: null, reconnect: true, waitSeconds: 1, spreadSeconds: 0 },
    { code: 1011, reason: null, reconnect: true, waitSeconds: 1, spreadSeconds: 0 },
    { code: 1012, reason: null, reconnect: true, waitSeconds: 0, spreadSeconds: 2 },
    { code: 1013, reason: null, reconnect: true, waitSeconds: 5, spreadSeconds: 10 },
    { code: 4001, reason: null, reconnect: false, waitSeconds: 0, spreadSeconds: 0 },
    { code: 4003, reason: null, reconnect: false, waitSeconds: 0, spreadSeconds: 0 },
    { code: 4008, reason: null, reconnect: true, waitSeconds: 1, spreadSeconds: 0 },
  ];
  const ANY_OTHER_CODE = { reconnect: true, waitSeconds: 0, spreadSeconds: 0 };
  const NORMAL = 1000;
  const LOST = 1006; // as browsers call an end without a close frame
  const UNAUTHORIZED = 4001;

  /** Error codes after which the same join may succeed a moment later. */
  const TEMPORARY = new Set(["unavailable", "internal_error", "timeout"]);
  const JOIN_RETRY_SECONDS = { least: 1, spread: 4 };
  const ROOMS_MAX = 1000; // kept by a client; servers allow fewer
  const WISHES_MAX = 2000; // joins and leaves that wait for the rate
  const AT_ONCE_MAX = 20; // unanswered among those that waited: a refusal of all of them must not be held against us
  const SPACING_MAX_SECONDS = 5;
  const WIDER = 1.5;
  const CLOSER = 0.95;
  const ANY = "any"; // stands for every type of command
  const LOOPBACK = /^(localhost|127\.[\d.]+|\[::1\])$/; // reachable without a network

  const DEFAULTS = {
    token: null, // a text, or a function that returns one (or a promise of one) before each connection
    tokenInHandshake: false, // send it as a subprotocol of the handshake instead of as the first message
    backoffMinSeconds: 0.5, // ceiling of the first wait; doubles with each failure
    backoffMaxSeconds: 20, // highest ceiling
    stableSeconds: 10, // a connection that lasted this long starts the backoff anew
    connectTimeoutSeconds: 10, // from opening the socket to the welcome
    commandTimeoutSeconds: 10, // from a command to its answer
    queueMax: 0, // publications that may wait for a connection or for the rate; 0: they are rejected at once
    queueMaxBytes: 262144, // how large these may be together
    queueSeconds: 30, // how long one may wait
    pingSeconds: 25, // at most; half of the server's idle timeout if that is shorter
    pongTimeoutSeconds: 10, // a peer silent for so long after a ping is dead
    WebSocket: undefined, // the WebSocket class; the platform's own by default
  };

  /**
   * Why a command failed: `code` is the server's, or "disconnected", "timeout", "queue_full", "left", "removed",
   * "closed". `wasSent`: whether it had left, so that it may have been done.
   */
  class RealtimeError extends Error {
    constructor(code, message, { retryAfterSeconds = null, wasSent = false, cause } = {}) {
      super(message, cause && { cause });
      this.name = "RealtimeError";
      this.code = code;
      this.retryAfterSeconds = retryAfterSeconds;
      this.wasSent = wasSent;
    }
  }

  // --- Waiting times ------------------------------------------------------------------------------------------------

  function ruleFor(code, reason) {
    const fits = (rule) => rule.code === code && (rule.reason === null || rule.reason === reason);
    return CLOSE_CODES.find(fits) ?? ANY_OTHER_CODE;
  }

  /**
   * Seconds to wait after that many failures: what the close code asks for, and a part of the ceiling (full jitter).
   * `chance` is a random number between 0 and 1.
   */
  function reconnectSeconds({ code = LOST, reason = "", failures = 0, chance = Math.random(), ...options } = {}) {
    const { backoffMinSeconds, backoffMaxSeconds } = { ...DEFAULTS, ...options };
    const rule = ruleFor(code, reason);
    const ceiling = Math.min(backoffMaxSeconds, backoffMinSeconds * 2 ** failures);
    return rule.waitSeconds + chance * Math.max(ceiling, rule.spreadSeconds);
  }

  // --- Commands -----------------------------------------------------------------------------------------------------

  /**
   * What waits to be sent, and what waits for its answer. Three ways in:
   *
   *   ask      is sent at once, whatever else waits, or fails.
   *   wish     (joins, leaves) waits until the rate allows it, as long as the connection lasts.
   *   submit   (publications) is sent if nothing is in the way; else it waits in the queue, which outlives a connection
   *            and has a bound, or is rejected.
   *
   * After `rate_limited` nothing that waits is sent for as long as the server asked, and then spaced by that time: wider
   * after each refusal, closer after each answer.
   */
  class Commands {
    #options;
    #send = null; // puts a text on the socket; null before the welcome
    #bytesMax = Infinity; // of a command, as the server said
    #isOpen = false; // publications may be sent
    #areRoomsIn = false; // and those in the queue, too
    #unanswered = new Map(); // ref -> command
    #wishes = [];
    #queue = [];
    #queuedBytes = 0;
    #flowing = 0; // unanswered among those that had to wait
    #pauses = new Map(); // type or ANY -> {until, waitUntil (what the server asked for), spacingSeconds}
    #refusedUnread = 0; // commands that were refused without their ref
    #refusal = null; // the last of these errors
    #suspects = new Set(); // refs; those commands are among them
    #lastRef = 0;
    #timer = null;

    constructor(options) {
      this.#options = options;
    }

    /** There is a socket, and the server has said welcome on it. */
    attach(send, bytesMax = Infinity) {
      this.#send = send;
      this.#bytesMax = bytesMax;
    }

    open() {
      this.#isOpen = true;
    }

    /** The rooms are joined again. */
    ready() {
      this.#areRoomsIn = true;
      this.#pump();
    }

    /** The connection ended. What was sent may have been done; the queue waits for the next one. */
    lose() {
      this.#send = null;
      this.#isOpen = false;
      this.#areRoomsIn = false;
      this.#refusedUnread = 0;
      this.#pauses.clear();
      clearTimeout(this.#timer);
      const message = "The connection was lost before the answer came";
      for (const command of [...this.#unanswered.values()]) {
        this.#release(command);
        command.reject(new RealtimeError("disconnected", message, { wasSent: true }));
      }
      for (const { reject } of this.#wishes.splice(0)) reject(new RealtimeError("disconnected", message));
    }

    /** Nothing will be sent any more. */
    close(error) {
      this.lose();
      for (const command of this.#queue.splice(0)) {
        clearTimeout(command.timer);
        command.reject(error);
      }
      this.#queuedBytes = 0;
    }

    ask(message) {
      return this.#issue(message, (command) => {
        if (this.#send === null) throw disconnected();
        this.#dispatch(command);
      });
    }

    /** `isWanted()` tells whether to repeat it when it was refused for its rate. */
    wish(message, isWanted) {
      return this.#issue(message, (command) => {
        if (this.#wishes.length >= WISHES_MAX) throw queueFull();
        command.isWanted = isWanted;
        this.#wishes.push(command);
        this.#pump();
      });
    }

    submit(message) {
      return this.#issue(message, (command) => {
        const obstacle = this.#obstacle(command.type);
        const isBehind = this.#queue.length > 0 || (this.#options.queueMax > 0 && !this.#areRoomsIn);
        if (obstacle === null && !isBehind) this.#dispatch(command);
        else if (this.#options.queueMax === 0) throw obstacle;
        else if (this.#keep(command)) this.#pump();
        else throw queueFull();
      });
    }

    /** An answer; whether it is one of ours. */
    settle({ type, ref, ...detail }) {
      const command = this.#unanswered.get(ref);
      if (command === undefined) return false;
      this.#release(command);
      if (type === "error") this.#refuse(command, errorFrom(detail), command.type);
      else this.#accept(command, detail);
      this.#convict();
      this.#pump();
      return true;
    }

    /**
     * The server refused a command for its rate without reading it, and cannot say which one; whether one may be meant.
     * It is among those unanswered now, and they are known once no others are left: every command gets an answer.
     */
    refuseOne(error) {
      if (this.#unanswered.size === 0) return false;
      this.#slowDown(ANY, error.retryAfterSeconds);
      this.#refusedUnread += 1;
      this.#refusal = error;
      for (const ref of this.#unanswered.keys()) this.#suspects.add(ref);
      this.#convict();
      this.#pump();
      return true;
    }

    #convict() {
      if (this.#refusedUnread === 0) this.#suspects.clear();
      if (this.#suspects.size > this.#refusedUnread) return;
      const refused = [...this.#suspects].map((ref) => this.#unanswered.get(ref));
      this.#refusedUnread = 0;
      for (const command of refused) this.#release(command);
      for (const command of refused) this.#refuse(command, this.#refusal, ANY);
    }

    #issue(message, accept) {
      return new Promise((resolve, reject) => {
        const ref = ++this.#lastRef;
        const text = JSON.stringify({ ...message, ref }); // throws, which rejects, for what is not JSON
        const bytes = new TextEncoder().encode(text).length;
        const giveUpAt = performance.now() + this.#options.queueSeconds * 1000;
        const { type } = message;
        accept({ ref, type, text, bytes, giveUpAt, resolve, reject, isWanted: null, timer: null, isFlowing: false });
      });
    }

    #dispatch(command) {
      if (command.bytes > this.#bytesMax) {
        command.reject(new RealtimeError("too_large", `The command has more than ${this.#bytesMax} bytes`));
        return;
      }
      command.timer = setTimeout(() => this.#giveUp(command), this.#options.commandTimeoutSeconds * 1000);
      this.#unanswered.set(command.ref, command);
      if (command.isFlowing) this.#flowing += 1;
      this.#send(command.text);
    }

    #giveUp(command) {
      if (this.#suspects.has(command.ref)) this.#refusedUnread -= 1; // it was this one
      this.#release(command);
      const message = "No answer came in time; it may still have been done";
      command.reject(new RealtimeError("timeout", message, { wasSent: true }));
      this.#convict();
      this.#pump();
    }

    #release(command) {
      clearTimeout(command.timer);
      this.#unanswered.delete(command.ref);
      this.#suspects.delete(command.ref);
      if (command.isFlowing) this.#flowing -= 1;
      command.isFlowing = false;
    }

    #accept(command, detail) {
      for (const pause of this.#pausesOf(command.type)) pause.spacingSeconds *= CLOSER;
      command.resolve(detail);
    }

    #refuse(command, error, limit) {
      const isLimited = error.code === "rate_limited";
      if (isLimited && limit !== ANY) this.#slowDown(limit, error.retryAfterSeconds);
      if (isLimited && command.isWanted?.()) insert(this.#wishes, command);
      else if (!isLimited || !PUBLICATIONS.has(command.type) || !this.#keep(command)) command.reject(error);
    }

    /** Into the queue; false if there is no place or no time left. */
    #keep(command) {
      const { queueMax, queueMaxBytes } = this.#options;
      const left = command.giveUpAt - performance.now();
      const isFull = this.#queue.length >= queueMax || this.#queuedBytes + command.bytes > queueMaxBytes;
      if (isFull || left <= 0) return false;
      insert(this.#queue, command);
      this.#queuedBytes += command.bytes;
      command.timer = setTimeout(() => {
        this.#unqueue(command);
        command.reject(this.#obstacle(command.type) ?? new RealtimeError("timeout", "It could not be sent in time"));
      }, left);
      return true;
    }

    #unqueue(command) {
      clearTimeout(command.timer);
      this.#queue.splice(this.#queue.indexOf(command), 1);
      this.#queuedBytes -= command.bytes;
    }

    /** Send of what waits as much as may be sent now, and come back when more may. Wishes keep their order. */
    #pump() {
      clearTimeout(this.#timer);
      while (this.#send !== null && this.#flowing < AT_ONCE_MAX) {
        const waiting = [...this.#wishes.slice(0, 1), ...(this.#areRoomsIn ? this.#queue : [])];
        if (waiting.length === 0) return;
        const waits = waiting.map(({ type }) => this.#pauseSeconds(type));
        const next = waits.indexOf(0);
        if (next < 0) {
          this.#timer = setTimeout(() => this.#pump(), Math.min(...waits) * 1000);
          return;
        }
        const command = waiting[next];
        if (command === this.#wishes[0]) this.#wishes.shift();
        else this.#unqueue(command);
        command.isFlowing = true;
        this.#dispatch(command);
        this.#space(command.type);
      }
    }

    // --- The rate

    #obstacle(type) {
      if (!this.#isOpen) return disconnected();
      const retryAfterSeconds = this.#pauseSeconds(type);
      if (retryAfterSeconds === 0) return null;
      return new RealtimeError("rate_limited", "The server asked to wait", { retryAfterSeconds });
    }

    /** Seconds until a command of this type may be sent; what is over and not needed for its spacing is forgotten. */
    #pauseSeconds(type) {
      const now = performance.now();
      let longest = 0;
      for (const limit of [ANY, type]) {
        const pause = this.#pauses.get(limit);
        if (pause === undefined) continue;
        if (pause.until > now) longest = Math.max(longest, (pause.until - now) / 1000);
        else if (this.#wishes.length + this.#queue.length === 0) this.#pauses.delete(limit);
      }
      return longest;
    }

    /** Refused again after the wait was over, it is spaced wider: others may use up the same rate. */
    #slowDown(limit, retryAfterSeconds) {
      const seconds = retryAfterSeconds ?? 1;
      const now = performance.now();
      const before = this.#pauses.get(limit) ?? { waitUntil: Infinity, spacingSeconds: 0 };
      const wider = before.spacingSeconds * (now >= before.waitUntil ? WIDER : 1);
      const spacingSeconds = Math.min(Math.max(seconds, wider), SPACING_MAX_SECONDS);
      const waitUntil = now + seconds * 1000;
      this.#pauses.set(limit, { until: waitUntil, waitUntil, spacingSeconds });
    }

    #space(type) {
      for (const pause of this.#pausesOf(type)) pause.until = performance.now() + pause.spacingSeconds * 1000;
    }

    #pausesOf(type) {
      return [this.#pauses.get(ANY), this.#pauses.get(type)].filter(Boolean);
    }
  }

  // --- The client ---------------------------------------------------------------------------------------------------

  class RealtimeClient {
    #url;
    #options;
    #listeners = new Map(EVENTS.map((event) => [event, new Set()]));
    #state = "closed";
    #attempt = null; // the current one, from the question for a token to the end of its socket
    #socket = null; // its socket; events of any other one are ignored
    #token = null; // the text with which it signs in
    #refusedToken = null; // the last one that was no good; the same one would only be refused again
    #welcome = null; // the last welcome; null before the first
    #rooms = new Map(); // wanted rooms: name -> {members, isKnown, isLate, waiters, timer, end (why not any more)}
    #commands;
    #wasOpen = false; // once true, a gap between two connections may be a loss
    #failures = 0; // since a connection was last stable
    #lastChance = null; // the close code after which it came back, once, and no connection was stable since
    #openedAt = null; // when the current connection opened; null while none is open
    #notBefore = 0; // no attempt is hurried to an earlier time: the server asked for the wait
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
      this.#commands = new Commands(this.#options);
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
      if (this.#state === "closed") return Promise.reject(closed());
      if (this.#rooms.size >= ROOMS_MAX && !this.#rooms.has(room)) {
        return Promise.reject(new RealtimeError("too_many_rooms", `A client keeps ${ROOMS_MAX} rooms at most`));
      }
      const unknown = { members: false, isKnown: false, isLate: false, waiters: [], timer: null, end: null };
      const wanted = this.#rooms.get(room) ?? unknown;
      wanted.members ||= members;
      this.#rooms.set(room, wanted);
      return new Promise((resolve, reject) => {
        wanted.waiters.push({ resolve, reject });
        if (this.#state === "open") this.#enter(room, wanted);
      });
    }

    /** Stop being a member of `room`. Without a connection it is done at once. */
    async leave(room) {
      const wanted = this.#rooms.get(room);
      if (wanted) this.#forget(room, wanted, new RealtimeError("left", "The room was left before it was joined"));
      if (this.#state !== "open") return;
      await this.#commands.wish({ type: "leave", room }, () => !this.#rooms.has(room)).catch((error) => {
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
      const reply = await this.#ask({ type: "authenticate", token });
      this.#welcome = { ...this.#welcome, user: reply.user };
      return reply;
    }

    /** Send a command that the project has added ("order.move"); resolves to what its handler returned. */
    async command(type, fields = {}) {
      return (await this.#ask({ ...fields, type })).data;
    }

    /** Measure the way to the node and back; resolves to milliseconds. */
    async ping() {
      const start = performance.now();
      await this.#ask({ type: "ping" });
      return performance.now() - start;
    }

    /** Connect now: instead of waiting any longer, or again after "closed". */
    connect() {
      if (this.#state === "connecting" || this.#state === "open") return;
      clearTimeout(this.#timers.retry);
      if (this.#state === "closed") {
        this.#lastChance = null;
        this.#refusedToken = null;
        this.#watchPage();
      }
      this.#connect();
    }

    /** End the connection for good. Everything unanswered fails. */
    close() {
      const socket = this.#release();
      this.#finish({ code: NORMAL, reason: "" });
      socket?.close(NORMAL);
    }

    // --- The connection -------------------------------------------------------------------------------------------

    #connect() {
      const attempt = {};
      this.#attempt = attempt;
      this.#timers.retry = null;
      this.#become("connecting");
      if (attempt !== this.#attempt) return; // a listener closed it
      const { token } = this.#options;
      if (typeof token === "function") this.#connectWithToken(attempt);
      else this.#dial(token);
    }

    async #connectWithToken(attempt) {
      this.#after("connect", this.#options.connectTimeoutSeconds, () => this.#lose(LOST, "No token in time"));
      try {
        const token = await this.#askForToken();
        if (attempt !== this.#attempt) return;
        if (token === this.#refusedToken) this.#lose(UNAUTHORIZED, "There is no other token", { isFinal: true });
        else this.#dial(token);
      } catch (error) {
        if (attempt === this.#attempt) this.#failToSignIn(error instanceof RealtimeError ? error : noToken(error));
      }
    }

    #dial(token) {
      this.#token = token;
      const { WebSocket, tokenInHandshake, connectTimeoutSeconds } = this.#options;
      const protocols = tokenInHandshake && token !== null ? [["realtime", `token.${token}`]] : [];
      const socket = new WebSocket(this.#url, ...protocols);
      this.#socket = socket;
      const current = (handle) => (event) => { if (socket === this.#socket) handle(event); };
      socket.onmessage = current((event) => this.#receive(event.data));
      socket.onclose = current((event) => this.#lose(event.code, event.reason));
      socket.onerror = () => {}; // a close event always follows and tells more
      this.#after("connect", connectTimeoutSeconds, () => this.#lose(LOST, "No welcome in time"));
    }

    /** The welcome is here: show who we are, then open for commands and take the rooms again. */
    async #open(welcome) {
      const socket = this.#socket;
      this.#welcome = welcome;
      this.#commands.attach((text) => socket.send(text), welcome.limits?.command_max_bytes);
      if (this.#token !== null && !(await this.#signIn(socket))) return;
      clearTimeout(this.#timers.connect);
      const isFirst = !this.#wasOpen;
      this.#wasOpen = true;
      this.#openedAt = performance.now();
      this.#commands.open();
      this.#pingLater();
      this.#become("open");
      this.#emit("welcome", { ...this.#welcome });
      await Promise.all([...this.#rooms].map(([room, wanted]) => this.#enter(room, wanted)));
      if (socket !== this.#socket) return;
      if (!isFirst) this.#emit("missed", { rooms: null, cause: "reconnected" });
      if (socket === this.#socket) this.#commands.ready();
    }

    /** The connection ended: do what its close code asks for. */
    #lose(code, reason, { isFinal = false } = {}) {
      const openSeconds = this.#openedAt === null ? 0 : (performance.now() - this.#openedAt) / 1000;
      const socket = this.#release();
      if (code === UNAUTHORIZED) this.#refusedToken = this.#token;
      if (openSeconds >= this.#options.stableSeconds) {
        this.#failures = 0;
        this.#lastChance = null;
      }
      if (!isFinal && this.#mayReturn(code, reason)) this.#wait({ code, reason });
      else this.#finish({ code, reason });
      socket?.close();
    }

    /** With a new token it may return after 4001, as after other codes of which once is enough. */
    #mayReturn(code, reason) {
      const { reconnect } = ruleFor(code, reason);
      const hasNewToken = code === UNAUTHORIZED && typeof this.#options.token === "function";
      if (reconnect !== "once" && !hasNewToken) return reconnect;
      if (this.#lastChance === code) return false;
      this.#lastChance = code;
      return true;
    }

    #wait({ code, reason }) {
      const delaySeconds = reconnectSeconds({ ...this.#options, code, reason, failures: this.#failures });
      this.#failures += 1;
      this.#notBefore = performance.now() + ruleFor(code, reason).waitSeconds * 1000;
      this.#retryAfter(delaySeconds, { code, reason });
    }

    /** Without a network nothing is tried: the browser tells when there is one again. */
    #retryAfter(delaySeconds, detail) {
      clearTimeout(this.#timers.retry);
      this.#timers.retry = null;
      const isOffline = this.#isOffline();
      const retry = () => (this.#isOffline() ? this.#retryAfter(0, detail) : this.#connect());
      if (!isOffline) this.#after("retry", delaySeconds, retry);
      this.#become("waiting", { ...detail, delaySeconds: isOffline ? null : delaySeconds, isOffline });
    }

    #isOffline() {
      return globalThis.navigator?.onLine === false && !LOOPBACK.test(new URL(this.#url).hostname);
    }

    #finish(detail) {
      const error = closed();
      for (const [room, wanted] of this.#rooms) this.#forget(room, wanted, error);
      this.#commands.close(error);
      this.#unwatchPage();
      this.#become("closed", detail);
    }

    /** Let go of the attempt and of everything that hangs on it; returns its socket. */
    #release() {
      const socket = this.#socket;
      this.#attempt = null;
      this.#socket = null;
      this.#openedAt = null;
      Object.values(this.#timers).forEach(clearTimeout);
      this.#timers.pong = null;
      for (const { timer } of this.#rooms.values()) clearTimeout(timer);
      this.#commands.lose();
      return socket;
    }

    #become(state, detail = {}) {
      if (state === this.#state && state !== "waiting") return;
      this.#state = state;
      this.#emit("state", { state, ...detail });
    }

    // --- Who we are -----------------------------------------------------------------------------------------------

    /** The text of a token. Throws "unauthorized" where there is none any more, "no_token" if it cannot be had now. */
    async #askForToken() {
      let token;
      try {
        token = await this.#options.token();
      } catch (cause) {
        throw noToken(cause);
      }
      if (token === null || token === undefined) throw new RealtimeError("unauthorized", "There is no token any more");
      return token;
    }

    /** Authenticate with the token; true when that worked and `socket` is still the current one. */
    async #signIn(socket) {
      if (this.#options.tokenInHandshake && this.user !== null) {
        this.#renewToken(socket, this.#token); // the server knows us; when the token expires only this answer says
        return true;
      }
      try {
        await this.#authenticate(socket, this.#token);
        return socket === this.#socket;
      } catch (error) {
        if (socket === this.#socket) this.#failToSignIn(error);
        return false;
      }
    }

    async #authenticate(socket, token) {
      const reply = await this.#commands.ask({ type: "authenticate", token });
      this.#welcome = { ...this.#welcome, user: reply.user };
      this.#token = token;
      const renewSeconds = Math.min(reply.expires_in * 0.8, 86400);
      if (typeof this.#options.token !== "function" || !(renewSeconds > 0)) return;
      this.#after("token", renewSeconds, () => this.#renewToken(socket));
    }

    /** Renew before it expires; what fails for a moment is tried again while the old token still holds. */
    async #renewToken(socket, token = null) {
      try {
        const text = token ?? (await this.#askForToken());
        if (socket === this.#socket) await this.#authenticate(socket, text);
      } catch (error) {
        if (socket !== this.#socket) return;
        if (isRefusal(error)) {
          this.#failToSignIn(error);
        } else {
          this.#emit("error", error);
          if (socket !== this.#socket) return; // a listener closed it
          this.#after("token", 5 + Math.random() * 5, () => this.#renewToken(socket, token));
        }
      }
    }

    /** A token that the server refused may be replaced by another one; where there is none, that is the end. */
    #failToSignIn(error) {
      const attempt = this.#attempt;
      this.#emit("error", error);
      if (attempt !== this.#attempt) return; // a listener closed it
      if (isRefusal(error)) this.#lose(UNAUTHORIZED, error.message, { isFinal: !error.wasSent });
      else this.#lose(LOST, "Could not sign in");
    }

    // --- Messages -------------------------------------------------------------------------------------------------

    #receive(text) {
      clearTimeout(this.#timers.pong);
      this.#timers.pong = null;
      const message = parse(text);
      const { type, ref, ...detail } = message;
      if (this.#commands.settle(message)) return;
      if (type === "welcome") this.#open(detail);
      else if (PUSHES.has(type)) this.#emit(type, detail);
      else if (type === "left" && ref === undefined) this.#leaveAsTold(detail.room);
      else if (type === "missed") this.#emit("missed", { ...detail, cause: "server" });
      else if (type === "error") this.#onError(errorFrom(message));
      // Anything else comes from a newer server; it does not concern this client.
    }

    /** An error that names no command. */
    #onError(error) {
      const isOfCommand = error.code === "rate_limited" && this.#commands.refuseOne(error);
      if (!isOfCommand) this.#emit("error", error);
    }

    #publish(message) {
      return this.#state === "closed" ? Promise.reject(closed()) : this.#commands.submit(message);
    }

    #ask(message) {
      if (this.#state !== "open") return Promise.reject(this.#state === "closed" ? closed() : disconnected());
      return this.#commands.ask(message);
    }

    // --- Rooms ----------------------------------------------------------------------------------------------------

    /** Ask for one wanted room; resolves at the first answer, whatever it is. */
    async #enter(room, wanted) {
      const waiters = wanted.waiters.splice(0);
      clearTimeout(wanted.timer);
      try {
        const message = { type: "join", room, ...(wanted.members && { members: true }) };
        const reply = await this.#commands.wish(message, () => this.#rooms.get(room) === wanted);
        const { isKnown, isLate } = wanted;
        Object.assign(wanted, { isKnown: true, isLate: false });
        if (this.#rooms.get(room) === wanted) this.#emit("joined", { ...reply, again: isKnown });
        if (isKnown && isLate) this.#emit("missed", { rooms: [room], cause: "reconnected" });
        for (const { resolve } of waiters) resolve(reply);
      } catch (error) {
        wanted.waiters.unshift(...waiters);
        if (wanted.end !== null) this.#forget(room, wanted, wanted.end);
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
      const error = new RealtimeError("removed", "The server took this client out of the room");
      if (wanted) this.#forget(room, wanted, error);
      this.#emit("left", { room });
    }

    #forget(room, wanted, error) {
      clearTimeout(wanted.timer);
      wanted.end = error;
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
        this.#after("pong", this.#options.pongTimeoutSeconds, () => this.#lose(LOST, "The server does not answer"));
      }
      this.#pingLater();
    }

    /** The network came or went, or the page is looked at again. */
    #onWake({ type }) {
      if (type === "visibilitychange" && document.visibilityState !== "visible") return;
      if (this.#state === "open") {
        this.#check();
      } else if (this.#state === "waiting") {
        const leftSeconds = Math.max(this.#notBefore - performance.now(), 0) / 1000;
        const isParked = this.#timers.retry === null;
        if (this.#isOffline() && !isParked) this.#retryAfter(0, { reason: "Offline" });
        else if (this.#isOffline()) return;
        else if (leftSeconds === 0) this.connect();
        else if (isParked) this.#retryAfter(leftSeconds, { reason: "Online" });
      }
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

  /** Into a list of commands, in the order in which they were issued. */
  function insert(commands, command) {
    const next = commands.findIndex(({ ref }) => ref > command.ref);
    commands.splice(next < 0 ? commands.length : next, 0, command);
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
    return new RealtimeError(code, message, { retryAfterSeconds, wasSent: true });
  }

  function disconnected() {
    return new RealtimeError("disconnected", "There is no connection at this moment");
  }

  /** The function that has tokens failed, or its token is no text that a handshake can carry. */
  function noToken(cause) {
    return new RealtimeError("no_token", `No token could be had: ${cause?.message ?? cause}`, { cause });
  }

  function queueFull() {
    return new RealtimeError("queue_full", "Too much waits to be sent already");
  }

  function closed() {
    return new RealtimeError("closed", "The client is closed");
  }

  Object.assign(RealtimeClient, { RealtimeError, reconnectSeconds });
  for (const table of [CLOSE_CODES, DEFAULTS, EVENTS]) Object.freeze(table);
  Object.assign(RealtimeClient, { CLOSE_CODES, DEFAULTS, EVENTS });
  globalThis.RealtimeClient = RealtimeClient;
})();
