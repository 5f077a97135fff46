// Dead letters and quarantine: why, how many, the newest, and how they come back.

import { get } from "./api.js";
import { answerTable, askedBy, bar, copyable, empty, h, head, section, table, tag } from "./dom.js";
import { count, instant, plural, quoted, words } from "./format.js";
import { placeLink } from "./transactions.js";

export const every = 10000;

export const load = ({ signal }) => get("/console/rejects", signal);

export function draw({ dead_letters: letters, quarantine }, context) {
  const { tables } = context.shared.about;
  const none = !letters?.reasons.length && !quarantine?.reasons.length;
  return [
    head("Rejects"),
    none
      ? empty(
          "Nothing was refused",
          "Messages that cannot be decoded become dead letters, rows that break an expectation go to quarantine. There are none.",
        )
      : null,
    letters?.reasons.length ? deadLetters(letters, context) : null,
    quarantine?.reasons.length ? quarantined(quarantine, tables, context) : null,
    none ? null : replay(letters, quarantine, context),
  ];
}

function deadLetters({ reasons, newest }, { state, redraw }) {
  const chosen = state.reason;
  const shown = chosen ? newest.filter((row) => row.reason === chosen) : newest;
  const most = Math.max(...reasons.map((row) => row.messages));
  const choose = (reason) => {
    state.reason = state.reason === reason ? null : reason;
    redraw();
  };
  return h(
    "section",
    { "aria-label": "Dead letters" },
    h(
      "div",
      { class: "head" },
      h("h2", {}, "Dead letters"),
      h(
        "p",
        { class: "controls" },
        h(
          "span",
          { class: "muted" },
          plural(
            reasons.reduce((all, row) => all + row.messages, 0),
            "message",
          ),
        ),
        askedBy(
          "SELECT stage, reason, count(*) AS messages\nFROM bronze.dead_letters GROUP BY stage, reason ORDER BY messages DESC",
        ),
      ),
    ),
    table(
      "Why messages could not become rows. Choose a reason to see its newest only.",
      [
        {
          title: "Reason",
          heads: true,
          of: (row) =>
            h(
              "button",
              {
                class: "link",
                type: "button",
                "aria-pressed": String(chosen === row.reason),
                "data-key": `reason:${row.reason}`,
                onclick: () => choose(row.reason),
              },
              words(row.reason),
            ),
        },
        { title: "Stage", of: (row) => row.stage },
        { title: "Messages", numeric: true, of: (row) => count(row.messages) },
        { title: "", of: (row) => bar(row.messages, most) },
        { title: "First", of: (row) => instant(row.first_at) },
        { title: "Last", of: (row) => instant(row.last_at) },
      ],
      reasons,
      { key: "letters" },
    ),
    h("p", {}),
    shown.length
      ? table(
          chosen ? `The newest of ${words(chosen)}` : `The newest ${shown.length}`,
          [
            { title: "Place", heads: true, of: placeLink },
            { title: "Topic", cell: true, of: (row) => row.source_topic },
            { title: "Epoch", numeric: true, of: (row) => count(row.epoch) },
            { title: "Reason", of: (row) => tag(words(row.reason), "bad") },
            { title: "Detail", wide: true, of: (row) => row.detail },
            { title: "Bytes", numeric: true, of: (row) => count(row.bytes) },
            { title: "Payload", cell: true, of: (row) => h("span", { class: "mono" }, row.payload ?? "none") },
          ],
          shown,
          { key: "letters-newest", tall: true },
        )
      : h("p", { class: "muted" }, `None of the newest ${newest.length} is of this reason.`),
  );
}

function quarantined({ reasons, newest }, tables, { state, redraw }) {
  const chosen = state.expectation;
  const place = newest.columns.findIndex(({ name }) => name === "broken_expectations");
  const shown = chosen ? newest.rows.filter((row) => row[place].includes(chosen)) : newest.rows;
  const most = Math.max(...reasons.map((row) => row.rows));
  const order = [
    "broken_expectations",
    ...newest.columns.map(({ name }) => name).filter((name) => name !== "broken_expectations"),
  ];
  const at = new Map(newest.columns.map((column, index) => [column.name, { ...column, index }]));
  const columns = order.map((name) => at.get(name));
  const rows = shown.map((row) =>
    columns.map(({ index, name }) => (name === "broken_expectations" ? row[index].map(words).join(", ") : row[index])),
  );
  const choose = (expectation) => {
    state.expectation = state.expectation === expectation ? null : expectation;
    redraw();
  };
  return h(
    "section",
    { "aria-label": "Quarantine" },
    h(
      "div",
      { class: "head" },
      h("h2", {}, "Quarantine"),
      h(
        "p",
        { class: "controls" },
        h("span", { class: "muted mono" }, tables.quarantine),
        askedBy(
          `SELECT expectation, count(*) AS rows\nFROM (SELECT unnest(broken_expectations) AS expectation FROM ${tables.quarantine})\nGROUP BY expectation ORDER BY rows DESC`,
        ),
      ),
    ),
    table(
      "Which expectations rows broke; a row that breaks two counts under both. Choose one to see its newest only.",
      [
        {
          title: "Expectation",
          heads: true,
          of: (row) =>
            h(
              "button",
              {
                class: "link",
                type: "button",
                "aria-pressed": String(chosen === row.expectation),
                "data-key": `expectation:${row.expectation}`,
                onclick: () => choose(row.expectation),
              },
              words(row.expectation),
            ),
        },
        { title: "Rows", numeric: true, of: (row) => count(row.rows) },
        { title: "", of: (row) => bar(row.rows, most, "warn") },
        { title: "First", of: (row) => instant(row.first_at) },
        { title: "Last", of: (row) => instant(row.last_at) },
      ],
      reasons,
      { key: "quarantine" },
    ),
    h("p", {}),
    rows.length
      ? answerTable(
          chosen ? `The newest of ${words(chosen)}` : `The newest ${rows.length}`,
          columns.map(({ name, kind }) => ({ name, kind: name === "broken_expectations" ? "text" : kind })),
          rows,
          { key: "quarantine-newest", tall: true },
        )
      : h("p", { class: "muted" }, "None of the newest is of this one."),
  );
}

/** A lake has one writer, so what comes back comes by a job; here is exactly which. */
function replay(letters, quarantine, { shared, state }) {
  const { lake, tables, job } = shared.about;
  const shell = (text) =>
    `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("$", "\\$").replaceAll("`", "\\`")}"`;
  const columns = tables.contract
    .map((name) => (/^[a-z_][a-z0-9_]*$/.test(name) && name !== "timestamp" ? name : `"${name}"`))
    .join(", ");
  const place = `--lake ${/^[\w./:-]+$/.test(lake) ? lake : shell(lake)}`;
  const where = state.expectation ? ` WHERE array_has(broken_expectations, ${quoted(state.expectation)})` : "";
  const taken = `assay sql ${place} --format json --output refused.jsonl \\\n  ${shell(`SELECT ${columns} FROM ${tables.quarantine}${where}`)}`;
  return section(
    "Bring them back",
    h(
      "p",
      {},
      "A lake has one writer, and this page is none: rows come back as new messages, through the contract and the expectations like all others, and silver takes each id once. So no row is there twice, however often this is done.",
    ),
    quarantine?.reasons.length
      ? h(
          "div",
          { class: "card" },
          h(
            "h3",
            {},
            `Rows of ${tables.quarantine}`,
            state.expectation ? ` that broke ${words(state.expectation)}` : "",
          ),
          h(
            "p",
            { class: "muted small" },
            "Write them to a file, correct the file, and load it",
            job === "serve"
              ? "; if assay run is writing this lake, stop it first or produce the lines to its topic."
              : "; assay run is writing this lake, so stop it first, or produce the lines to its topic.",
          ),
          copyable(
            `${taken}\n# correct refused.jsonl, then\nassay load refused.jsonl ${place}`,
            "the commands that bring quarantined rows back",
          ),
        )
      : null,
    letters?.reasons.length
      ? h(
          "div",
          { class: "card" },
          h("h3", {}, "Dead letters"),
          h(
            "p",
            { class: "muted small" },
            "Their bytes are kept as they came. Once the contract knows them, or the sender is mended, they are sent again to their topic; what came back is not sent once more. Brokers and topic are those of the settings, or of --brokers and --topic.",
          ),
          copyable(
            `assay replay ${place}${state.reason ? ` --reason ${state.reason}` : ""}`,
            "the command that sends dead letters again",
          ),
        )
      : null,
  );
}
