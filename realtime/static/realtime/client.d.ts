/**
 * Types of client.js. As a module, `client.d.mts` passes them on; for the plain script this file declares the global
 * name: `/// <reference path="…/client.d.ts" />`. What everything does is described in docs/client.md.
 */

/** "connecting", "open" (commands may be sent), "waiting" (to connect again) or "closed" (for good). */
export type State = "connecting" | "open" | "waiting" | "closed";

export interface Member {
  /** The id of a connection. */
  id: string;
  /** The user, as text; null if anonymous. */
  user: string | null;
}

export interface Limits {
  message_max_bytes?: number;
  command_max_bytes?: number;
  rooms_max?: number;
  idle_timeout_seconds?: number;
  [name: string]: unknown;
}

export interface Welcome {
  id: string;
  node: string;
  user: string | null;
  limits: Limits;
}

export interface StateChange {
  state: State;
  /** Of the end, with "waiting" and "closed". */
  code?: number;
  reason?: string;
  /** With "waiting"; null while the browser is offline. */
  delaySeconds?: number | null;
  isOffline?: boolean;
}

/** The answer to a join. `members` if they were asked for, or `count` in a large room. */
export interface Joined {
  room: string;
  members?: Member[];
  count?: number;
  /** Nodes that did not answer in time: their members follow as changes. */
  partial?: string[];
}

export interface Publication {
  /** The sender's connection; null when the server published it, or what the publisher wrote. */
  from: string | null;
  data: unknown;
}

export interface Authenticated {
  user: string;
  /** Seconds. */
  expires_in: number;
}

export interface Missed {
  /** The rooms in which messages may be missing; null: in any, and broadcasts and private messages as well. */
  rooms: string[] | null;
  /** The server's side lost something, or this client was away. */
  cause: "server" | "reconnected";
}

export interface Events {
  state: StateChange;
  welcome: Welcome;
  joined: Joined & { again: boolean };
  left: { room: string };
  broadcast: Publication;
  room: Publication & { room: string };
  private: Publication;
  members: { room: string; joined: Member[]; left: Member[] };
  missed: Missed;
  error: RealtimeError;
}

/** The server's codes, and those of the client itself; a newer server may send others. */
export type ErrorCode =
  | "bad_json"
  | "bad_message"
  | "unknown_type"
  | "bad_room"
  | "not_joined"
  | "forbidden"
  | "unauthorized"
  | "unknown_recipient"
  | "too_large"
  | "too_many_rooms"
  | "rate_limited"
  | "unavailable"
  | "internal_error"
  | "disconnected"
  | "timeout"
  | "queue_full"
  | "left"
  | "removed"
  | "closed"
  | "no_token"
  | (string & {});

/** A text, or a function that returns one before each connection and before it expires; null from it is the end. */
export type Token = string | (() => string | null | undefined | PromiseLike<string | null | undefined>);

/** What of the WebSocket interface is used. */
export interface WebSocketLike {
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface Options {
  token?: Token | null;
  tokenInHandshake?: boolean;
  backoffMinSeconds?: number;
  backoffMaxSeconds?: number;
  stableSeconds?: number;
  connectTimeoutSeconds?: number;
  commandTimeoutSeconds?: number;
  queueMax?: number;
  queueMaxBytes?: number;
  queueSeconds?: number;
  pingSeconds?: number;
  pongTimeoutSeconds?: number;
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
}

export interface CloseRule {
  code: number;
  /** null: any. */
  reason: string | null;
  reconnect: boolean | "once";
  waitSeconds: number;
  spreadSeconds: number;
}

export interface ReconnectCase {
  code?: number;
  reason?: string;
  /** Since a connection was last stable. */
  failures?: number;
  /** From 0 to 1; random by default. */
  chance?: number;
  backoffMinSeconds?: number;
  backoffMaxSeconds?: number;
}

export class RealtimeError extends Error {
  constructor(
    code: ErrorCode,
    message: string,
    options?: { retryAfterSeconds?: number | null; wasSent?: boolean; cause?: unknown },
  );
  readonly name: "RealtimeError";
  /** Commands of the project may have others. */
  readonly code: ErrorCode | (string & {});
  /** When the server named a time after which it may be tried again. */
  readonly retryAfterSeconds: number | null;
  /** Whether the command had left: if not, it was certainly not done. */
  readonly wasSent: boolean;
}

/** What a client offers, be its connection its own or shared with other tabs. */
export interface Client {
  readonly state: State;
  readonly id: string | null;
  readonly node: string | null;
  readonly user: string | null;
  readonly limits: Limits;
  readonly rooms: string[];
  on<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): () => void;
  off<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void): void;
  join(room: string, options?: { members?: boolean }): Promise<Joined>;
  leave(room: string): Promise<void>;
  broadcast(data: unknown, options?: { echo?: boolean }): Promise<{}>;
  room(room: string, data: unknown, options?: { echo?: boolean }): Promise<{}>;
  private(to: string, data: unknown): Promise<{}>;
  authenticate(token: string): Promise<Authenticated>;
  /** A command that the project has added. */
  command(type: string, fields?: object): Promise<unknown>;
  /** Milliseconds. */
  ping(): Promise<number>;
  connect(): void;
  close(): void;
}

export interface RealtimeClient extends Client {}

export class RealtimeClient {
  constructor(url?: string, options?: Options);
  static readonly RealtimeError: typeof RealtimeError;
  static readonly CLOSE_CODES: readonly CloseRule[];
  static readonly DEFAULTS: Readonly<Required<Options>>;
  static readonly EVENTS: readonly (keyof Events)[];
  static reconnectSeconds(options?: ReconnectCase): number;
  /** Set by shared.js. */
  static shared?: (url?: string, options?: Options & { workerUrl?: string }) => Client;
}

declare global {
  var RealtimeClient: typeof import("./client.js").RealtimeClient;
  type RealtimeClient = import("./client.js").RealtimeClient;
}
