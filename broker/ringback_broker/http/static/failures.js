// The latest calls that failed, of a player or of a callback: also those of before anybody watched.

import { failureColumns, failureKey } from "./columns.js";
import { $, setText } from "./dom.js";
import { Table } from "./table.js";

const NONE = "None that an endpoint has reported.";
const HIDDEN = "This page may not show them: its operator may not give orders, and so not see single calls.";

export class Failures {
  /**
   * @param {string} name of its table
   * @param {string[]} without the columns that are left out
   */
  constructor(name, without) {
    this.scroll = $(name).parentElement;
    this.none = $(`${name}-none`);
    this.table = new Table($(name), failureColumns.filter((column) => !without.includes(column.name)), failureKey);
  }

  /** Show rows; null: the page may not see them. */
  show(rows) {
    this.table.show(rows ?? []);
    this.scroll.hidden = !rows?.length;
    this.none.hidden = Boolean(rows?.length);
    setText(this.none, rows === null ? HIDDEN : NONE);
  }
}
