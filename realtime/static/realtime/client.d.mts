/** Types of client.mjs. */
export * from "./client.js";
