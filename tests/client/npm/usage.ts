// What client.d.ts must accept, and, behind @ts-expect-error, what it must refuse. Compiled, never run.
/// <reference path="../../../realtime/static/realtime/client.d.ts" />
import { RealtimeClient as Imported, RealtimeError } from "../../../realtime/static/realtime/client.mjs";
import type { Client, Events, Options } from "../../../realtime/static/realtime/client.mjs";

const options: Options = { token: async () => "t", queueMax: 10, tokenInHandshake: true };
const client: Client = new RealtimeClient("/ws/", options);
const imported: RealtimeClient = new Imported();

const stop: () => void = client.on("room", ({ room, from, data }) => {
  const where: string = room;
  const who: string | null = from;
  // @ts-expect-error: data is whatever somebody sent
  const text: string = data;
  return [where, who, text];
});
client.on("state", ({ state, delaySeconds }) => {
  if (state === "waiting") return delaySeconds?.toFixed(1);
  // @ts-expect-error: there is no such state
  return state === "broken";
});
client.on("missed", ({ rooms, cause }) => [rooms?.length, cause === "server"]);
client.on("error", (error: RealtimeError) => error.code === "no_token" && error.retryAfterSeconds);
function listen<E extends keyof Events>(event: E, listener: (detail: Events[E]) => void) {
  return imported.on(event, listener);
}
listen("members", ({ joined, left }) => [...joined, ...left].map(({ id, user }) => id + (user ?? "")));

async function use(): Promise<number> {
  const { members = [], count = members.length } = await client.join("lobby", { members: true });
  await client.room("lobby", { text: "Hello" }, { echo: true });
  await client.broadcast([1, null]);
  await client.private("user:42", "psst");
  await client.leave("lobby");
  const { expires_in: seconds } = await client.authenticate("t");
  try {
    await client.command("order.move", { order: 7 });
    return count + seconds + (await client.ping());
  } catch (error) {
    if (error instanceof RealtimeError && error.wasSent) return error.retryAfterSeconds ?? 0;
    throw error;
  }
}

const waits: number = RealtimeClient.reconnectSeconds({ failures: 3, chance: 0.5 });
const codes: number[] = RealtimeClient.CLOSE_CODES.map(({ code }) => code);
const shared: Client | undefined = RealtimeClient.shared?.("/ws/", { workerUrl: "/static/realtime/shared-worker.js" });

// @ts-expect-error: an option that is misspelt
new RealtimeClient("/ws/", { backof: 1 });
// @ts-expect-error: there is no such event
client.on("rooom", () => {});
// @ts-expect-error: the state is the client's own
client.state = "open";

export { codes, shared, stop, use, waits };
