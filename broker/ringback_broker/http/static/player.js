// The view of one player.

import { look, send } from "./ask.js";
import { eventColumns, eventKey } from "./columns.js";
import { confirmThat } from "./confirm.js";
import { $, setText, showFigures } from "./dom.js";
import { Failures } from "./failures.js";
import { Table } from "./table.js";
import { Tap } from "./tap.js";
import { count, duration, idText, milliseconds, parse, plain, rate } from "./text.js";

const events = new Table($("player-events"), eventColumns.filter(({ name }) => name !== "player"), eventKey);
const failures = new Failures("player-failures", ["player"]);
const tap = new Tap(document.querySelector("[data-tap=player]"), { without: ["player"] });

let id = ""; // in JSON
let before = null;

/** Return how many calls ended in a second, between two answers. */
function pace(row) {
  const now = performance.now();
  const last = before;
  if (!last || last.id !== id || row.calls < last.calls) before = { id, calls: row.calls, at: now, rate: null };
  else if (now - last.at > 900) before = { id, calls: row.calls, at: now, rate: (1000 * (row.calls - last.calls)) / (now - last.at) };
  return before.rate;
}

function figures(row) {
  return [
    ...(row.node === undefined ? [] : [["node", plain(row.node)]]),
    ["connected", duration(row.connected_s)],
    ["last heard", duration(row.heard_s), "since its last frame"],
    ["calls", count(row.calls), "both ways, since the player joined"],
    ["calls per second", rate(pace(row)), "between two answers"],
    ["in flight", count(row.in_flight), "calls both ways, at the latest report"],
    ["errors", count(row.errors), "calls that failed, since the player joined"],
    ["RTT ms", milliseconds(row.rtt_ms), "the least of the last five minutes, as the kernel measures it"],
    ["window %", rate(row.window_percent), "bytes sent to it and not confirmed yet"],
    ["callbacks", count(row.callbacks), "keys that it has registered"],
    ["IP", plain(row.ip)],
    ...(row.identity ? [["identity", row.identity]] : []),
  ];
}

$("kick").addEventListener("click", () => {
  const whom = id;
  confirmThat({
    title: `Kick player ${idText(parse(whom))}?`,
    text: "Its session ends, and it does not connect again by itself. It may start again.",
    yes: "Kick",
    label: "Reason, for the player and the log",
    act: (reason) => send("/api/kick", `{"player_id": ${whom}, "reason": ${JSON.stringify(reason)}}`),
  });
});

export const playerView = {
  name: "player",
  title: "Player",

  open([given]) {
    id = given ?? "";
    let shown = id;
    try {
      shown = idText(parse(id));
    } catch {
      // the broker says what is wrong with it
    }
    this.title = `Player ${shown}`;
    setText($("player-title"), this.title);
    $("player-trigger").href = `#/trigger?side=player&whom=${encodeURIComponent(shown)}`;
    tap.choose([`"player_id": ${id}`]);
  },

  ask: () => look(`/api/player?id=${encodeURIComponent(id)}`),

  show(_state, { rows, events: latest, failures: failed }) {
    $("player-none").hidden = rows.length > 0;
    $("player-figures").hidden = rows.length === 0;
    $("kick").hidden = rows.length === 0;
    if (rows.length) showFigures($("player-figures"), figures(rows[0]));
    failures.show(failed);
    events.show([...latest].reverse());
    $("player-events").hidden = latest.length === 0;
    $("player-events-none").hidden = latest.length > 0;
  },

  close() {
    tap.stop();
  },
};
