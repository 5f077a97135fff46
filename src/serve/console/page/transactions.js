// The newest rows that somebody should look at.

import { get } from "./api.js";
import { askedBy, choice, empty, h, head, table, tag } from "./dom.js";
import { cell, count, instant, money, plural, share } from "./format.js";

// Columns that say how a row came, not what it is.
export const PROVENANCE = new Set([
  "source_topic",
  "source_partition",
  "source_offset",
  "source_at",
  "source_key",
  "source_headers",
  "schema_id",
  "ingested_at",
  "epoch",
  "processing_date",
]);

export const every = 5000;

export async function load({ at, shared, signal }) {
  const risk = at.query.get("risk") === "all" ? "all" : "high";
  return { risk, ...(await get(`/console/transactions?risk=${risk}`, signal)), tables: shared.about.tables };
}

export const classTag = (name) =>
  tag(String(name).toLowerCase(), { CRITICAL: "worst", HIGH: "bad", MEDIUM: "warn" }[name]);

/** The head of a long id is enough to tell rows apart; its story has it whole. */
const link = (id) =>
  h(
    "a",
    { class: "mono", href: `#/transaction/${encodeURIComponent(id)}`, "data-key": `row:${id}`, title: id },
    id.length > 18 ? `${id.slice(0, 13)}…` : id,
  );

/** A row without an id of its own is known by where its message stood. */
export const placeLink = (row) =>
  h(
    "a",
    {
      class: "mono",
      href: `#/transaction?topic=${encodeURIComponent(row.source_topic)}&partition=${row.source_partition}&offset=${row.source_offset}`,
      "data-key": `place:${row.source_partition}/${row.source_offset}`,
    },
    `${row.source_partition}/${row.source_offset}`,
  );

export function draw(told, { shared }) {
  const { risk, rows, requests, tables } = told;
  const isHigh = risk === "high";
  const choose = (value) => (location.hash = value === "all" ? "#/transactions?risk=all" : "#/transactions");
  if (!rows)
    return [
      head("Transactions"),
      empty("No rows yet", `The lake has no complete epoch with rows of ${tables.silver}.`),
      byRequest(requests),
    ];
  if (!told.is_scored)
    return [
      head("Transactions"),
      h(
        "p",
        { class: "note" },
        `No table of this pipeline says how risky a row is. These are the newest rows of ${tables.silver}.`,
      ),
      plain(told),
      byRequest(requests),
    ];
  return [
    head(
      "Transactions",
      choice(
        "Which",
        [
          ["high", "High risk"],
          ["all", "All"],
        ],
        risk,
        choose,
      ),
      askedBy(`SELECT * FROM ${told.table}\nORDER BY epoch DESC LIMIT 100`),
    ),
    rows.length
      ? scored(told)
      : empty(isHigh ? "Nothing of high risk" : "No rows yet", "Rows appear here as soon as their epoch is complete."),
    byRequest(requests),
    h(
      "p",
      { class: "muted small" },
      shared.about.model
        ? `The rules give points and reasons; the champion of ${shared.about.model} gives the probability, where it was asked as the row came.`
        : "The rules give points and reasons.",
    ),
  ];
}

function scored({ rows, context, tables, risk, table: name }) {
  const [key] = tables.silver_key;
  const first = rows[0];
  const has = (column) => column in first;
  const known = Object.values(context)[0] || {};
  const beside = ["merchant", "country", "payment_method"].filter((column) => column in known && !has(column));
  const columns = [
    tables.silver_key.length === 1 && has(key)
      ? { title: "Transaction", heads: true, of: (row) => link(row[key]) }
      : null,
    has(tables.event_time) ? { title: "Happened", of: (row) => instant(row[tables.event_time]) } : null,
    has("class") ? { title: "Class", of: (row) => classTag(row.class) } : null,
    has("score") ? { title: "Score", numeric: true, of: (row) => count(row.score) } : null,
    rows.some((row) => row.fraud_probability !== null && row.fraud_probability !== undefined)
      ? {
          title: "Probability",
          numeric: true,
          of: (row) =>
            row.fraud_probability === null
              ? "–"
              : row.is_predicted_fraud
                ? h("b", { class: "bad" }, share(row.fraud_probability, 1))
                : share(row.fraud_probability, 1),
        }
      : null,
    has("amount") ? { title: "Amount", numeric: true, of: (row) => money(row.amount) } : null,
    has("reasons") ? { title: "Reasons", cell: true, of: (row) => row.reasons || "–" } : null,
    ...beside.map((column) => ({
      title: column[0].toUpperCase() + column.slice(1).replaceAll("_", " "),
      cell: true,
      of: (row) => cell(context[row[key]]?.[column], "text") ?? "–",
    })),
    has("user_id") ? { title: "User", numeric: true, of: (row) => String(row.user_id) } : null,
    { title: "Epoch", numeric: true, of: (row) => count(row.epoch) },
  ].filter(Boolean);
  return table(
    `The newest ${plural(rows.length, "row")} of ${name}${risk === "high" ? " of high risk" : ""}, by epoch`,
    columns,
    rows,
    { key: "scored" },
  );
}

function plain({ rows, tables }) {
  if (!rows.length) return empty("No rows yet", "Rows appear here as soon as their epoch is complete.");
  const names = Object.keys(rows[0]).filter((name) => name === "epoch" || !PROVENANCE.has(name));
  const columns = [
    { title: "Place", heads: true, of: placeLink },
    ...names.map((name) => ({
      title: name,
      cell: true,
      numeric: typeof rows[0][name] === "number",
      of: (row) =>
        cell(row[name], name === tables.event_time ? "instant" : "text") ?? h("span", { class: "null" }, "null"),
    })),
  ];
  return table(`The newest ${plural(rows.length, "row")} of ${tables.silver}, by epoch`, columns, rows, { key: "plain" });
}

function byRequest(requests) {
  if (!requests) return null;
  if (!requests.length) return null;
  return table(
    "Called fraud by request in the newest week of receipts, the newest first",
    [
      { title: "Transaction", heads: true, of: (row) => link(row.transaction_id) },
      { title: "Decided", of: (row) => instant(row.predicted_at) },
      { title: "By", of: (row) => row.decided_by },
      { title: "Probability", numeric: true, of: (row) => share(row.fraud_probability, 1) },
      { title: "Threshold", numeric: true, of: (row) => share(row.threshold, 1) },
      { title: "Rules", of: (row) => (row.rule_class ? classTag(row.rule_class) : "–") },
      { title: "Reasons", wide: true, of: (row) => row.rule_reasons || row.degraded_reason || "–" },
      { title: "Version", of: (row) => row.model_version || "–" },
    ],
    requests,
    { key: "requests" },
  );
}
