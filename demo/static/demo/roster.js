/* Who is in the room, and what they call themselves. No DOM and no network, so that it is easy to test. */

const NAMES_MAX = 5000; // names remembered; the oldest go first

export class Roster {
  #members = new Map(); // connection id -> {id, user}
  #names = new Map(); // connection id -> {name, node}; outlives a reconnection of ours
  #uncounted = 0; // members of a room too large for a list

  /** Start from a `joined` reply: a list of members, or only their count. */
  reset({ members = null, count = 0 }) {
    this.#members = new Map((members ?? []).map((member) => [member.id, member]));
    this.#uncounted = members ? 0 : count;
  }

  /** Apply a `members` push; returns only what was new: {joined, left}. */
  apply({ joined = [], left = [] }) {
    const isCounting = this.#uncounted > 0;
    const news = {
      joined: joined.filter(({ id }) => isCounting || !this.#members.has(id)),
      left: left.filter(({ id }) => isCounting || this.#members.has(id)),
    };
    if (isCounting) {
      this.#uncounted = Math.max(1, this.#uncounted + news.joined.length - news.left.length);
    } else {
      for (const member of news.joined) this.#members.set(member.id, member);
      for (const { id } of news.left) this.#members.delete(id);
    }
    return news;
  }

  /** Remember what a connection says about itself; true if that was news. */
  learn(id, { name, node }) {
    const known = this.#names.get(id);
    const next = { name: cleanName(name) || known?.name || "", node: cleanName(node) || known?.node || "" };
    if (known && known.name === next.name && known.node === next.node) return false;
    this.#names.delete(id);
    this.#names.set(id, next);
    if (this.#names.size > NAMES_MAX) this.#names.delete(this.#names.keys().next().value);
    return true;
  }

  name(id) {
    if (id === null || id === undefined) return "Server";
    return this.#names.get(id)?.name || this.#members.get(id)?.user || `Guest ${id.slice(-4)}`;
  }

  node(id) {
    return this.#names.get(id)?.node ?? "";
  }

  has(id) {
    return this.#members.has(id);
  }

  get count() {
    return this.#uncounted || this.#members.size;
  }

  /** The members that are known one by one, by name; `first` goes first. */
  list(first) {
    const ids = [...this.#members.keys()];
    return ids.sort((a, b) => (b === first) - (a === first) || this.name(a).localeCompare(this.name(b)));
  }

  /** How many of the members each node serves, as far as they have said: [[node, count], …]. */
  nodes() {
    const counts = new Map();
    for (const id of this.#members.keys()) {
      const node = this.node(id);
      if (node) counts.set(node, (counts.get(node) ?? 0) + 1);
    }
    return [...counts].sort(([a], [b]) => a.localeCompare(b));
  }
}

/** One short line without control or direction characters; whatever else a name is made of is its owner's affair. */
export function cleanName(value) {
  return String(value ?? "").replace(/[\p{C}\s]+/gu, " ").trim().slice(0, 32);
}
