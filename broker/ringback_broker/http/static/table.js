// Tables. Rows are kept by key and changed in place, so that focus and selection stay.

import { made, setText } from "./dom.js";

/**
 * A column has a name (of the field), a title, and a function `text(value, row)`. It may have
 * `kind` (a class), `rare` (hidden if no row has a value), `link(row)` (an address), `press(row)` with
 * `can(row)` (a button), `look(value)` (another class), `about` (a hint) and `sortable`.
 */
export class Table {
  /**
   * @param {HTMLTableElement} table
   * @param {object[]} columns
   * @param {(row: object) => string} keyOf
   * @param {((column: object) => void)?} onSort is called when a head is pressed
   */
  constructor(table, columns, keyOf, onSort = null) {
    this.table = table;
    this.body = table.tBodies[0] ?? table.createTBody();
    this.columns = columns;
    this.keyOf = keyOf;
    this.rows = new Map();
    this.data = [];
    const head = table.createTHead().insertRow();
    this.heads = columns.map((column) => this.#head(head, column, onSort));
  }

  #head(row, column, onSort) {
    const head = made("th", { scope: "col", className: column.kind === "number" ? "number" : "" });
    if (column.about) head.title = column.about;
    if (onSort) {
      const button = made("button", { type: "button", textContent: column.title });
      button.addEventListener("click", () => onSort(column));
      head.append(button);
    } else {
      head.textContent = column.title;
    }
    row.append(head);
    return head;
  }

  /** Show by which column the rows are sorted. */
  showOrder(sort, order) {
    this.columns.forEach((column, index) => {
      if (column.name === sort) this.heads[index].setAttribute("aria-sort", order);
      else this.heads[index].removeAttribute("aria-sort");
    });
  }

  show(data) {
    this.data = data;
    const focused = document.activeElement;
    const gone = new Set(this.rows.keys());
    data.forEach((values, position) => {
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
  }

  /** Hide a column that is empty in all rows: an older broker has fewer columns, and one without keys no identities. */
  #showColumn(column, index) {
    const isThere = (row) => row[column.name] !== undefined && (row[column.name] !== null || !column.rare);
    const hidden = !column.press && (this.data.length > 0 ? !this.data.some(isThere) : Boolean(column.rare));
    for (const row of [this.heads[index].parentElement, ...this.body.rows]) row.cells[index].hidden = hidden;
  }

  #made() {
    const row = { element: document.createElement("tr"), values: {} };
    for (const [index, column] of this.columns.entries()) {
      const cell = document.createElement(index === 0 ? "th" : "td");
      if (index === 0) cell.scope = "row";
      if (column.kind) cell.className = column.kind;
      if (column.link) cell.append(document.createElement("a"));
      if (column.press) {
        const button = made("button", { type: "button" });
        button.addEventListener("click", () => column.press(row.values));
        cell.append(button);
      }
      row.element.append(cell);
    }
    return row;
  }

  #fill(cell, column, values) {
    const text = column.text(values[column.name], values);
    const inner = cell.firstElementChild;
    setText(inner ?? cell, text);
    if (column.link) {
      const address = column.link(values);
      if (address) inner.href = address;
      else inner.removeAttribute("href");
      inner.title = text;
    }
    if (column.kind === "code" || column.kind === "long") cell.title = text;
    if (column.press) inner.hidden = !column.can(values);
    if (column.look) cell.className = `${column.kind ?? ""} ${column.look(values[column.name])}`.trim();
  }
}
