/* The module form of client.js: import { RealtimeClient } from "/static/realtime/client.mjs" */
import "./client.js";

export const { RealtimeClient } = globalThis;
export const { RealtimeError } = RealtimeClient;
