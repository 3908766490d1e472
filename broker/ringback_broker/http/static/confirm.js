// The dialog that asks before an order is given. It stays open if the order fails, and says why.

import { $, setText } from "./dom.js";

const dialog = $("confirm");
let act = null;

/**
 * Ask, and do it if the answer is yes.
 * @param {{title: string, text: string, yes: string, label?: string, act: (typed: string) => Promise<object>}} what
 *   `act` returns the broker's answer. If that has an error, the dialog shows it.
 */
export function confirmThat({ title, text, yes, label, act: chosen }) {
  act = chosen;
  setText($("confirm-title"), title);
  setText($("confirm-text"), text);
  setText($("confirm-yes"), yes);
  setText($("confirm-error"), "");
  $("confirm-field").hidden = !label;
  setText($("confirm-label"), label ?? "");
  $("confirm-input").value = "";
  dialog.showModal();
  (label ? $("confirm-input") : $("confirm-no")).focus();
}

$("confirm-no").addEventListener("click", () => dialog.close());
$("confirm-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if ($("confirm-yes").getAttribute("aria-disabled") === "true") return;
  $("confirm-yes").setAttribute("aria-disabled", "true");
  try {
    const { error } = await act($("confirm-input").value);
    if (error) setText($("confirm-error"), `${error.code}: ${error.message}`);
    else dialog.close();
  } catch (error) {
    setText($("confirm-error"), `No answer: ${error.message}`);
  } finally {
    $("confirm-yes").removeAttribute("aria-disabled");
  }
});
