// Numbers, instants and durations for people. All times are UTC.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const count = (value) => (value === null || value === undefined ? "–" : whole.format(Number(value)));

/** So many a second: exact enough to compare, short enough to read. */
export function rate(value) {
  if (!Number.isFinite(value)) return "–";
  if (value >= 100) return whole.format(value);
  if (value >= 10) return value.toFixed(1);
  return value === 0 ? "0" : value.toFixed(2);
}

const cents = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export const money = (value) =>
  value === null || value === undefined || !Number.isFinite(Number(value)) ? "–" : cents.format(Number(value));

export const share = (value, digits = 2) =>
  value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`;

export const real = (value, digits = 4) =>
  value === null || value === undefined || value === ""
    ? "–"
    : Number.isFinite(Number(value))
      ? Number(value).toFixed(digits)
      : String(value);

/** A number as short as it can be told, for axes. */
export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${trim(value / 1e9)} G`;
  if (size >= 1e6) return `${trim(value / 1e6)} M`;
  if (size >= 1e4) return `${trim(value / 1e3)} k`;
  return size >= 1 || size === 0 ? trim(value) : String(Number(value.toPrecision(2)));
}
const trim = (value) => String(Number(value.toFixed(Math.abs(value) >= 100 ? 0 : 2)));

export const instantOf = (text) => (text ? Date.parse(text) : NaN);

export function instant(text) {
  const at = instantOf(text);
  return Number.isNaN(at) ? "–" : new Date(at).toISOString().replace("T", " ").slice(0, 19);
}

export const day = (text) => instant(text).slice(0, 10);

export function span(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 0) return "0 s";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

export const ago = (seconds) => (seconds < 1.5 ? "just now" : `${span(seconds)} ago`);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${Number(number) === 1 ? one : many}`;

/** A name of a column for people. */
export const words = (name) => name.replaceAll("_", " ");

/** A cell as text, by the kind of its column. */
export function cell(value, kind) {
  if (value === null || value === undefined) return null;
  if (kind === "instant") return instant(value);
  if (kind === "json" || typeof value === "object") return JSON.stringify(value);
  if (kind === "number" && typeof value === "number") return String(Number(value.toPrecision(10)));
  return String(value);
}

export const isNumeric = (kind) => kind === "integer" || kind === "number" || kind === "decimal";

/** A text in SQL. */
export const quoted = (text) => `'${String(text).replaceAll("'", "''")}'`;
