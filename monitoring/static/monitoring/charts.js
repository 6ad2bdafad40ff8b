// The charts of the cluster's page, drawn by uPlot from the samples that nodes leave.
(() => {
  "use strict";
  const AGAIN_MS = 30000;
  const HEIGHT = 180;
  const section = document.getElementById("rt-charts");
  const MIB = 1024 * 1024;
  const scaled = (values, factor) => values.map((value) => (value === null ? null : value * factor));
  const CHARTS = {
    connections: (found) => [["connections", found.connections]],
    messages: (found) => [["in", found.messages_in_per_second], ["out", found.messages_out_per_second]],
    lag: (found) => [["p50", scaled(found.lag_p50_seconds, 1000)], ["p99", scaled(found.lag_p99_seconds, 1000)]],
    memory: (found) => [["memory", scaled(found.memory_bytes, 1 / MIB)]],
  };
  const drawn = {};
  let span = "hour";

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    return { text: of("--body-fg"), grid: of("--hairline-color"), lines: [of("--rt-line-1"), of("--rt-line-2")] };
  }

  function draw(figure, at, lines) {
    const name = figure.dataset.chart;
    const box = figure.querySelector("div");
    const { text, grid, lines: strokes } = colours();
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
    if (drawn[name]) drawn[name].destroy();
    drawn[name] = new uPlot(
      {
        width: Math.max(200, box.clientWidth),
        height: HEIGHT,
        padding: [null, 28, null, null], // the last label of the axis is not cut off
        series: [{}, ...lines.map(([label], index) => ({ label, stroke: strokes[index], width: 2, points: { show: false } }))],
        axes: [axis, { ...axis, size: 56 }],
        scales: { y: { range: (u, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      },
      [at, ...lines.map(([, values]) => values)],
      box,
    );
  }

  async function refresh() {
    const asked = span;
    const url = section.dataset.series.replace("/hour/", `/${asked}/`);
    const response = await fetch(url, { credentials: "same-origin" }).catch(() => null); // live.js says that nobody answers
    if (!response?.ok || response.redirected) return;
    const found = await response.json();
    if (asked !== span) return; // the other one was chosen meanwhile
    document.getElementById("rt-empty").hidden = found.connections.some((value) => value !== null);
    for (const figure of section.querySelectorAll("[data-chart]")) {
      draw(figure, found.at, CHARTS[figure.dataset.chart](found));
    }
    section.dataset.drawn = span;
  }

  section.addEventListener("click", (event) => {
    const chosen = event.target.dataset.span;
    if (!chosen) return;
    span = chosen;
    for (const button of section.querySelectorAll("[data-span]")) {
      button.setAttribute("aria-pressed", String(button.dataset.span === span));
    }
    refresh();
  });
  let resizing = null;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(refresh, 200);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  new MutationObserver(refresh).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  setInterval(refresh, AGAIN_MS);
  refresh();
})();
