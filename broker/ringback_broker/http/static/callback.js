// The view of one callback.

import { look, query } from "./ask.js";
import { Charts } from "./charts.js";
import { $, setText, showFigures } from "./dom.js";
import { Failures } from "./failures.js";
import { Table } from "./table.js";
import { Tap } from "./tap.js";
import { count, milliseconds, OTHERS, plain, rate } from "./text.js";
import { showTrigger } from "./trigger.js";

const codes = new Table(
  $("codes"),
  [
    { name: "code", title: "code", text: plain },
    { name: "total", title: "calls", text: count, kind: "number" },
    { name: "share", title: "of all calls", text: (share) => `${rate(100 * share)} %`, kind: "number" },
  ],
  (row) => row.code,
);
const charts = new Charts($("callback-charts"), [["Latency of a minute, ms", ""]]);
const failures = new Failures("callback-failures", ["side"]);
const tap = new Tap(document.querySelector("[data-tap=callback]"), { verb: "Watch failures", without: ["key", "side"] });

let key = "";
let side = "";

const total = (rows, name) => rows.reduce((sum, row) => sum + row[name], 0);
const highest = (rows, name) => {
  const known = rows.map((row) => row[name]).filter((value) => value !== null);
  return known.length ? Math.max(...known) : null;
};

function figures(rows) {
  const nodes = rows.filter((row) => row.node !== undefined && row.endpoints > 0).map((row) => row.node);
  return [
    ...(nodes.length ? [["nodes", nodes.join(", ")]] : []),
    ["endpoints", count(total(rows, "endpoints")), "have registered the key now"],
    ["calls per second", rate(total(rows, "rate")), "in the last minute"],
    ["in flight", count(total(rows, "in_flight"))],
    ["p50 ms", milliseconds(highest(rows, "p50_ms")), "in the last minute"],
    ["p99 ms", milliseconds(highest(rows, "p99_ms")), "in the last minute"],
    ["calls", count(total(rows, "calls")), "that have ended, since the broker started"],
    ["errors", count(total(rows, "errors")), "calls that failed, since the broker started"],
    ...rows.filter((row) => row.terms).slice(0, 1).map((row) => ["terms", row.terms]),
  ];
}

function showCodes(rows) {
  const calls = total(rows, "calls");
  const sums = {};
  for (const row of rows)
    for (const [code, failed] of Object.entries(row.failed)) sums[code] = (sums[code] ?? 0) + failed;
  const listed = Object.entries(sums).map(([code, failed]) => ({ code, total: failed, share: failed / Math.max(1, calls) }));
  codes.show(listed.sort((one, other) => other.total - one.total));
  $("codes").hidden = listed.length === 0;
  $("codes-none").hidden = listed.length > 0;
}

export const callbackView = {
  name: "callback",
  title: "Callback",

  open([whose, named]) {
    [key, side] = [named ?? "", whose ?? ""];
    this.title = key || OTHERS;
    setText($("callback-title"), this.title);
    setText($("callback-side"), side === "server" ? "a callback of the server" : "a callback of players");
    const isGlob = /[*?[]/.test(key); // a key is not a pattern
    const pattern = isGlob ? key.replace(/[*?[]/g, "[$&]") : key;
    tap.choose([...(key ? [`"key": ${JSON.stringify(pattern)}`] : []), '"errors": true']);
    showTrigger($("callback-trigger"), { side, key, fixed: true });
  },

  async ask() {
    const given = `?${new URLSearchParams({ side, key })}`;
    const [found] = await Promise.all([look(`/api/callback${given}`), charts.refresh(`/api/history${given}`)]);
    return found;
  },

  show(_state, { rows, failures: failed }) {
    $("callback-none").hidden = rows.length > 0;
    $("callback-figures").hidden = rows.length === 0;
    if (rows.length) showFigures($("callback-figures"), figures(rows));
    showCodes(rows);
    failures.show(failed && key ? failed.map(({ key: _same, ...row }) => row) : failed);
  },

  close() {
    tap.stop();
  },
};
