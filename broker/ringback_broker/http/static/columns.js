// The columns of the tables that several views show, and the addresses of views.

import { clock, count, duration, idJSON, idText, milliseconds, moment, OTHERS, plain, rate, worried } from "./text.js";

export const playerView = (id) => `#/player/${encodeURIComponent(idJSON(id))}`;
export const callbackView = (row) => `#/callback/${row.side}/${encodeURIComponent(row.key)}`;

const way = (side) => (side === "server" ? "player → server" : "server → player");
const took = "of the handler at the server, or there and back for a player’s callback";
const since = "since the broker started";
const lately = "in the last minute, at most 2 % wrong";

export const callbackColumns = [
  { name: "key", title: "key", text: (key) => key || OTHERS, link: callbackView, kind: "code" },
  { name: "node", title: "node", text: plain, rare: true },
  { name: "side", title: "side", text: plain },
  { name: "endpoints", title: "endpoints", text: count, kind: "number" },
  { name: "rate", title: "calls per second", text: rate, kind: "number", about: "calls that ended, in the last minute" },
  { name: "in_flight", title: "in flight", text: count, kind: "number" },
  { name: "p50_ms", title: "p50 ms", text: milliseconds, kind: "number", about: `half of the calls took at most this long, ${lately}` },
  { name: "p99_ms", title: "p99 ms", text: milliseconds, kind: "number", about: `99 % of the calls took at most this long, ${lately}` },
  { name: "calls", title: "calls", text: count, kind: "number", about: `that have ended, ${since}` },
  { name: "errors", title: "errors", text: count, kind: "number", look: worried, about: `calls that failed, ${since}` },
];
export const callbackKey = (row) => `${row.node ?? ""} ${row.side} ${row.key}`;

export const playerColumns = [
  { name: "player", title: "ID", text: idText, link: (row) => playerView(row.player), kind: "code" },
  { name: "node", title: "node", text: plain, rare: true },
  { name: "connected_s", title: "connected", text: duration, kind: "number" },
  { name: "callbacks", title: "callbacks", text: count, kind: "number" },
  { name: "calls", title: "calls", text: count, kind: "number", about: "both ways, since the player joined" },
  { name: "errors", title: "errors", text: count, kind: "number", look: worried, about: "calls that failed, since the player joined" },
  { name: "in_flight", title: "in flight", text: count, kind: "number", about: "calls both ways, at the latest report" },
  { name: "rtt_ms", title: "RTT ms", text: milliseconds, kind: "number", about: "the least of the last five minutes, as the kernel measures it" },
  { name: "heard_s", title: "last heard", text: duration, kind: "number" },
  { name: "window_percent", title: "window %", text: rate, kind: "number", about: "bytes sent to it and not confirmed yet" },
  { name: "ip", title: "IP", text: plain },
  { name: "identity", title: "identity", text: plain, rare: true },
];
export const playerKey = (row) => `${row.node ?? ""} ${idText(row.player)}`;

export const eventColumns = [
  { name: "unix_s", title: "time", text: (at) => clock(new Date(at * 1000)) },
  { name: "node", title: "node", text: plain, rare: true },
  { name: "event", title: "event", text: plain, look: (event) => `event-${event}` },
  { name: "role", title: "role", text: plain },
  {
    name: "player",
    title: "player",
    text: idText,
    link: (row) => (row.player === null || row.player === undefined ? null : playerView(row.player)),
    kind: "code",
  },
  { name: "ip", title: "IP", text: plain },
  { name: "identity", title: "identity", text: plain, rare: true },
  { name: "reason", title: "reason", text: (reason, row) => plain([row.code, reason].filter(Boolean).join(": ")), kind: "long" },
];
export const eventKey = (row) => `${row.node ?? ""} ${row.number} ${row.unix_s}`;

export const failureColumns = [
  { name: "unix_s", title: "time", text: (at) => moment(new Date(at * 1000)) },
  { name: "node", title: "node", text: plain, rare: true },
  { name: "side", title: "way", text: way },
  { name: "player", title: "player", text: idText, link: (row) => playerView(row.player), kind: "code" },
  { name: "key", title: "key", text: plain, link: callbackView, kind: "code" },
  { name: "code", title: "code", text: plain, look: () => "bad" },
  { name: "ms", title: "ms", text: milliseconds, kind: "number", about: took },
];
export const failureKey = eventKey;

const milli = (at) => String(Math.floor(at * 1000) % 1000).padStart(3, "0");

export const tapColumns = [
  { name: "unix_s", title: "time", text: (at) => `${clock(new Date(at * 1000))}.${milli(at)}` },
  { name: "node", title: "node", text: plain, rare: true },
  { name: "side", title: "way", text: way },
  { name: "player", title: "player", text: idText, link: (row) => playerView(row.player), kind: "code" },
  { name: "key", title: "key", text: plain, link: callbackView, kind: "code" },
  { name: "outcome", title: "outcome", text: plain, look: (outcome) => (outcome === "OK" ? "" : "bad") },
  { name: "ms", title: "ms", text: milliseconds, kind: "number", about: took },
];
