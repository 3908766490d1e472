// The dashboard's page. It shows everything that comes from peers as text, never as HTML.

const POLL_MS = 1000;
const ANSWER_MS = 8000;
const PACE_POINTS = 60;
const MAX_SHOWN_CHARS = 100_000;
const TOKEN = "ringback-token";
const OTHERS = "(others)"; // stands for keys that are not counted apart, and for unknown keys

const $ = (id) => document.getElementById(id);

// -- JSON without loss: player IDs go up to 2**63-1, and a double cannot hold them all

const exact = (_key, value, context) =>
  Number.isInteger(value) && !Number.isSafeInteger(value) && context && JSON.rawJSON
    ? JSON.rawJSON(context.source)
    : value;
const parse = (text) => JSON.parse(text, exact);
const isRaw = (value) => Boolean(JSON.isRawJSON?.(value));

/** Return the text of a player ID. A str that looks like an int is in quotes. */
function idText(id) {
  if (id === null || id === undefined) return "–";
  if (isRaw(id)) return id.rawJSON;
  return typeof id === "string" && /^(\d+|".*")$/.test(id) ? JSON.stringify(id) : String(id);
}

/** Return the JSON of a player ID that somebody typed. */
function idJSON(text) {
  if (/^\d+$/.test(text)) return text.replace(/^0+(?=\d)/, "");
  if (/^".*"$/.test(text)) {
    try {
      return JSON.stringify(JSON.parse(text));
    } catch {
      // what is between the quotes is not JSON, so it is meant as it stands
    }
  }
  return JSON.stringify(text);
}

// -- text of values

const unknown = "–";
const known = { maximumSignificantDigits: 3 }; // percentiles and round-trip times are not known any better
const plain = (value) => (value === null || value === undefined || value === "" ? unknown : String(value));
const count = (value) => (value === null || value === undefined ? unknown : Number(value).toLocaleString("en"));
const rate = (value) =>
  value === null || value === undefined
    ? unknown
    : value.toLocaleString("en", value < 100 ? known : { maximumFractionDigits: 0 });
const milliseconds = (value) =>
  value === null || value === undefined ? unknown : value.toLocaleString("en", known);

function duration(seconds) {
  if (seconds === null || seconds === undefined) return unknown;
  if (seconds < 100) return `${Math.floor(seconds)} s`;
  if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}
const clock = (date) => date.toLocaleTimeString("en-GB");

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// -- tables: rows are kept by key and changed in place, so that focus and selection stay

class Table {
  /**
   * @param {string} id of the table
   * @param {{name: string, title: string, text: Function, kind?: string, rare?: boolean, use?: Function, look?: Function}[]} columns
   * @param {(row: object) => string} keyOf
   */
  constructor(id, columns, keyOf, sortable = true) {
    this.table = $(id);
    this.body = this.table.tBodies[0];
    this.columns = columns;
    this.keyOf = keyOf;
    this.rows = new Map();
    this.data = [];
    this.order = null;
    const head = this.table.tHead.insertRow();
    this.heads = columns.map((column) => this.#head(head, column, sortable));
  }

  #head(row, column, sortable) {
    const head = document.createElement("th");
    head.scope = "col";
    if (column.about) head.title = column.about;
    if (column.kind === "number") head.className = "number";
    if (sortable) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = column.title;
      button.addEventListener("click", () => this.#sortBy(column));
      head.append(button);
    } else {
      head.textContent = column.title;
    }
    row.append(head);
    return head;
  }

  /** Sort one way, then the other way, then as the broker sorts. */
  #sortBy(column) {
    const first = column.kind === "number" ? -1 : 1;
    if (this.order?.column !== column) this.order = { column, way: first };
    else this.order = this.order.way === first ? { column, way: -first } : null;
    this.columns.forEach((other, index) => {
      if (this.order?.column === other)
        this.heads[index].setAttribute("aria-sort", this.order.way > 0 ? "ascending" : "descending");
      else this.heads[index].removeAttribute("aria-sort");
    });
    this.show(this.data);
  }

  #sorted(data) {
    if (!this.order) return data;
    const { column, way } = this.order;
    const value = (row) => (isRaw(row[column.name]) ? Number(row[column.name].rawJSON) : row[column.name]);
    const missing = (one) => one === null || one === undefined;
    return [...data].sort((left, right) => {
      const [a, b] = [value(left), value(right)];
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      if (typeof a === "number" && typeof b === "number") return way * (a - b);
      return way * String(a).localeCompare(String(b), "en", { numeric: true });
    });
  }

  show(data) {
    this.data = data;
    const focused = document.activeElement;
    const gone = new Set(this.rows.keys());
    this.#sorted(data).forEach((values, position) => {
      const key = this.keyOf(values);
      gone.delete(key);
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, (row = this.#made()));
      row.values = values;
      this.columns.forEach((column, index) => this.#fill(row.element.cells[index], column, values));
      if (this.body.rows[position] !== row.element)
        this.body.insertBefore(row.element, this.body.rows[position] ?? null);
    });
    for (const key of gone) {
      this.rows.get(key).element.remove();
      this.rows.delete(key);
    }
    this.columns.forEach((column, index) => this.#showColumn(column, index));
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    this.table.hidden = data.length === 0 && this.table.id in { errors: 0, events: 0 };
  }

  /** Hide a column that is empty in all rows: an older broker has fewer columns, and one without keys no identities. */
  #showColumn(column, index) {
    const isThere = (row) => row[column.name] !== undefined && (row[column.name] !== null || !column.rare);
    const hidden = this.data.length > 0 && !this.data.some(isThere);
    for (const row of [this.heads[index].parentElement, ...this.body.rows]) row.cells[index].hidden = hidden;
  }

  #made() {
    const row = { element: document.createElement("tr"), values: {} };
    for (const [index, column] of this.columns.entries()) {
      const cell = document.createElement(index === 0 ? "th" : "td");
      if (index === 0) cell.scope = "row";
      if (column.kind) cell.className = column.kind;
      if (column.use) {
        const button = document.createElement("button");
        button.type = "button";
        button.addEventListener("click", () => column.use(row.values));
        cell.append(button);
      }
      row.element.append(cell);
    }
    return row;
  }

  #fill(cell, column, values) {
    const text = column.text(values[column.name], values);
    setText(cell.firstElementChild ?? cell, text);
    if (column.use) cell.firstElementChild.title = text;
    if (column.look) cell.className = `${column.kind ?? ""} ${column.look(values[column.name])}`.trim();
  }
}

const since = "since the broker started";
const lately = "in the last minute, at most 2 % wrong";
const worried = (value) => (value > 0 ? "bad" : "");

const callbacks = new Table(
  "callbacks",
  [
    { name: "key", title: "key", text: (key) => key || OTHERS, use: useCallback },
    { name: "node", title: "node", text: plain, rare: true },
    { name: "side", title: "side", text: plain },
    { name: "endpoints", title: "endpoints", text: count, kind: "number" },
    { name: "rate", title: "calls per second", text: rate, kind: "number", about: "calls that ended, in the last minute" },
    { name: "in_flight", title: "in flight", text: count, kind: "number" },
    { name: "p50_ms", title: "p50 ms", text: milliseconds, kind: "number", about: `half of the calls took at most this long, ${lately}` },
    { name: "p99_ms", title: "p99 ms", text: milliseconds, kind: "number", about: `99 % of the calls took at most this long, ${lately}` },
    { name: "calls", title: "calls", text: count, kind: "number", about: `that have ended, ${since}` },
    { name: "errors", title: "errors", text: count, kind: "number", look: worried, about: `calls that failed, ${since}` },
  ],
  (row) => `${row.node ?? ""} ${row.side} ${row.key}`,
);
const players = new Table(
  "players",
  [
    { name: "player", title: "ID", text: idText, use: usePlayer },
    { name: "node", title: "node", text: plain, rare: true },
    { name: "connected_s", title: "connected", text: duration, kind: "number" },
    { name: "callbacks", title: "callbacks", text: count, kind: "number" },
    { name: "calls", title: "calls", text: count, kind: "number", about: "both ways, since the player joined" },
    { name: "errors", title: "errors", text: count, kind: "number", look: worried, about: "calls that failed, since the player joined" },
    { name: "rtt_ms", title: "RTT ms", text: milliseconds, kind: "number", about: "the least of the last five minutes, as the kernel measures it" },
    { name: "heard_s", title: "last heard", text: duration, kind: "number" },
    { name: "window_percent", title: "window %", text: rate, kind: "number" },
    { name: "ip", title: "IP", text: plain },
    { name: "identity", title: "identity", text: plain, rare: true },
  ],
  (row) => `${row.node ?? ""} ${idText(row.player)}`,
);
const serversText = (acting, standbys) => (acting ? "acts" : unknown) + (standbys ? `, ${count(standbys)} standing by` : "");
const nodes = new Table(
  "nodes",
  [
    { name: "node", title: "node", text: plain },
    { name: "state", title: "state", text: plain, look: (state) => (state === "linked" || state === "this one" ? "" : "bad") },
    { name: "players", title: "players", text: count, kind: "number" },
    { name: "acting", title: "server", text: (acting, row) => serversText(acting, row.standbys) },
    { name: "frames_s", title: "frames per second", text: rate, kind: "number", about: "frames that it passes on; one between two nodes counts at both" },
    { name: "since_unix_s", title: "runs", text: (since) => duration(Date.now() / 1000 - since), kind: "number" },
    { name: "renewed_s", title: "renewed", text: duration, kind: "number", about: "how long ago it renewed its record, which says all this" },
    { name: "software", title: "software", text: plain },
  ],
  (row) => `${row.node} ${row.boot}`,
);
const errors = new Table(
  "errors",
  [
    { name: "name", title: "what", text: (name) => (name.includes(":") ? name : name.replaceAll("_", " ")) },
    { name: "total", title: "total", text: count, kind: "number", about: since },
    { name: "rate", title: "per second", text: rate, kind: "number", look: worried, about: "since the answer before, about a second ago" },
  ],
  (row) => row.name,
);
const events = new Table(
  "events",
  [
    { name: "unix_s", title: "time", text: (at) => clock(new Date(at * 1000)) },
    { name: "node", title: "node", text: plain, rare: true },
    { name: "event", title: "event", text: plain, look: (event) => `event-${event}` },
    { name: "role", title: "role", text: plain },
    { name: "player", title: "player", text: idText, kind: "code" },
    { name: "ip", title: "IP", text: plain },
    { name: "identity", title: "identity", text: plain, rare: true },
    { name: "reason", title: "reason", text: (reason, row) => plain([row.code, reason].filter(Boolean).join(": ")), kind: "long" },
  ],
  (row) => `${row.node ?? ""} ${row.number} ${row.unix_s}`,
  false,
);

/** Return whether a counter counts something that went wrong. */
const isError = (name) =>
  /^(bounced|refused|handshakes|connections)_/.test(name) ||
  /^sessions_(expired|too_slow|too_fast|revoked|replaced|kicked)$/.test(name) ||
  ["messages_unfinished", "malformed", "violations", "stranger_messages", "dropped"].includes(name);

// -- the state

const pace = [];

function show(state) {
  setText($("version"), state.version.replace("ringback/", ""));
  setText($("now-players"), count(state.sessions.player));
  setText($("now-operators"), count(state.sessions.operator));
  const standbys = state.standbys ? `, ${count(state.standbys)} standing by` : "";
  setText($("now-server"), (state.sessions.server ? "connected" : "none") + standbys);
  $("now-server").className = state.sessions.server ? "" : "absent";
  showPace(state);
  const rates = Object.entries(state.rates);
  const bounced = rates.filter(([name]) => name.startsWith("bounced_")).reduce((sum, [, value]) => sum + value, 0);
  setText($("now-bounced"), rates.length ? rate(bounced) : unknown);
  callbacks.show(state.callbacks.rows);
  players.show(state.players.rows);
  showNodes(state);
  showCount("callbacks", state.callbacks);
  showCount("players", state.players);
  const wrong = Object.entries(state.counters)
    .filter(([name, total]) => total > 0 && isError(name))
    .map(([name, total]) => ({ name, total, rate: state.rates[name] }));
  for (const [code, total] of Object.entries(state.failed))
    wrong.push({ name: `calls failed: ${code}`, total, rate: state.failed_rates[code] });
  errors.show(wrong);
  $("errors-none").hidden = wrong.length > 0;
  events.show([...state.events].reverse());
  $("events-none").hidden = state.events.length > 0;
  showKeys();
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

function showPace({ calls_a_second: now }) {
  setText($("pace"), rate(now));
  if (now === null) return;
  pace.push(now);
  if (pace.length > PACE_POINTS) pace.shift();
  const most = Math.max(1, ...pace);
  const first = PACE_POINTS - pace.length;
  const points = pace.map((value, index) => `${((first + index) * 240) / (PACE_POINTS - 1)},${39 - (37 * value) / most}`);
  const [area, line] = $("pace-line").children;
  line.setAttribute("points", points.join(" "));
  area.setAttribute("points", [...points, "240,40", `${(first * 240) / (PACE_POINTS - 1)},40`].join(" "));
}

function showCount(name, { total, matching, rows }) {
  const shown = rows.length < matching ? `the first ${count(rows.length)} of ` : "";
  setText($(`${name}-count`), matching < total ? `${shown}${count(matching)} that match, of ${count(total)}` : shown + count(total));
}

function showKeys() {
  const side = chosenSide();
  const keys = [...new Set(callbacks.data.filter((row) => row.side === side && row.endpoints > 0).map((row) => row.key))];
  const list = $("keys");
  if (keys.join("\n") === [...list.options].map((option) => option.value).join("\n")) return;
  list.replaceChildren(...keys.map((key) => Object.assign(document.createElement("option"), { value: key })));
}

// -- asking

class Unauthorized extends Error {}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.status === 401) throw new Unauthorized();
  const text = await response.text();
  try {
    return parse(text);
  } catch {
    throw new Error(text.slice(0, 300) || `HTTP ${response.status}`);
  }
}

let timer = 0;
let asking = false;
let paused = false;
let lastAnswer = null;
let failingSince = null;

async function poll() {
  if (asking || paused || document.hidden) return;
  asking = true;
  clearTimeout(timer);
  const filter = new URLSearchParams({ player: $("players-filter").value, callback: $("callbacks-filter").value });
  try {
    const state = await ask(`/api/state?${filter}`, { signal: AbortSignal.timeout(ANSWER_MS) });
    if (state.error) throw new Error(`${state.error.code}: ${state.error.message}`);
    lastAnswer = new Date();
    failingSince = null;
    $("login").hidden = true;
    $("board").hidden = false;
    show(state);
    showLink(state.draining ? "draining" : "live");
  } catch (error) {
    if (error instanceof Unauthorized) {
      asking = false;
      askForToken();
      return;
    }
    failingSince ??= new Date();
    showLink("lost", error);
  }
  asking = false;
  timer = setTimeout(poll, POLL_MS);
}

function showLink(state, error) {
  const texts = { live: "live", paused: "paused", lost: "no answer", draining: "the broker is stopping" };
  $("link").dataset.state = state;
  setText($("link-text"), texts[state]);
  $("main").classList.toggle("stale", state === "lost");
  const banner = $("banner");
  banner.hidden = state !== "lost";
  if (state !== "lost") return;
  const why = error.name === "TimeoutError" ? "it does not answer in time" : error.name === "TypeError" ? "it cannot be reached" : error.message;
  const figures = lastAnswer ? ` The figures are from ${clock(lastAnswer)}.` : "";
  setText(banner, `The broker has not answered since ${clock(failingSince)}: ${why}.${figures}`);
}

function askForToken() {
  const wrong = sessionStorage.getItem(TOKEN) !== null;
  sessionStorage.removeItem(TOKEN);
  $("board").hidden = true;
  $("login").hidden = false;
  $("link").dataset.state = "waiting";
  setText($("link-text"), "token needed");
  setText($("login-error"), wrong ? "The broker does not accept this token." : "");
  $("token").focus();
}

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  poll();
});

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) {
    clearTimeout(timer);
    showLink("paused");
  } else {
    poll();
  }
});

for (const name of ["players", "callbacks"]) $(`${name}-filter`).addEventListener("input", () => poll());
document.addEventListener("visibilitychange", () => poll());

// -- the form

const form = $("trigger");
const chosenSide = () => form.elements.side.value;
const names = { server: "dashboard", player: "" };
let side = "server";

function sideChanged() {
  names[side] = $("whom").value;
  side = chosenSide();
  $("whom").value = names[side];
  setText($("whom-name"), side === "server" ? "Source: the caller that the handler sees" : "Player ID");
  showKeys();
  showSchema();
}

let schemaOf = "";

/** Show what the chosen callback takes, if it has said so. */
async function showSchema() {
  const key = $("key").value;
  const wanted = `${side} ${key}`;
  if (wanted === schemaOf) return;
  schemaOf = wanted;
  $("takes").hidden = true;
  if (!key) return;
  try {
    const { schema } = await ask(`/api/schema?side=${side}&key=${encodeURIComponent(key)}`);
    if (schemaOf !== wanted || schema === null || schema === undefined) return;
    setText($("schema"), JSON.stringify(schema, null, 2));
    $("takes").hidden = false;
  } catch {
    schemaOf = ""; // a hint only: the next choice asks again
  }
}

function choose(which) {
  form.elements.side.value = which;
  sideChanged();
}

function useCallback(row) {
  choose(row.side);
  $("key").value = row.key;
  showSchema();
  (row.side === "player" && !$("whom").value ? $("whom") : $("payload")).focus();
}

function usePlayer(row) {
  choose("player");
  $("whom").value = idText(row.player);
  ($("key").value ? $("payload") : $("key")).focus();
}

for (const radio of form.elements.side) radio.addEventListener("change", sideChanged);
$("key").addEventListener("change", showSchema);
$("payload").addEventListener("input", () => $("payload").setCustomValidity(""));
$("payload").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

/** Return the body of the request. It is put together as text, because a double cannot hold all numbers. */
function wanted() {
  const payload = $("payload").value.trim() || "null";
  JSON.parse(payload);
  const whom = side === "server" ? "source" : "player_id";
  return `{"side": "${side}", "key": ${JSON.stringify($("key").value)}, "${whom}": ${idJSON($("whom").value.trim())},
    "payload": ${payload}, "timeout": ${$("timeout").valueAsNumber}}`;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if ($("send").getAttribute("aria-disabled") === "true") return;
  let body;
  try {
    body = wanted();
  } catch (error) {
    $("payload").setCustomValidity(`This is not JSON: ${error.message}`);
    $("payload").reportValidity();
    return;
  }
  $("send").setAttribute("aria-disabled", "true"); // `disabled` would take the focus away
  showOutcome("waiting", "Waiting for the outcome");
  try {
    const answer = await ask("/api/trigger", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    showAnswer(answer);
  } catch (error) {
    if (error instanceof Unauthorized) askForToken();
    const why = error instanceof Unauthorized ? "The broker does not accept the token any more" : `No answer: ${error.message}`;
    showOutcome("error", why);
  } finally {
    $("send").removeAttribute("aria-disabled");
  }
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

function showOutcome(state, line, value) {
  const box = $("outcome");
  box.hidden = false;
  box.dataset.state = state;
  setText($("outcome-line"), line);
  const text = value === undefined ? "" : JSON.stringify(value, null, 2);
  const shown = text.length > MAX_SHOWN_CHARS ? `${text.slice(0, MAX_SHOWN_CHARS)}\n… ${count(text.length)} characters in all` : text;
  $("outcome-value").hidden = value === undefined;
  setText($("outcome-value"), shown);
}

poll();
