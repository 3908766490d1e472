// Charts of the last hour. uPlot draws them; see vendor/README.md.

import { look } from "./ask.js";
import { made, setText } from "./dom.js";
import { clock, milliseconds, rate } from "./text.js";

const REFRESH_MS = 5000;
const LEAST_S = 180; // a chart that has just begun shows three minutes
const HEIGHT = 150;
const dark = matchMedia("(prefers-color-scheme: dark)");
const minutes = (at) => clock(new Date(at * 1000)).slice(0, 5);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** One chart: a figure with a caption that has the values under the cursor, or else the latest ones. */
class Chart {
  /** @param {{name: string, label: string, colour: string}[]} lines */
  constructor(title, lines, text) {
    this.lines = lines;
    this.text = text;
    this.values = lines.map(() => made("b"));
    const shown = lines.map((line, index) =>
      made("span", { className: `series ${line.colour}` }, line.label && `${line.label} `, this.values[index]),
    );
    this.at = made("span", { className: "at" });
    const caption = made("figcaption", {}, made("span", { className: "title", textContent: title }), ...shown, this.at);
    this.canvas = made("div", { className: "canvas", role: "img" });
    this.canvas.setAttribute("aria-label", title);
    this.element = made("figure", { className: "card chart" }, caption, this.canvas);
    this.title = title;
    this.data = [[], ...lines.map(() => [])];
    new ResizeObserver(() => this.#resize()).observe(this.canvas);
    dark.addEventListener("change", () => this.#draw());
  }

  show(points) {
    const now = Date.now() / 1000;
    this.data = [points.age_s.map((age) => now - age), ...this.lines.map((line) => points[line.name])];
    if (this.plot) this.plot.setData(this.data);
    else this.#draw();
    this.#showValues(null);
    const spoken = this.lines.map((line, index) => {
      const known = this.data[index + 1].filter((value) => value !== null);
      return known.length ? `${line.label || "rate"}: now ${this.text(known.at(-1))}, at most ${this.text(Math.max(...known))}` : `${line.label || "rate"}: none`;
    });
    this.canvas.setAttribute("aria-label", `${this.title}. ${spoken.join(". ")}.`);
  }

  #showValues(index) {
    const last = this.data[0].length - 1;
    this.values.forEach((value, line) => setText(value, this.text(this.data[line + 1][index ?? last] ?? null)));
    setText(this.at, index === null ? "" : minutes(this.data[0][index]));
  }

  #resize() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    if (this.plot) this.plot.setSize({ width, height: HEIGHT });
    else this.#draw();
  }

  #draw() {
    this.plot?.destroy();
    this.plot = null;
    const width = this.canvas.clientWidth;
    if (!width || !this.data[0].length) return;
    const axis = { stroke: colour("--soft"), font: "11px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: colour("--line"), width: 1 };
    const series = this.lines.map((line) => ({
      stroke: colour(`--${line.colour}`),
      width: 1.5,
      points: { show: false },
      spanGaps: false,
      fill: this.lines.length === 1 ? `${colour(`--${line.colour}`)}22` : undefined,
    }));
    this.plot = new uPlot(
      {
        width,
        height: HEIGHT,
        padding: [8, 18, 0, 0],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, sync: { key: "ringback" } },
        scales: { x: { range: (_plot, least, most) => [Math.min(least, most - LEAST_S), most] }, y: { range: (_plot, _least, most) => [0, most > 0 ? most * 1.1 : 1] } },
        axes: [
          { ...axis, grid: { show: false }, size: 22, gap: 4, space: 60, incrs: [60, 120, 300, 600, 900, 1800], values: (_plot, splits) => splits.map(minutes) },
          { ...axis, grid, size: 44, gap: 4, space: 32, values: (_plot, splits) => splits.map((value) => this.text(value)) },
        ],
        series: [{}, ...series],
        hooks: { setCursor: [(plot) => this.#showValues(plot.cursor.idx ?? null)] },
      },
      this.data,
      this.canvas,
    );
  }
}

/** The charts of all calls, or of one callback. */
export class Charts {
  /** @param {[string, string][]} latencies the title of each chart of latencies, and how its figures' names begin */
  constructor(place, latencies) {
    this.charts = [
      new Chart("Calls per second", [{ name: "rate", label: "", colour: "accent" }], rate),
      new Chart("Failed per second", [{ name: "errors", label: "", colour: "bad" }], rate),
      ...latencies.map(([title, begin]) => {
        const lines = [{ name: `${begin}p50_ms`, label: "p50", colour: "accent" }, { name: `${begin}p99_ms`, label: "p99", colour: "warn" }];
        return new Chart(title, lines, milliseconds);
      }),
    ];
    place.append(...this.charts.map((chart) => chart.element));
    this.path = "";
    this.askedAt = 0;
  }

  /** Ask for the points of a path, unless they were asked for just now. */
  async refresh(path) {
    if (path === this.path && performance.now() - this.askedAt < REFRESH_MS) return;
    this.path = path;
    this.askedAt = performance.now();
    const points = await look(path);
    if (path !== this.path || points.error) return;
    for (const chart of this.charts) chart.show(points);
  }
}
