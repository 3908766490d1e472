// A view with a table of many rows. The broker filters, sorts and cuts pages; the address has what is shown.

import { look, query } from "./ask.js";
import { $, goTo, made, setText } from "./dom.js";
import { Table } from "./table.js";
import { count } from "./text.js";

const LIMIT = 50;
const TYPING_MS = 250; // a filter is asked for when no further key comes for this long

export class PagedView {
  /**
   * @param {string} name of the view, of its path, and of its table
   * @param {string} title
   */
  constructor(name, title, columns, keyOf) {
    this.name = name;
    this.title = title;
    this.table = new Table($(name), columns, keyOf, (column) => this.#sortBy(column));
    this.filter = $(`${name}-filter`);
    this.filter.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.#go({ match: this.filter.value, page: "" }, true), TYPING_MS);
    });
    this.#makePages($(`${name}-pages`));
  }

  #makePages(place) {
    const button = (text, label, page) => {
      const element = made("button", { type: "button", textContent: text, ariaLabel: label });
      element.addEventListener("click", () => {
        if (element.getAttribute("aria-disabled") !== "true") this.#go({ page: String(page()) });
      });
      return element;
    };
    this.first = button("« First", "First page", () => 1);
    this.previous = button("‹ Previous", "Previous page", () => this.page - 1);
    this.next = button("Next ›", "Next page", () => this.page + 1);
    this.last = button("Last »", "Last page", () => this.pages);
    this.counts = made("p", { id: `${this.name}-count` });
    place.append(this.first, this.previous, this.counts, this.next, this.last);
  }

  /** Change what the address says. Only the filter leaves no step to go back to: it changes with each key. */
  #go(changed, replaces = false) {
    goTo(`#/${this.name}${query({ ...this.given, ...changed })}`, replaces);
  }

  /** Sort one way, then the other way, then as the broker sorts. */
  #sortBy(column) {
    const first = column.kind === "number" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const { sort, order } = this.given;
    if (sort !== column.name) this.#go({ sort: column.name, order: first, page: "" });
    else if (order === first) this.#go({ order: other, page: "" });
    else this.#go({ sort: "", order: "", page: "" });
  }

  open(_path, given) {
    const order = given.get("order") === "descending" ? "descending" : "ascending";
    const sort = given.get("sort") ?? "";
    this.given = { match: given.get("match") ?? "", sort, order: sort && order, page: given.get("page") ?? "" };
    this.page = Math.max(1, Number.parseInt(this.given.page, 10) || 1);
    if (this.filter.value !== this.given.match && document.activeElement !== this.filter) this.filter.value = this.given.match;
    this.table.showOrder(sort, order);
  }

  ask() {
    const { match, sort, order } = this.given;
    const offset = String((this.page - 1) * LIMIT);
    return look(`/api/${this.name}${query({ match, sort, order, offset, limit: String(LIMIT) })}`);
  }

  show(_state, { total, matching, offset, rows }) {
    this.table.show(rows);
    this.page = offset / LIMIT + 1;
    this.pages = Math.max(1, Math.ceil(matching / LIMIT));
    const shown = rows.length ? `${count(offset + 1)}–${count(offset + rows.length)} of ${count(matching)}` : "0";
    setText(this.counts, matching < total ? `${shown} that match, of ${count(total)} in all` : shown);
    for (const [button, works] of [
      [this.first, this.page > 1],
      [this.previous, this.page > 1],
      [this.next, this.page < this.pages],
      [this.last, this.page < this.pages],
    ])
      button.setAttribute("aria-disabled", String(!works)); // `disabled` would take the focus away
  }

  close() {
    clearTimeout(this.typing);
  }
}
