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

  function show(html, state, words) {
    if (html !== null && !fragment.contains(document.activeElement)) fragment.innerHTML = html;
    live.dataset.state = state;
    live.textContent = `${words} · ${new Date().toLocaleTimeString()}`;
  }

  async function ask() {
    try {
      const response = await fetch(`${fragment.dataset.fragment}?${query}`, { credentials: "same-origin" });
      if (!response.ok || response.redirected) throw new Error(String(response.status));
      show((await response.json()).html, "asking", "Updated every few seconds");
    } catch (error) {
      show(null, "lost", "Not up to date: the node does not answer");
    }
  }

  function connect() {
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
  connect();
})();
