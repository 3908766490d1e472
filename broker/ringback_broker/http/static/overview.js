// The overview: how the broker, or the whole realm, is doing now.

import { look, query, send } from "./ask.js";
import { Charts } from "./charts.js";
import { callbackColumns, callbackKey, eventColumns, eventKey } from "./columns.js";
import { confirmThat } from "./confirm.js";
import { $, setText } from "./dom.js";
import { Table } from "./table.js";
import { count, duration, plain, rate, UNKNOWN, worried } from "./text.js";

const BUSIEST = 8;

const serversText = (acting, standbys) => (acting ? "acts" : UNKNOWN) + (standbys ? `, ${count(standbys)} standing by` : "");
const isFine = (state) => state === "linked" || state === "this one";

const nodes = new Table(
  $("nodes"),
  [
    { name: "node", title: "node", text: plain },
    { name: "state", title: "state", text: plain, look: (state) => (isFine(state) ? "" : "bad") },
    { name: "players", title: "players", text: count, kind: "number" },
    { name: "acting", title: "server", text: (acting, row) => serversText(acting, row.standbys) },
    { name: "frames_s", title: "frames per second", text: rate, kind: "number", about: "frames that it passes on; one between two nodes counts at both" },
    { name: "since_unix_s", title: "runs", text: (since) => duration(Date.now() / 1000 - since), kind: "number" },
    { name: "renewed_s", title: "renewed", text: duration, kind: "number", about: "how long ago it renewed its record, which says all this" },
    { name: "software", title: "software", text: plain },
    { name: "drain", title: "order", text: () => "Drain…", press: (row) => drain(row.node), can: (row) => isFine(row.state) },
  ],
  (row) => `${row.node} ${row.boot}`,
);
const busiest = new Table(
  $("busiest"),
  callbackColumns.filter(({ name }) => ["key", "node", "side", "rate", "p50_ms", "p99_ms", "errors"].includes(name)),
  callbackKey,
);
const errors = new Table(
  $("errors"),
  [
    { name: "name", title: "what", text: (name) => (name.includes(":") ? name : name.replaceAll("_", " ")) },
    { name: "total", title: "total", text: count, kind: "number", about: "since the broker started" },
    { name: "rate", title: "per second", text: rate, kind: "number", look: worried, about: "since the answer before, about a second ago" },
  ],
  (row) => row.name,
);
const events = new Table($("events"), eventColumns, eventKey);
const charts = new Charts($("overview-charts"), [
  ["Latency at the server, ms", "server_"],
  ["Latency of players, ms", "player_"],
]);
charts.charts[2].element.title = "of all calls to the server in a minute: the time that its handlers took";
charts.charts[3].element.title = "of all calls to players in a minute: there and back, at the caller";

/** Return whether a counter counts something that went wrong. */
const isError = (name) =>
  /^(bounced|refused|handshakes|connections)_/.test(name) ||
  /^sessions_(expired|too_slow|too_fast|revoked|replaced|kicked)$/.test(name) ||
  ["messages_unfinished", "malformed", "violations", "stranger_messages", "dropped"].includes(name);

function drain(node) {
  confirmThat({
    title: node ? `Drain node ${node}?` : "Drain this broker?",
    text: "It lets nobody in any more, waits until calls in flight have ended, and stops. This page may then be gone.",
    yes: "Drain",
    act: () => send("/api/drain", JSON.stringify({ node })),
  });
}

$("drain").addEventListener("click", () => drain(null));

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

function showNow({ sessions, standbys, rates, failed_rates: failed, calls_a_second: calls, draining, nodes: listed }) {
  setText($("now-players"), count(sessions.player));
  setText($("now-operators"), count(sessions.operator));
  setText($("now-server"), (sessions.server ? "connected" : "none") + (standbys ? `, ${count(standbys)} standing by` : ""));
  $("now-server").className = sessions.server ? "" : "absent";
  setText($("pace"), rate(calls));
  const known = Object.keys(rates).length > 0;
  const bounced = Object.entries(rates).filter(([name]) => name.startsWith("bounced_"));
  setText($("now-bounced"), known ? rate(sum(bounced.map(([, value]) => value))) : UNKNOWN);
  setText($("now-failed"), known ? rate(sum(Object.values(failed))) : UNKNOWN);
  $("now-failed").className = worried(sum(Object.values(failed)));
  $("drain").hidden = draining || listed.length > 0;
}

function showErrors(state) {
  const wrong = Object.entries(state.counters)
    .filter(([name, total]) => total > 0 && isError(name))
    .map(([name, total]) => ({ name, total, rate: state.rates[name] }));
  for (const [code, total] of Object.entries(state.failed))
    wrong.push({ name: `calls failed: ${code}`, total, rate: state.failed_rates[code] });
  wrong.sort((one, other) => other.total - one.total || one.name.localeCompare(other.name)); // so that rows stay in place
  errors.show(wrong);
  $("errors").hidden = wrong.length === 0;
  $("errors-none").hidden = wrong.length > 0;
}

/** Show the nodes of a realm; nothing at a broker that is alone. */
function showNodes({ nodes: rows, missing }) {
  $("nodes-card").hidden = rows.length === 0;
  const stateOf = (row, index) => {
    if (row.draining) return "draining";
    if (index === 0) return "this one";
    if (missing[row.node]) return row.linked ? "does not answer" : "no link";
    return row.linked ? "linked" : "no link";
  };
  nodes.show(rows.map((row, index) => ({ ...row, state: stateOf(row, index) })));
  const names = Object.keys(missing).sort();
  $("nodes-missing").hidden = names.length === 0;
  setText($("nodes-missing"), names.length ? `The figures lack ${names.join(", ")}: ${missing[names[0]]}.` : "");
}

export const overview = {
  name: "overview",
  title: "Overview",

  open() {},

  async ask() {
    const [callbacks] = await Promise.all([
      look(`/api/callbacks${query({ sort: "rate", order: "descending", limit: String(BUSIEST) })}`),
      charts.refresh("/api/history"),
    ]);
    return callbacks;
  },

  show(state, callbacks) {
    showNow(state);
    showNodes(state);
    showErrors(state);
    busiest.show(callbacks.rows);
    $("busiest").hidden = callbacks.rows.length === 0;
    $("busiest-none").hidden = callbacks.rows.length > 0;
    events.show([...state.events].reverse());
    $("events").hidden = state.events.length === 0;
    $("events-none").hidden = state.events.length > 0;
  },
};
