// The dashboard's page: which view is shown, and what it asks the broker once a second.

import { forgetToken, hasToken, keepToken, look, Unauthorized } from "./ask.js";
import { callbackView } from "./callback.js";
import { callbackColumns, callbackKey, playerColumns, playerKey } from "./columns.js";
import { $, setText } from "./dom.js";
import { overview } from "./overview.js";
import { PagedView } from "./paged.js";
import { playerView } from "./player.js";
import { tapView } from "./tap.js";
import { clock } from "./text.js";
import { triggerView } from "./trigger.js";

const POLL_MS = 1000;

/**
 * A view has a name, a title, and functions: `open(path, given)` takes what the address says, `ask()` returns a
 * promise of what it shows, `show(state, answer)` shows it, and `close()`, if there is one, ends what goes on.
 */
const views = [
  overview,
  new PagedView("players", "Players", playerColumns, playerKey),
  new PagedView("callbacks", "Callbacks", callbackColumns, callbackKey),
  playerView,
  callbackView,
  tapView,
  triggerView,
];

// -- which view is shown

let view = null;

/** Return the parts of the address: #/player/7?name=value. */
function address() {
  const [path, given] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { name: parts[0] || "overview", path: parts.slice(1), given: new URLSearchParams(given ?? "") };
}

function navigate() {
  const { name, path, given } = address();
  const before = view;
  view = views.find((one) => one.name === name) ?? overview;
  if (before && before !== view) before.close?.();
  view.open(path, given);
  for (const section of document.querySelectorAll("[data-view]")) section.hidden = section.dataset.view !== view.name;
  const current = { player: "players", callback: "callbacks" }[view.name] ?? view.name;
  for (const link of document.querySelectorAll(".views a")) {
    const leads = (link.getAttribute("href").replace("#/", "") || "overview") === current;
    if (leads) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = view === overview ? "ringback" : `${view.title} · ringback`;
  showProblem(null);
  if (before && before !== view) {
    scrollTo(0, 0);
    $(`${view.name}-title`).focus({ preventScroll: true }); // a screen reader then says where one is
  }
  poll();
}

addEventListener("hashchange", navigate);

// -- asking once a second

let timer = 0;
let asking = false;
let again = false;
let paused = false;
let lastAnswer = null;
let failingSince = null;

async function poll() {
  if (asking) again = true; // the address has changed meanwhile
  if (asking || paused || document.hidden) return;
  clearTimeout(timer);
  asking = true;
  const asked = view;
  const hash = location.hash;
  try {
    const [state, answer] = await Promise.all([look("/api/state"), asked.ask()]);
    take(state, answer, asked === view && hash === location.hash ? asked : null);
  } catch (error) {
    fail(error);
  } finally {
    asking = false;
  }
  if ($("login").hidden) timer = setTimeout(poll, again ? 0 : POLL_MS);
  again = false;
}

/** Show what the broker has answered, unless another view is there by now. */
function take(state, answer, asked) {
  if (state.error) throw new Error(`${state.error.code}: ${state.error.message}`);
  if (answer?.error && answer.error.code !== "BAD_REQUEST") throw new Error(`${answer.error.code}: ${answer.error.message}`);
  lastAnswer = new Date();
  failingSince = null;
  $("login").hidden = true;
  $("board").hidden = false;
  setText($("version"), state.version.replace("ringback/", ""));
  showLink(state.draining ? "draining" : "live");
  if (!asked) return;
  showProblem(answer?.error ?? null);
  if (!answer?.error) asked.show(state, answer);
}

function showProblem(error) {
  $("view-error").hidden = !error;
  setText($("view-error"), error ? error.message : "");
}

function fail(error) {
  if (error instanceof Unauthorized) {
    askForToken();
    return;
  }
  failingSince ??= new Date();
  showLink("lost", error);
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
  const wrong = hasToken();
  forgetToken();
  $("board").hidden = true;
  $("login").hidden = false;
  $("link").dataset.state = "waiting";
  setText($("link-text"), "token needed");
  setText($("login-error"), wrong ? "The broker does not accept this token." : "");
  $("token").focus();
}

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken($("token").value.trim());
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

document.addEventListener("visibilitychange", () => poll());

navigate();
