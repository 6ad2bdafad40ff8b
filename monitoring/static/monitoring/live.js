// Keeps the living part of a page of the admin up to date: by a WebSocket that sends it whenever it has changed, and
// where that does not get through by asking again and again.
(() => {
  "use strict";
  const ASK_MS = 5000;
  const RETRY_MS = [2000, 15000];
  const fragment = document.getElementById("rt-fragment");
  const live = document.getElementById("rt-live");
  if (!fragment) return;
  const query = new URLSearchParams(location.search);
  let asking = null;
  let failures = 0;
  let held = null; // what came while somebody selects text, which a new part would take from under their hand
  let isOver = false;

  function say(state, words) {
    live.dataset.state = state;
    live.textContent = `${words} · ${new Date().toLocaleTimeString()}`;
  }

  function isSelecting() {
    const selection = getSelection();
    return !selection.isCollapsed && fragment.contains(selection.anchorNode);
  }

  function show(html, state, words) {
    held = null;
    if (isSelecting()) {
      held = [html, state, words];
      say("asking", "Held while text is selected");
      return;
    }
    replace(html);
    say(state, words);
  }

  // How far tables are scrolled, and the link that has the focus, stay as they are.
  function replace(html) {
    const tables = () => [...fragment.querySelectorAll(".rt-scroll")];
    const scrolled = tables().map((table) => table.scrollLeft);
    const focused = fragment.contains(document.activeElement) ? document.activeElement.href : null;
    fragment.innerHTML = html;
    tables().forEach((table, index) => { table.scrollLeft = scrolled[index] ?? 0; });
    if (focused) [...fragment.querySelectorAll("a")].find((link) => link.href === focused)?.focus({ preventScroll: true });
  }

  function end() {
    isOver = true;
    clearInterval(asking);
    say("lost", "Not up to date: you are logged out, or may not see this page any more. Load it again");
  }

  async function ask() {
    try {
      const response = await fetch(`${fragment.dataset.fragment}?${query}`, { credentials: "same-origin" });
      if (isOver || response.status === 403 || response.redirected) return end();
      if (!response.ok) throw new Error(String(response.status));
      const { html } = await response.json();
      if (asking) show(html, "asking", "Updated every few seconds");
    } catch (error) {
      say("lost", "Not up to date: the node does not answer");
    }
  }

  function connect() {
    if (isOver) return;
    const url = new URL(fragment.dataset.feed, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.search = new URLSearchParams([["page", fragment.dataset.page], ...query]);
    const socket = new WebSocket(url);
    socket.onmessage = (event) => {
      failures = 0;
      clearInterval(asking);
      asking = null;
      show(JSON.parse(event.data).html, "live", "Live");
    };
    socket.onclose = () => {
      failures += 1;
      if (!asking) {
        asking = setInterval(ask, ASK_MS);
        ask();
      }
      const [least, most] = RETRY_MS;
      setTimeout(connect, Math.min(most, least * failures) * (0.5 + Math.random() / 2));
    };
  }

  document.addEventListener("selectionchange", () => {
    if (held && !isSelecting()) show(...held);
  });
  connect();
})();
