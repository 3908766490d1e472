// Asking the broker.

import { parse } from "./text.js";

const TOKEN = "ringback-token";
const ANSWER_MS = 8000;

export class Unauthorized extends Error {}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;
export const forgetToken = () => sessionStorage.removeItem(TOKEN);
export const keepToken = (token) => sessionStorage.setItem(TOKEN, token);

export async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.status === 401) throw new Unauthorized("the broker does not accept the token any more");
  const text = await response.text();
  try {
    return parse(text);
  } catch {
    throw new Error(text.slice(0, 300) || `HTTP ${response.status}`);
  }
}

/** Ask for something that a view shows. It must come soon. */
export const look = (path) => ask(path, { signal: AbortSignal.timeout(ANSWER_MS) });

/** Send a body in JSON. It is text already, because a double cannot hold all numbers. */
export const send = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body });

/** Return the parameters of a URL, without those that are empty. */
export function query(fields) {
  const given = new URLSearchParams(Object.entries(fields).filter(([, value]) => value));
  return given.size ? `?${given}` : "";
}
