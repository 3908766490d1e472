// The form that triggers a callback, and its outcome. It is in two views: there is one form, which moves.

import { ask, look, query, send } from "./ask.js";
import { playerView } from "./columns.js";
import { confirmThat } from "./confirm.js";
import { $, made, setText } from "./dom.js";
import { Table } from "./table.js";
import { count, idText, milliseconds, typedID } from "./text.js";

const MAX_SHOWN_CHARS = 100_000;
const card = $("trigger-template").content.firstElementChild;
$("trigger-place").append(card); // so that the elements in it are found
const form = $("trigger");
const names = { server: "dashboard", player: "" };
let side = "server";
let schemaOf = "";

const outcomes = new Table(
  $("outcomes"),
  [
    { name: "player", title: "player", text: idText, link: (row) => playerView(row.player), kind: "code" },
    { name: "outcome", title: "outcome", text: String, kind: "long" },
  ],
  (row) => idText(row.player),
);

/** Show the form in a place, for what is given. The outcome of another call goes away. */
export function showTrigger(place, { side: whose, key, whom, fixed }) {
  if (card.parentElement !== place) place.append(card);
  const subject = `${whose} ${key} ${whom}`;
  if (card.dataset.subject === subject) return;
  card.dataset.subject = subject;
  $("sides").hidden = $("key-field").hidden = Boolean(fixed);
  form.elements.side.value = whose === "player" ? "player" : "server";
  $("key").value = key ?? "";
  sideChanged();
  if (whom) $("whom").value = whom;
  $("outcome").hidden = true;
  showSchema();
}

function sideChanged() {
  names[side] = $("whom").value;
  side = form.elements.side.value;
  $("whom").value = names[side];
  setText($("whom-name"), side === "server" ? "Source: the caller that the handler sees" : "Player ID");
  $("send-all").hidden = side === "server";
  showKeys();
  showSchema();
}

/** Suggest the keys that are registered. */
async function showKeys() {
  const wanted = side;
  try {
    const { rows } = await look(`/api/callbacks${query({ match: $("key").value, limit: "100" })}`);
    const found = [...new Set(rows.filter((row) => row.side === wanted && row.endpoints > 0).map((row) => row.key))];
    $("keys").replaceChildren(...found.map((value) => made("option", { value })));
  } catch {
    // suggestions only
  }
}

/** Show what the chosen callback takes, if it has said so. */
async function showSchema() {
  const key = $("key").value;
  const wanted = `${side} ${key}`;
  if (wanted === schemaOf) return;
  schemaOf = wanted;
  $("takes").hidden = true;
  if (!key) return;
  try {
    const { schema } = await look(`/api/schema?${new URLSearchParams({ side, key })}`);
    if (schemaOf !== wanted || schema === null || schema === undefined) return;
    setText($("schema"), JSON.stringify(schema, null, 2));
    $("takes").hidden = false;
  } catch {
    schemaOf = ""; // a hint only: the next choice asks again
  }
}

for (const radio of form.elements.side) radio.addEventListener("change", sideChanged);
$("key").addEventListener("change", showSchema);
for (const event of ["focus", "input"]) $("key").addEventListener(event, showKeys);
$("payload").addEventListener("input", () => $("payload").setCustomValidity(""));
$("payload").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

/** Return the fields that both kinds of requests have, as text: a double cannot hold all numbers. */
function fields() {
  const payload = $("payload").value.trim() || "null";
  try {
    JSON.parse(payload);
  } catch (error) {
    $("payload").setCustomValidity(`This is not JSON: ${error.message}`);
    $("payload").reportValidity();
    return null;
  }
  return `"key": ${JSON.stringify($("key").value)}, "payload": ${payload}, "timeout": ${$("timeout").valueAsNumber}`;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const common = fields();
  if (common === null || $("send").getAttribute("aria-disabled") === "true") return;
  const whom = side === "server" ? "source" : "player_id";
  const body = `{"side": "${side}", "${whom}": ${typedID($("whom").value.trim())}, ${common}}`;
  $("send").setAttribute("aria-disabled", "true"); // `disabled` would take the focus away
  showOutcome("waiting", "Waiting for the outcome");
  try {
    showAnswer(await send("/api/trigger", body));
  } catch (error) {
    showOutcome("error", `No answer: ${error.message}`);
  } finally {
    $("send").removeAttribute("aria-disabled");
  }
});

$("send-all").addEventListener("click", async () => {
  if (!$("key").reportValidity() || !$("timeout").reportValidity()) return;
  const common = fields();
  if (common === null) return;
  const { sessions } = await ask("/api/state").catch(() => ({}));
  confirmThat({
    title: `Trigger ${$("key").value} on all players?`,
    text: `Each of the ${sessions ? count(sessions.player) : ""} players that are connected gets this call.`,
    yes: "Trigger on all",
    act: async () => {
      const answer = await send("/api/trigger_all", `{${common}}`);
      if (!answer.error) showAll(answer);
      return answer;
    },
  });
});

const ran = { no: "The handler did not run.", maybe: "The handler may have run.", yes: "The handler ran." };

function showAnswer({ results, error, took_ms: took }) {
  const after = took === undefined ? "" : ` after ${milliseconds(took)} ms`;
  if (error) {
    const message = error.message ? `: ${error.message}` : "";
    const data = error.data === null || error.data === undefined ? undefined : error.data;
    showOutcome("error", `${error.code}${message}${after && `,${after}`}. ${ran[error.executed] ?? ""}`, data);
  } else if (results.length === 1) {
    showOutcome("done", `Result${after}`, results[0]);
  } else {
    showOutcome("done", `${results.length || "No"} results${after}`, results.length ? results : undefined);
  }
}

function showAll({ players, counts, other_codes: others, rows, took_ms: took }) {
  const parts = Object.entries(counts).map(([code, times]) => `${count(times)} ${code}`);
  if (others) parts.push(`${count(others)} with other codes`);
  const failed = players - (counts.OK ?? 0);
  const line = `${parts.join(", ") || "nobody"}, of ${count(players)} players after ${milliseconds(took)} ms`;
  showOutcome(failed ? "error" : "done", line);
  const outcome = ({ results, error, cut, chars }) => {
    if (cut !== undefined) return `${cut}… ${count(chars)} characters in all`;
    if (error) return error.message ? `${error.code}: ${error.message}` : error.code;
    return results.length ? results.map((one) => JSON.stringify(one)).join(", ") : "no results";
  };
  outcomes.show(rows.map((row) => ({ player: row.player, outcome: outcome(row) })));
  $("outcomes").parentElement.hidden = rows.length === 0;
}

function showOutcome(state, line, value) {
  const box = $("outcome");
  box.hidden = false;
  box.dataset.state = state;
  setText($("outcome-line"), line);
  const text = value === undefined ? "" : JSON.stringify(value, null, 2);
  const shown = text.length > MAX_SHOWN_CHARS ? `${text.slice(0, MAX_SHOWN_CHARS)}\n… ${count(text.length)} characters in all` : text;
  $("outcome-value").hidden = value === undefined;
  setText($("outcome-value"), shown);
  $("outcomes").parentElement.hidden = true;
}

export const triggerView = {
  name: "trigger",
  title: "Trigger a callback",

  open(_path, given) {
    showTrigger($("trigger-place"), {
      side: given.get("side") ?? "server",
      key: given.get("key") ?? "",
      whom: given.get("whom") ?? "",
    });
  },
  ask() {},
  show() {},
};
