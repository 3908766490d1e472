// Values as text, and player IDs as text and as JSON.

export const UNKNOWN = "–";
export const OTHERS = "(others)"; // stands for keys that are not counted apart, and for unknown keys

// -- JSON without loss: player IDs go up to 2**63-1, and a double cannot hold them all

const exact = (_key, value, context) =>
  Number.isInteger(value) && !Number.isSafeInteger(value) && context && JSON.rawJSON
    ? JSON.rawJSON(context.source)
    : value;
export const parse = (text) => JSON.parse(text, exact);
const isRaw = (value) => Boolean(JSON.isRawJSON?.(value));
const isMissing = (value) => value === null || value === undefined;

/** Return the text of a player ID. A str that would be taken for another ID in a field of a form is in quotes. */
export function idText(id) {
  if (isMissing(id)) return UNKNOWN;
  if (isRaw(id)) return id.rawJSON;
  const needsQuotes = /^(\d+|".*"|\s.*|.*\s)$|\p{Cc}/su; // a field drops line breaks, and spaces at its ends
  return typeof id === "string" && needsQuotes.test(id) ? JSON.stringify(id) : String(id);
}

/** Return the JSON of a player ID. */
export const idJSON = (id) => (isRaw(id) ? id.rawJSON : JSON.stringify(id));

/** Return the JSON of a player ID that somebody typed. */
export function typedID(text) {
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

// -- figures

const known = { maximumSignificantDigits: 3 }; // percentiles and round-trip times are not known any better
export const plain = (value) => (isMissing(value) || value === "" ? UNKNOWN : String(value));
export const count = (value) => (isMissing(value) ? UNKNOWN : Number(value).toLocaleString("en"));
export const rate = (value) =>
  isMissing(value) ? UNKNOWN : value.toLocaleString("en", value < 100 ? known : { maximumFractionDigits: 0 });
export const milliseconds = (value) => (isMissing(value) ? UNKNOWN : value.toLocaleString("en", known));

export function duration(seconds) {
  if (isMissing(seconds)) return UNKNOWN;
  if (seconds < 100) return `${Math.floor(seconds)} s`;
  if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}
export const clock = (date) => date.toLocaleTimeString("en-GB");
/** Return the time of a moment, and its day if that is not today. */
export const moment = (date) =>
  date.toDateString() === new Date().toDateString() ? clock(date) : `${date.toLocaleDateString("sv-SE")} ${clock(date)}`;
export const worried = (value) => (value > 0 ? "bad" : "");
