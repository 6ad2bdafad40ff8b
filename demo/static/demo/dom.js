/* Small parts that build elements. Text always goes in as text, never as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** An element: `element("p", {class: "x", data: {kind: "room"}}, "text", child, …)`. */
export function element(tag, { data = {}, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  Object.assign(made.dataset, data);
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function icon(name, size = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", `icon ${size}`.trim());
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export const byId = (id) => document.getElementById(id);

/** Give an element the colour that belongs to a text: the same on every page. */
export function tint(target, text) {
  let hash = 7;
  for (const character of text) hash = (hash * 31 + character.codePointAt(0)) % 36000;
  target.style.setProperty("--hue", String((hash * 137.508) % 360));
  return target;
}

export function avatar(name, extra = "") {
  const letters = name.split(" ").filter(Boolean).map((word) => [...word][0]);
  const text = (letters.length > 1 ? letters[0] + letters[letters.length - 1] : letters[0] ?? "?").toUpperCase();
  return tint(element("span", { class: `avatar ${extra}`.trim(), "aria-hidden": "true" }, text), name);
}

export function nodeTag(node) {
  return tint(element("span", { class: "node-tag", title: `served by ${node}` }, node), node);
}

/** "1.2 s", "340 ms", "3 ms" */
export function duration(milliseconds) {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return milliseconds < 1 ? "< 1 ms" : `${Math.round(milliseconds)} ms`;
}
