/* The dialog that asks for a name and a room, and the room in the address, so that a link can be shared. */

import { byId } from "./dom.js";
import { cleanName } from "./roster.js";

const NAME_KEY = "demo.name";
const ROOM_MAX = 64; // characters, as the protocol counts them
const DEFAULT_ROOM = "lobby";
const FIRST = ["Amber", "Brisk", "Calm", "Clever", "Cosmic", "Gentle", "Golden", "Lucky", "Quiet", "Sunny", "Swift", "Wild"];
const SECOND = ["Badger", "Comet", "Falcon", "Fern", "Fox", "Heron", "Lynx", "Maple", "Otter", "Pine", "Robin", "Wren"];

export class Entry {
  #dialog = byId("entry");
  #name = byId("name");
  #room = byId("room");
  #mayCancel = false;

  /** `onEnter({name, room})` is called with good values. */
  constructor({ onEnter }) {
    byId("entry-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const chosen = this.#check();
      if (!chosen) return;
      remember(chosen.name);
      this.#dialog.close();
      onEnter(chosen);
    });
    byId("entry-cancel").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("cancel", (event) => !this.#mayCancel && event.preventDefault());
    // Chromium closes on a second Escape whatever a page says.
    this.#dialog.addEventListener("close", () => !this.#mayCancel && !this.#check() && this.#dialog.showModal());
  }

  ask({ name = recall() || invented(), room = roomOfAddress() ?? DEFAULT_ROOM, mayCancel = false } = {}) {
    this.#mayCancel = mayCancel;
    byId("entry-cancel").hidden = !mayCancel;
    byId("entry-title").textContent = mayCancel ? "Your name and room" : "Join the conversation";
    this.#name.value = name;
    this.#room.value = room;
    this.#explain("name", "");
    this.#explain("room", "");
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#name.select();
  }

  #check() {
    const name = cleanName(this.#name.value);
    const room = this.#room.value.trim();
    this.#explain("name", name ? "" : "Choose a name that others will see.");
    this.#explain("room", roomProblem(room));
    if (roomProblem(room)) this.#room.focus();
    if (!name) this.#name.focus();
    return name && !roomProblem(room) ? { name, room } : null;
  }

  #explain(field, problem) {
    byId(`${field}-error`).textContent = problem;
    byId(field).setAttribute("aria-invalid", String(problem !== ""));
  }
}

/** The room that the address names after its #, or null. */
export function roomOfAddress() {
  try {
    const room = decodeURIComponent(location.hash.slice(1));
    return roomProblem(room) ? null : room;
  } catch {
    return null;
  }
}

export function showInAddress(room) {
  history.replaceState(null, "", `#${encodeURIComponent(room)}`);
}

function roomProblem(room) {
  if (!room) return "Choose a room.";
  if ([...room].length > ROOM_MAX) return `A room name has at most ${ROOM_MAX} characters.`;
  return /\p{Cc}/u.test(room) ? "A room name has no control characters." : "";
}

function invented() {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  return `${pick(FIRST)} ${pick(SECOND)}`;
}

function recall() {
  try {
    return localStorage.getItem(NAME_KEY);
  } catch {
    return null; // storage may be forbidden
  }
}

function remember(name) {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // then it is asked again next time
  }
}
