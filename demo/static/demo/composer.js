/* Where messages are written, and to whom. */

import { byId, element } from "./dom.js";

const RECIPIENTS_MAX = 200;
const HEIGHT_MAX_PX = 160;

export class Composer {
  #text = byId("text");
  #select = byId("recipient-select");
  #isOpen = false;
  #room = "";

  /** `onSend({kind, to, text})` is called for each message. */
  constructor({ onSend }) {
    const send = () => {
      const text = this.#text.value.trim();
      const to = this.#select.value;
      if (!text || !this.#isOpen || (this.kind === "private" && !to)) return;
      onSend({ kind: this.kind, to, text });
      this.#text.value = "";
      this.#fit();
    };
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    this.#text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      send();
    });
    this.#text.addEventListener("input", () => this.#fit());
    byId("composer").addEventListener("change", () => this.#refresh());
  }

  get kind() {
    return new FormData(byId("composer")).get("target");
  }

  /** Messages can be sent at this moment, or not; what is written stays. */
  setOpen(isOpen) {
    this.#isOpen = isOpen;
    this.#refresh();
  }

  setRoom(room) {
    this.#room = room;
    this.#refresh();
  }

  /** The members to whom one can write; a recipient who left is deselected. */
  setRecipients(roster, ownId) {
    const chosen = this.#select.value;
    const ids = roster.list().filter((id) => id !== ownId).slice(0, RECIPIENTS_MAX);
    if (chosen && roster.has(chosen) && !ids.includes(chosen)) ids.push(chosen);
    this.#select.replaceChildren(...ids.map((id) => element("option", { value: id }, roster.name(id))));
    if (ids.includes(chosen)) this.#select.value = chosen;
    else if (chosen && this.kind === "private") this.#choose("room");
    this.#refresh();
  }

  writeTo(id) {
    this.#choose("private");
    this.#select.value = id;
    this.#refresh();
    this.focus();
  }

  focus() {
    this.#text.focus({ preventScroll: true });
  }

  #choose(kind) {
    byId("composer").querySelector(`input[value="${kind}"]`).checked = true;
  }

  #refresh() {
    const { kind } = this;
    byId("composer").dataset.kind = kind;
    byId("recipient").hidden = kind !== "private";
    const nobody = kind === "private" && !this.#select.value;
    const to = this.#select.selectedOptions[0]?.textContent;
    const words = { room: `Message #${this.#room}`, broadcast: "Message everyone, in every room", private: `Message ${to} privately` };
    this.#text.placeholder = nobody ? "Nobody else is in this room" : words[kind];
    byId("send").disabled = !this.#isOpen || nobody;
  }

  #fit() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${Math.min(this.#text.scrollHeight, HEIGHT_MAX_PX)}px`;
  }
}
