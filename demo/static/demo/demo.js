/*
 * The demo page: one RealtimeClient (../realtime/client.js) or its like over Socket.IO, and around it what people see.
 *
 * What clients tell each other inside `data`:
 *   {kind: "chat", text, name, node}   something to read; its sender's name comes with it
 *   {kind: "hello", name, node}        to the room, when one has joined it: "and who are you?"
 *   {kind: "name", name, node}         the private answer to that, and to the room after a change of name
 * Members of large rooms do not answer a hello: their names appear when they first write.
 */

import { Composer } from "./composer.js";
import { byId, element, nodeTag } from "./dom.js";
import { Entry, roomOfAddress, showInAddress } from "./entry.js";
import { ConnectionPanel, PeoplePanel } from "./panel.js";
import { Roster } from "./roster.js";
import { makeClient, offerWays } from "./socketio-client.js";
import { Stream } from "./stream.js";

const ANSWER_HELLO_MAX = 40; // members of a room in which hellos are answered
const NOTICE_NAMES_MAX = 3; // more at once who come or go are only counted
const ROUND_TRIP_SECONDS = 15;
const TOAST_MS = 2500;
const EXPLANATIONS = {
  disconnected: "Not sent: the connection was lost.",
  timeout: "No answer. It may still have arrived.",
  unavailable: "The backplane is away. It may still have arrived.",
  unknown_recipient: "Not delivered: the recipient has left.",
  rate_limited: "Not sent: too many messages in a short time.",
  too_large: "Not sent: the message is too large.",
};

const config = JSON.parse(byId("config").textContent);
const client = await makeClient(config);
const me = { name: "", room: "" };
const roster = new Roster();
let lostAt = null;
let reconnects = 0;

const composer = new Composer({ onSend: send });
const stream = new Stream({ onReply: writeTo });
const people = new PeoplePanel({ onWrite: writeTo });
const connection = new ConnectionPanel({ onReconnect: () => client.connect() });
const entry = new Entry({ onEnter: enter });

// --- The connection -------------------------------------------------------------------------------------------------

client.on("state", (detail) => {
  connection.show(client, detail);
  if (detail.state !== "open") composer.setOpen(false); // until the room is joined
  if (detail.state === "closed") stream.notice("bad", [`The server ended the connection: ${detail.reason || detail.code}.`]);
  if (detail.state !== "waiting" || lostAt !== null || client.node === null) return;
  lostAt = performance.now();
  stream.notice("plain", ["Connection to ", nodeTag(client.node), " lost"], { testid: "lost" });
});

client.on("welcome", ({ node }) => {
  byId("entry-foot").replaceChildren("You are connected to ", nodeTag(node), `. Backplane: ${config.backplane}.`);
  roster.learn(client.id, { name: me.name, node });
  if (lostAt !== null) {
    connection.showReconnects(++reconnects);
    const seconds = ((performance.now() - lostAt) / 1000).toFixed(1);
    stream.notice("good", [`Back after ${seconds} s, now on `, nodeTag(node)], { testid: "back" });
    lostAt = null;
  }
  if (me.room && !client.rooms.includes(me.room)) switchTo(me.room); // back by hand after "closed"
  measure();
});

client.on("missed", ({ cause }) => {
  const when = cause === "reconnected" ? " while you were away" : "";
  stream.notice("warn", [`You may have missed messages${when}.`], { testid: "missed", iconName: "warn" });
});

client.on("error", ({ message }) => stream.notice("bad", [`The server says: ${message}`]));

setInterval(() => document.visibilityState === "visible" && measure(), ROUND_TRIP_SECONDS * 1000);

function measure() {
  if (client.state === "open") client.ping().then((ms) => connection.showRoundTrip(ms), () => {});
}

// --- Members --------------------------------------------------------------------------------------------------------

client.on("joined", (reply) => {
  if (reply.room !== me.room) return;
  roster.reset(reply);
  refresh();
  composer.setOpen(true);
  quietly(client.room(me.room, { kind: "hello", name: me.name, node: client.node }));
});

client.on("members", (change) => {
  if (change.room !== me.room) return;
  const { joined, left } = roster.apply(change);
  announce(joined.filter(({ id }) => id !== client.id), "joined");
  announce(left, "left");
  refresh();
});

function announce(members, verb) {
  if (members.length === 0) return;
  const names = members.flatMap(({ id }) => [", ", stream.nameOf(id, roster.name(id))]).slice(1);
  const who = members.length > NOTICE_NAMES_MAX ? [`${members.length} people`] : names;
  stream.notice("plain", [...who, ` ${verb}`], { testid: `member-${verb}` });
}

function refresh() {
  people.show(roster, () => client.id);
  composer.setRecipients(roster, client.id);
}

function learn(id, data) {
  if (id === null || id === undefined || !roster.learn(id, data)) return;
  stream.rename(id, roster.name(id));
  refresh();
}

// --- Messages -------------------------------------------------------------------------------------------------------

for (const kind of ["room", "broadcast", "private"]) {
  client.on(kind, ({ room, from, data }) => {
    if (me.room === "" || (kind === "room" && room !== me.room)) return;
    if (data === `user ${from} joined`) return; // what Socket.IO clients are told of each other; the members show it
    if (data?.kind === "hello" || data?.kind === "name") greet(from, data);
    else show(kind, from ?? null, data);
  });
}

function greet(from, data) {
  learn(from, data);
  if (data.kind !== "hello" || roster.count > ANSWER_HELLO_MAX) return;
  quietly(client.private(from, { kind: "name", name: me.name, node: client.node }));
}

function show(kind, from, data) {
  const isChat = data?.kind === "chat" && typeof data.text === "string";
  if (isChat) learn(from, data);
  const text = isChat ? data.text : typeof data === "string" ? data : JSON.stringify(data, null, 2);
  const isRaw = !isChat && typeof data !== "string";
  stream.message({ kind, from, name: roster.name(from), node: roster.node(from), text, isRaw });
}

function send({ kind, to, text }) {
  const name = kind === "private" ? roster.name(to) : "";
  const copy = stream.message({ kind, from: client.id, name: me.name, text, isOwn: true, to: name });
  const attempt = async () => {
    copy.sending();
    const start = performance.now();
    try {
      await publish(kind, to, { kind: "chat", text, name: me.name, node: client.node });
      copy.sent(performance.now() - start);
      connection.showRoundTrip(performance.now() - start);
    } catch (error) {
      copy.failed(EXPLANATIONS[error.code] ?? `Not sent: ${error.message}`, attempt);
    }
  };
  attempt();
}

function publish(kind, to, data) {
  if (kind === "broadcast") return client.broadcast(data);
  return kind === "private" ? client.private(to, data) : client.room(me.room, data);
}

function writeTo(id) {
  if (!roster.has(id)) return toast(`${roster.name(id)} is not in this room any more.`);
  if (id === client.id) return undefined;
  people.close();
  return composer.writeTo(id);
}

// --- Name and room --------------------------------------------------------------------------------------------------

async function enter({ name, room }) {
  const hasNewName = name !== me.name;
  me.name = name;
  connection.showName(name);
  if (client.id) roster.learn(client.id, { name, node: client.node });
  composer.focus();
  if (room !== me.room) return switchTo(room);
  refresh();
  if (hasNewName) quietly(client.room(room, { kind: "name", name, node: client.node }));
  return undefined;
}

async function switchTo(room) {
  const before = me.room;
  me.room = room;
  if (before && before !== room) quietly(client.leave(before));
  composer.setOpen(false);
  stream.clear();
  roster.reset({});
  refresh();
  composer.setRoom(room);
  showInAddress(room);
  document.title = `#${room} · Live rooms`;
  byId("room-name").textContent = room;
  byId("empty-room").replaceChildren(element("b", {}, `#${room}`));
  try {
    await client.join(room, { members: true });
  } catch (error) {
    if (me.room === room && client.state !== "closed") entry.ask({ name: me.name, room });
    if (error.code !== "left") toast(error.message);
  }
}

byId("change").addEventListener("click", () => entry.ask({ ...me, mayCancel: true }));
addEventListener("hashchange", () => {
  const room = roomOfAddress();
  if (room && me.room && room !== me.room) switchTo(room);
});
for (const id of ["share", "share-empty"]) byId(id).addEventListener("click", share);

async function share() {
  try {
    await navigator.clipboard.writeText(location.href);
    toast("The link to this room is copied.");
  } catch {
    toast("Copy the address of this page: it names the room.");
  }
}

// --- Small parts ----------------------------------------------------------------------------------------------------

/** For messages between pages that nobody waits for: names come again with the next hello or message. */
function quietly(promise) {
  promise.catch(() => {});
}

let toastTimer = null;

function toast(text) {
  byId("toast").textContent = text;
  byId("toast").classList.add("toast--shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => byId("toast").classList.remove("toast--shown"), TOAST_MS);
}

offerWays(byId("via"));
connection.show(client, { state: client.state });
entry.ask();
