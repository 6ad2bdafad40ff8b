/* What surrounds the conversation: the state of the connection, and who is here. */

import { avatar, byId, duration, element, icon, nodeTag, tint } from "./dom.js";

const SHOWN_MAX = 200; // members drawn one by one
const COUNTDOWN_MS = 200;
const POLICY_VIOLATION = 1008; // a client told so must not be hurried
const WORDS = { connecting: "Connecting", open: "Connected", waiting: "Reconnecting", closed: "Closed" };
const WIDE = matchMedia("(min-width: 900px)"); // as in demo.css: the panel stands beside the conversation

/** The header's state, the strip with the countdown, and the card of the connection. */
export class ConnectionPanel {
  #countdown = null;

  constructor({ onReconnect }) {
    byId("reconnect").addEventListener("click", onReconnect);
  }

  show(client, detail = {}) {
    const { state } = detail;
    byId("status").dataset.state = state;
    byId("status-text").textContent = WORDS[state];
    byId("announce").textContent = state === "open" ? `Connected to ${client.node}` : WORDS[state];
    byId("strip").dataset.state = state;
    byId("strip").hidden = state === "open" || (state === "connecting" && !client.node);
    byId("reconnect").hidden = state === "connecting" || detail.code === POLICY_VIOLATION;
    clearInterval(this.#countdown);
    if (state === "open") this.#showNode(client.node);
    if (state === "connecting") byId("strip-text").textContent = "Reconnecting…";
    if (state === "closed") byId("strip-text").textContent = `The server ended the connection: ${detail.reason || detail.code}.`;
    if (state === "waiting") this.#countDown(detail, client.node ? "Connection lost" : "No connection");
  }

  showName(name) {
    byId("own-name").textContent = name;
  }

  showRoundTrip(milliseconds) {
    byId("round-trip").textContent = duration(milliseconds);
  }

  showReconnects(count) {
    byId("reconnects").textContent = String(count);
  }

  #showNode(node) {
    const tag = byId("status-node");
    tag.hidden = false;
    tag.textContent = node;
    tint(tag, node);
    byId("own-node").replaceChildren(nodeTag(node));
  }

  #countDown({ delaySeconds, reason }, what) {
    const end = performance.now() + delaySeconds * 1000;
    const why = reason ? ` (${reason})` : "";
    if (delaySeconds === null) {
      byId("strip-text").textContent = `${what}. This device is offline`;
      return;
    }
    const draw = () => {
      const left = Math.ceil((end - performance.now()) / 1000);
      byId("strip-text").textContent = left > 0 ? `${what}${why}. Reconnecting in ${left} s` : "Reconnecting…";
    };
    draw();
    this.#countdown = setInterval(draw, COUNTDOWN_MS);
  }
}

/** Members and nodes; on a narrow screen a drawer. */
export class PeoplePanel {
  #onWrite;
  #isStale = false;

  /** `onWrite(id)` is called to write to a member privately. */
  constructor({ onWrite }) {
    this.#onWrite = onWrite;
    byId("people-toggle").addEventListener("click", () => this.#slide(!this.#isOut));
    byId("people-close").addEventListener("click", () => this.#slide(false));
    byId("shade").addEventListener("click", () => this.#slide(false));
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.#isOut && this.#slide(false));
    WIDE.addEventListener("change", () => this.#isOut && this.#slide(false));
  }

  /** Draw soon; many changes at once are drawn once. */
  show(roster, ownId) {
    if (this.#isStale) return;
    this.#isStale = true;
    setTimeout(() => {
      this.#isStale = false;
      this.#draw(roster, typeof ownId === "function" ? ownId() : ownId);
    }, 30);
  }

  close() {
    if (this.#isOut) this.#slide(false);
  }

  get #isOut() {
    return byId("side").classList.contains("side--out");
  }

  #slide(isOut) {
    byId("side").classList.toggle("side--out", isOut);
    byId("shade").hidden = !isOut;
    byId("people-toggle").setAttribute("aria-expanded", String(isOut));
    (isOut ? byId("people-close") : byId("people-toggle")).focus({ preventScroll: true });
  }

  #draw(roster, ownId) {
    const ids = roster.list(ownId);
    const count = roster.count.toLocaleString();
    byId("member-count").textContent = count;
    byId("people-count").textContent = count;
    byId("members").replaceChildren(...ids.slice(0, SHOWN_MAX).map((id) => this.#member(roster, id, id === ownId)));
    const more = roster.count - Math.min(ids.length, SHOWN_MAX);
    byId("members-more").hidden = more <= 0;
    byId("members-more").textContent = ids.length ? `and ${more.toLocaleString()} more` : "Too many to list them here.";
    const nodes = roster.nodes();
    byId("nodes-card").hidden = nodes.length === 0;
    byId("nodes").replaceChildren(...nodes.map(([node, members]) => share(node, members, roster.count)));
  }

  #member(roster, id, isOwn) {
    const name = roster.name(id);
    const node = roster.node(id);
    const inside = [avatar(name, "avatar--small"), element("span", { class: "member__name" }, name),
      isOwn ? element("span", { class: "you" }, "you") : null, node ? nodeTag(node) : null];
    const data = { testid: "member", id };
    if (isOwn) return element("li", { data }, element("span", { class: "member" }, ...inside));
    const button = element("button", { type: "button", class: "member", title: `Write to ${name} privately` },
      ...inside, icon("lock", "icon--small member__hint"));
    button.addEventListener("click", () => this.#onWrite(id));
    return element("li", { data }, button);
  }
}

function share(node, members, all) {
  const bar = element("span", { class: "nodes__bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(members / Math.max(1, all)));
  return tint(element("li", {}, nodeTag(node), bar, element("span", { class: "nodes__count" }, String(members))), node);
}
