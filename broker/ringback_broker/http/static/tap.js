// The live tap: calls one by one as they end, while somebody watches them. Three views have one.

import { query, send } from "./ask.js";
import { tapColumns } from "./columns.js";
import { $, goTo, setText } from "./dom.js";
import { Table } from "./table.js";
import { count, milliseconds, typedID } from "./text.js";

const ASK_MS = 700;
const MAX_SHOWN = 200;
const NOT_WATCHED =
  "Nothing is watched. While calls are watched, endpoints report each of them. So watching starts only when you ask for it.";

/** Return the smallest value that a share of sorted values does not exceed. */
const percentile = (values, share) => values[Math.max(0, Math.ceil(share * values.length) - 1)] ?? null;

export class Tap {
  /**
   * @param {HTMLElement} place
   * @param {{verb?: string, without?: string[], prepare?: () => void}} options the text of the button, the columns
   *   that are left out, and what to do before watching begins
   */
  constructor(place, { verb = "Watch calls", without = [], prepare = () => {} } = {}) {
    place.append($("tap-template").content.cloneNode(true));
    const find = (selector) => place.querySelector(selector);
    this.button = find(".watch");
    this.verb = verb;
    this.prepare = prepare;
    this.counts = find(".tapcount");
    this.problem = find(".wrong");
    this.none = find(".none");
    this.scroll = find(".scroll");
    setText(this.button, verb);
    this.table = new Table(find("table"), tapColumns.filter(({ name }) => !without.includes(name)), (row) => String(row.number));
    this.button.addEventListener("click", () => (this.watching ? this.stop() : this.start()));
    find(".clear").addEventListener("click", () => this.#clear());
    this.filter = "";
    this.#clear();
  }

  /** Choose which calls: the fields of a request in JSON. What is watched goes on with the new filter. */
  choose(fields) {
    const filter = fields.join(", ");
    if (filter === this.filter) return;
    this.filter = filter;
    this.after = "null";
    this.#clear();
  }

  start() {
    this.prepare();
    this.watching = true;
    this.after = "null";
    this.button.setAttribute("aria-pressed", "true");
    setText(this.button, "Stop watching");
    this.#show();
    this.#ask();
  }

  /** Stop. The broker stops watching soon after nobody asks any more. */
  stop() {
    this.watching = false;
    clearTimeout(this.timer);
    this.button.setAttribute("aria-pressed", "false");
    setText(this.button, this.verb);
    this.#show();
  }

  #clear() {
    this.calls = [];
    this.seen = this.failed = this.dropped = 0;
    this.#show();
  }

  async #ask() {
    clearTimeout(this.timer);
    const { filter } = this;
    try {
      const answer = await send("/api/tap", `{${[filter, `"after": ${this.after}`].filter(Boolean).join(", ")}}`);
      if (!this.watching || filter !== this.filter) return;
      if (answer.error) throw new Error(`${answer.error.code}: ${answer.error.message}`);
      this.#take(answer);
      this.#say("");
    } catch (error) {
      this.#say(error.message);
      this.stop();
    } finally {
      if (this.watching) this.timer = setTimeout(() => this.#ask(), document.hidden ? 4 * ASK_MS : ASK_MS);
    }
  }

  #say(problem) {
    this.problem.hidden = !problem;
    setText(this.problem, problem);
  }

  #take({ after, calls, dropped, missing }) {
    this.after = after;
    this.dropped += dropped;
    for (const call of calls) call.number = ++this.seen;
    this.failed += calls.filter((call) => call.outcome !== "OK").length;
    this.calls = [...calls.reverse(), ...this.calls].slice(0, MAX_SHOWN);
    this.missing = Object.keys(missing).sort();
    this.#show();
  }

  #show() {
    this.table.show(this.calls);
    this.scroll.hidden = this.calls.length === 0;
    this.none.hidden = this.calls.length > 0;
    setText(this.none, this.watching ? "Nothing so far." : NOT_WATCHED);
    const took = this.calls.map((call) => call.ms).filter((ms) => ms !== null).sort((one, other) => one - other);
    const ended = this.filter.includes('"errors": true') ? [] : [`${count(this.seen)} ${this.seen === 1 ? "call" : "calls"}`];
    const parts = [...ended, `${count(this.failed)} failed`, `${count(this.dropped)} dropped`];
    if (took.length) parts.push(`p50 ${milliseconds(percentile(took, 0.5))} ms`, `p99 ${milliseconds(percentile(took, 0.99))} ms`);
    if (this.missing?.length) parts.push(`without ${this.missing.join(", ")}`);
    setText(this.counts, parts.join(" · "));
  }
}

/** Put the filter of the form into the address. */
function apply() {
  const given = { key: $("tap-key").value.trim(), player: $("tap-player").value.trim(), errors: $("tap-errors").checked ? "1" : "" };
  const address = `#/tap${query(given)}`;
  if (address !== (location.hash || "#/")) goTo(address);
}

const tap = new Tap(document.querySelector("[data-tap=all]"), { prepare: apply });

$("tap-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (tap.watching) apply();
  else tap.start();
});

export const tapView = {
  name: "tap",
  title: "Live tap",

  open(_path, given) {
    const [key, player, errors] = ["key", "player", "errors"].map((name) => given.get(name) ?? "");
    $("tap-key").value = key;
    $("tap-player").value = player;
    $("tap-errors").checked = errors === "1";
    tap.choose([
      ...(key ? [`"key": ${JSON.stringify(key)}`] : []),
      ...(player ? [`"player_id": ${typedID(player)}`] : []),
      ...(errors === "1" ? ['"errors": true'] : []),
    ]);
  },
  ask() {},
  show() {},
  close() {
    tap.stop();
  },
};
