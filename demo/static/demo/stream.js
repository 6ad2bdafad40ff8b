/* The conversation: messages and notices, drawn in batches and bounded. */

import { avatar, byId, duration, element, icon, nodeTag } from "./dom.js";

const ENTRIES_MAX = 500; // older ones leave the page
const NEAR_BOTTOM_PX = 80;
const FOLLOW_UP_MS = 60_000; // messages of one sender within this time share one heading
const HIDDEN_PAGE_DRAW_MS = 250; // a hidden page has no animation frames

const KINDS = {
  room: { icon: "hash", label: null },
  broadcast: { icon: "horn", label: "Everyone" },
  private: { icon: "lock", label: "Private" },
};

export class Stream {
  #list = byId("stream");
  #scroll = byId("scroll");
  #newer = byId("newer");
  #empty = byId("empty");
  #waiting = []; // elements to be drawn with the next frame
  #isDrawing = false;
  #isAtBottom = true;
  #last = null; // the last message's {key, at}, for follow-ups
  #onReply;

  /** `onReply(id)` is called when somebody's name is clicked. */
  constructor({ onReply }) {
    this.#onReply = onReply;
    this.#scroll.addEventListener("scroll", () => this.#noteScroll(), { passive: true });
    this.#newer.addEventListener("click", () => this.#toBottom());
    new ResizeObserver(() => this.#isAtBottom && this.#toBottom()).observe(this.#scroll);
  }

  /**
   * A message: {kind, from, name, node, text, isOwn, isRaw, to}. Returns {sent(ms), failed(error, retry), sending()}
   * for its author's copy.
   */
  message({ kind, from, name, node = "", text, isOwn = false, isRaw = false, to = "" }) {
    const now = new Date();
    const key = [kind, isOwn, from, to].join("\n");
    const isFollowUp = this.#last?.key === key && now - this.#last.at < FOLLOW_UP_MS;
    this.#last = { key, at: now };
    const state = element("span", { class: "message__state" });
    const classes = ["message", `message--${kind}`, isOwn && "message--own", isFollowUp && "message--follow-up"];
    const data = { testid: "message", kind, from: from ?? "" };
    const line = element("li", { class: classes.filter(Boolean).join(" "), data },
      isOwn ? null : avatar(name),
      element("div", { class: "message__body" },
        this.#heading({ kind, from, name, node, isOwn, to, now }),
        element("div", { class: isRaw ? "bubble bubble--raw" : "bubble" }, text),
        isOwn ? state : null));
    this.#add(line, isOwn);
    return { sending: () => mark(state, "sending"), sent: (ms) => mark(state, "sent", duration(ms)),
      failed: (why, retry) => mark(state, "failed", why, retry) };
  }

  /** A line of the page itself; `tone` is "plain", "good", "warn" or "bad". `parts` are texts and elements. */
  notice(tone, parts, { testid = "notice", iconName = null } = {}) {
    this.#last = null;
    const line = element("li", { class: `notice notice--${tone}`, data: { testid } },
      element("span", { class: "notice__text" }, iconName ? icon(iconName, "icon--small") : null, ...parts));
    this.#add(line, false);
  }

  /** A name that changes with what its owner says later. */
  nameOf(id, name) {
    return element("b", { data: { nameOf: id } }, name);
  }

  rename(id, name) {
    const places = [...this.#list.querySelectorAll("[data-name-of]"), ...this.#waiting.flatMap(named)];
    for (const place of places) if (place.dataset.nameOf === id) place.textContent = name;
  }

  clear() {
    this.#waiting = [];
    this.#last = null;
    this.#list.replaceChildren();
    this.#empty.hidden = false;
  }

  #heading({ kind, from, name, node, isOwn, to, now }) {
    const { label, icon: iconName } = KINDS[kind];
    const badge = label === null ? null
      : element("span", { class: `badge badge--${kind}` }, icon(iconName, "icon--small"), to ? `${label} to ${to}` : label);
    const time = element("time", { datetime: now.toISOString() },
      now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    return element("div", { class: "message__heading" }, isOwn ? element("span", { class: "sr-only" }, "You") : this.#author(from, name),
      node && !isOwn ? nodeTag(node) : null, badge, time);
  }

  #author(from, name) {
    if (from === null) return element("span", { class: "message__name" }, name);
    const button = element("button", { type: "button", class: "message__name", title: "Write privately", data: { nameOf: from } }, name);
    button.addEventListener("click", () => this.#onReply(from));
    return button;
  }

  #add(line, isOwn) {
    this.#waiting.push(line);
    if (this.#waiting.length > ENTRIES_MAX) this.#waiting.shift();
    if (isOwn) this.#isAtBottom = true;
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    if (document.visibilityState === "visible") requestAnimationFrame(() => this.#draw());
    else setTimeout(() => this.#draw(), HIDDEN_PAGE_DRAW_MS);
  }

  #draw() {
    this.#isDrawing = false;
    const hasMessage = this.#waiting.some((line) => line.classList.contains("message"));
    this.#list.append(...this.#waiting.splice(0));
    while (this.#list.childElementCount > ENTRIES_MAX) this.#list.firstElementChild.remove();
    this.#empty.hidden ||= hasMessage;
    if (this.#isAtBottom) this.#toBottom();
    else this.#newer.hidden = !hasMessage && this.#newer.hidden;
  }

  #noteScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    this.#isAtBottom = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
    if (this.#isAtBottom) this.#newer.hidden = true;
  }

  #toBottom() {
    this.#isAtBottom = true;
    this.#newer.hidden = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }
}

function named(line) {
  return [...line.querySelectorAll("[data-name-of]")];
}

function mark(place, state, text = "", retry = null) {
  place.dataset.state = state;
  if (state === "sending") place.replaceChildren(icon("clock", "icon--small"), element("span", { class: "sr-only" }, "Sending"));
  if (state === "sent") {
    place.title = `Taken by the backplane in ${text}`;
    place.replaceChildren(icon("check", "icon--small"), element("span", { class: "sr-only" }, "Sent in "), text);
  }
  if (state !== "failed") return;
  const again = element("button", { type: "button", class: "link" }, "Send again");
  again.addEventListener("click", retry, { once: true });
  place.replaceChildren(icon("warn", "icon--small"), `${text} `, again);
}
