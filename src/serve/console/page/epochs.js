// The ledger: one line for each complete epoch, and whether it adds up.

import { get } from "./api.js";
import { askedBy, h, head, table, tag } from "./dom.js";
import { conservation } from "./flow.js";
import { count, instant, plural, span } from "./format.js";

export const every = 5000;

export async function load({ at, signal }) {
  const before = at.query.get("before");
  const told = await get(before ? `/console/epochs?before=${encodeURIComponent(before)}` : "/console/epochs", signal);
  return { ...told, before };
}

export function draw({ epochs, totals, before }, { state, redraw }) {
  if (!epochs.length)
    return [
      head("Epochs"),
      h(
        "div",
        { class: "empty" },
        h("h2", {}, "No epoch is complete yet"),
        h("p", {}, "An epoch is a run of messages that became durable in all tables at once."),
      ),
    ];
  state.open ??= new Set();
  const toggle = (epoch) => {
    if (!state.open.delete(epoch)) state.open.add(epoch);
    redraw();
  };
  const number = (title, name) => ({ title, numeric: true, of: (row) => count(row[name]) });
  const columns = [
    {
      title: "Epoch",
      heads: true,
      numeric: true,
      of: ({ epoch }) =>
        h(
          "button",
          {
            class: "link",
            type: "button",
            "data-key": `epoch:${epoch}`,
            "aria-expanded": String(state.open.has(epoch)),
            onclick: () => toggle(epoch),
          },
          count(epoch),
        ),
    },
    { title: "Published", of: (row) => instant(row.published_at) },
    { title: "Adds up", of: (row) => (row.is_balanced ? h("span", { class: "good" }, "✓ yes") : tag("✗ no", "bad")) },
    number("Messages", "messages"),
    number("Bronze", "bronze_rows"),
    number("Dead letters", "dead_letters"),
    number("Silver", "silver_rows"),
    number("Duplicates", "duplicates"),
    number("Quarantined", "quarantined"),
    number("Late", "late_rows"),
    number("Restated", "restated_rows"),
    { title: "Took", numeric: true, of: (row) => span(row.seconds) },
    { title: "Kind", of: (row) => row.kind },
  ];
  const last = epochs.at(-1).epoch;
  return [
    head(
      "Epochs",
      before ? h("a", { href: "#/epochs" }, "Newest") : null,
      last > 1 ? h("a", { href: `#/epochs?before=${last}` }, "Older") : null,
      askedBy("SELECT * FROM ops.epochs ORDER BY epoch DESC LIMIT 100"),
    ),
    conservation(totals),
    table(
      `Epochs ${count(last)} to ${count(epochs[0].epoch)}, the newest first. Open one for its offsets, tables and timings.`,
      columns,
      epochs,
      { key: "epochs", tall: true, after: (row, width) => (state.open.has(row.epoch) ? inside(row, width) : null) },
    ),
    h(
      "p",
      { class: "muted small" },
      "An epoch is published only when it adds up. ",
      h("code", {}, "assay verify"),
      " proves it again from the tables alone, gold against a recomputation included.",
    ),
  ];
}

function inside(row, width) {
  const micros = row.stages.reduce((all, stage) => all + stage.micros, 0);
  return h(
    "tr",
    { class: "inner" },
    h(
      "td",
      { colspan: String(width) },
      h(
        "div",
        { class: "grid two" },
        table(
          `Read by epoch ${row.epoch}`,
          [
            { title: "Topic", heads: true, of: (of) => of.topic },
            { title: "Partition", numeric: true, of: (of) => of.partition },
            { title: "From offset", numeric: true, of: (of) => count(of.first_offset) },
            { title: "Up to", numeric: true, of: (of) => count(of.next_offset - 1) },
            { title: "Messages", numeric: true, of: (of) => count(of.messages) },
          ],
          row.offsets,
        ),
        table(
          `Tables as of epoch ${row.epoch}`,
          [
            { title: "Table", heads: true, of: (of) => of.table },
            { title: "Version", numeric: true, of: (of) => count(of.version) },
            { title: "Rows added", numeric: true, of: (of) => count(of.rows_added) },
          ],
          row.tables,
        ),
        table(
          `Stages, ${span(micros / 1e6)} of work in ${plural(row.stages.length, "stage")}`,
          [
            { title: "Stage", heads: true, of: (of) => of.stage },
            { title: "Time", numeric: true, of: (of) => span(of.micros / 1e6) },
          ],
          row.stages,
        ),
      ),
    ),
  );
}
