// All that is known of one row: offset, rows, windows, scores, receipt.

import { Problem, get } from "./api.js";
import { answerTable, bar, copyable, empty, facts, h, head, table, tag } from "./dom.js";
import { cell, count, instant, real, share, words } from "./format.js";
import { PROVENANCE, classTag } from "./transactions.js";

export async function load({ at, signal }) {
  const query = at.rest.length ? `id=${encodeURIComponent(at.rest.join("/"))}` : at.query.toString();
  try {
    return await get(`/console/story?${query}`, signal);
  } catch (error) {
    if (error instanceof Problem && error.code === "unknown_row") return { unknown: error.message };
    throw error;
  }
}

export function draw(told, context) {
  if (told.unknown)
    return [
      head("Transaction"),
      empty(
        "Nobody knows it",
        told.unknown,
        "A row is known once its epoch is complete. Ids are compared letter by letter.",
      ),
    ];
  const of = (kind) => told.chapters.filter((chapter) => chapter.kind === kind);
  const scores = of("rows").find((chapter) => "score" in chapter.rows[0] || "class" in chapter.rows[0]);
  const score = scores?.rows[0];
  const silver = of("silver")[0]?.rows[0];
  const verdict = [
    score?.class ? classTag(score.class) : null,
    score?.is_predicted_fraud ? tag("called fraud by the model", "bad") : null,
    !silver && of("quarantine").length ? tag("quarantined", "warn") : null,
    !silver && of("dead_letter").length ? tag("dead letter", "bad") : null,
  ];
  return [
    h(
      "div",
      { class: "head" },
      h(
        "h1",
        {},
        h("span", { class: "muted" }, "Transaction "),
        h("span", { class: "mono" }, told.id ?? "without an id"),
      ),
      h("p", { class: "controls" }, verdict, h("span", { class: "muted small" }, `as of epoch ${count(told.epoch)}`)),
    ),
    h(
      "ol",
      { class: "steps" },
      of("bronze").map((chapter) => bronze(chapter, silver)),
      of("dead_letter").map(deadLetter),
      of("quarantine").map(quarantine),
      of("silver").map((chapter) => rowStep("silver", chapter, context)),
      of("rows").map((chapter) =>
        chapter === scores ? scoreStep(chapter, silver) : rowStep("gold", chapter, context),
      ),
      windows(of("window")),
      of("predictions").map((chapter) => receipts(chapter, context)),
      of("epoch").map(epochStep),
    ),
  ];
}

const step = (layer, title, ...children) => h("li", { class: layer }, h("h2", {}, title), ...children);

const place = (row) => [
  ["Topic", h("span", { class: "mono" }, row.source_topic)],
  ["Partition, offset", h("span", { class: "mono" }, `${row.source_partition} / ${row.source_offset}`)],
  ["Produced", row.source_at ? instant(row.source_at) : "not told"],
  ["Ingested", instant(row.ingested_at)],
  ["Epoch", count(row.epoch)],
  ["Schema id", row.schema_id ?? "none"],
];

function bronze({ rows, table: name, columns }, silver) {
  const own =
    rows.find(
      (row) =>
        silver &&
        row.source_offset === silver.source_offset &&
        row.source_partition === silver.source_partition &&
        row.source_topic === silver.source_topic,
    ) || rows[0];
  const others = rows.filter((row) => row !== own);
  return step(
    "bronze",
    `Read into ${name}`,
    h("div", { class: "card" }, facts(place(own))),
    others.length
      ? h(
          "p",
          { class: "note" },
          `The same id came ${rows.length} times. The others: ${others.map((row) => `${row.source_topic} ${row.source_partition}/${row.source_offset} in epoch ${row.epoch}`).join("; ")}. Silver has it once.`,
        )
      : null,
    h(
      "details",
      { "data-key": "sent" },
      h("summary", {}, "As it was sent"),
      h(
        "div",
        { class: "card" },
        values(
          own,
          columns.filter(({ name: column }) => !PROVENANCE.has(column)),
        ),
      ),
    ),
  );
}

const values = (row, columns) => facts(columns.map(({ name, kind }) => [words(name), cell(row[name], kind)]));

const deadLetter = ({ rows: [row] }) =>
  step(
    "refused",
    "Became a dead letter",
    h(
      "div",
      { class: "card" },
      facts([...place(row), ["Stage", row.stage], ["Reason", tag(words(row.reason), "bad")], ["Detail", row.detail]]),
    ),
    h("pre", { class: "wrap", tabindex: "0", "aria-label": "Payload" }, row.payload ?? "no payload"),
  );

const quarantine = ({ rows: [row], table: name, columns }) =>
  step(
    "refused",
    `Put into ${name}`,
    h(
      "div",
      { class: "card" },
      facts([["Broke", row.broken_expectations.map((of) => [tag(of, "warn"), " "])], ...place(row)]),
      h(
        "details",
        { "data-key": "quarantined" },
        h("summary", {}, "The row"),
        values(
          row,
          columns.filter(({ name: column }) => !PROVENANCE.has(column) && column !== "broken_expectations"),
        ),
      ),
    ),
  );

function rowStep(layer, { rows: [row], table: name, columns }) {
  const shown = columns.filter(({ name: column }) => !PROVENANCE.has(column));
  const card = h("div", { class: "card" }, values(row, shown));
  if (layer === "silver") return step(layer, `The row of ${name}`, card);
  return step(
    layer,
    `The row of ${name}`,
    h("details", { "data-key": `row:${name}` }, h("summary", {}, `${shown.length} columns`), card),
  );
}

function scoreStep({ rows: [row], table: name, columns }, silver) {
  const points = columns
    .filter(({ name: column }) => column.endsWith("_points"))
    .map(({ name: column }) => [words(column.slice(0, -7)), Number(row[column])]);
  const most = Math.max(1, ...points.map(([, value]) => value));
  // What silver says already is not said again.
  const isKnown = (column) => silver && column in silver && silver[column] === row[column];
  const rest = columns.filter(
    ({ name: column }) =>
      !isKnown(column) &&
      !column.endsWith("_points") &&
      !PROVENANCE.has(column) &&
      !["score", "class", "reasons", "fraud_probability", "is_predicted_fraud", "model_version"].includes(column),
  );
  return step(
    "gold",
    `The score of ${name}`,
    h(
      "div",
      { class: "card" },
      facts([
        ["Score", [String(row.score ?? "–"), " ", row.class ? classTag(row.class) : ""]],
        ["Reasons", row.reasons || "none"],
        [
          "Probability",
          row.fraud_probability === undefined || row.fraud_probability === null
            ? "the model was not asked"
            : [share(row.fraud_probability), row.is_predicted_fraud ? " called fraud" : " called legitimate"],
        ],
        ["Model version", row.model_version ? h("a", { class: "mono", href: "#/models" }, row.model_version) : "–"],
        ...rest.map(({ name: column, kind }) => [words(column), cell(row[column], kind)]),
      ]),
    ),
    points.length
      ? table(
          "Points by rule",
          [
            { title: "Rule", heads: true, of: ([rule]) => rule },
            { title: "Points", numeric: true, of: ([, value]) => String(value) },
            { title: "", of: ([, value]) => bar(value, most) },
          ],
          points,
        )
      : null,
  );
}

function windows(chapters) {
  if (!chapters.length) return null;
  return step(
    "gold",
    "Windows that count it",
    chapters.map(({ table: name, columns, rows }) =>
      h(
        "div",
        {},
        answerTable(
          `${name}, ${rows.length === 1 ? "one window" : `${rows.length} windows`}`,
          columns.filter(({ name: column }) => column !== "epoch"),
          rows,
          { key: name },
        ),
      ),
    ),
  );
}

const epochStep = ({ rows: [row] }) =>
  step(
    "",
    "Durable with its epoch",
    h(
      "div",
      { class: "card" },
      facts([
        ["Epoch", h("a", { href: `#/epochs?before=${row.epoch + 1}` }, count(row.epoch))],
        ["Published", instant(row.published_at)],
        ["Messages", count(row.messages)],
        ["Watermark", instant(row.watermark_at)],
      ]),
    ),
  );

function receipts({ rows, table: name }, { state, redraw }) {
  state.explained ??= {};
  const ask = async (id) => {
    state.explained[id] = { waits: true };
    redraw();
    try {
      state.explained[id] = await get(`/console/receipt?id=${encodeURIComponent(id)}`);
    } catch (error) {
      state.explained[id] = { problem: error.message };
    }
    redraw();
  };
  return step(
    "gold",
    "Decisions by request",
    rows.map((row) =>
      h(
        "div",
        { class: "card" },
        facts([
          ["Prediction", h("span", { class: "mono" }, row.prediction_id)],
          ["Decided", instant(row.predicted_at)],
          ["Decision", row.is_fraud ? tag("fraud", "bad") : tag("legitimate", "good")],
          [
            "By",
            row.decided_by === "model" ? ["the model ", h("span", { class: "mono" }, row.model_version)] : "the rules",
          ],
          ["Probability", `${share(row.fraud_probability)}, threshold ${share(row.threshold)}`],
          ["As", row.role ?? "champion"],
          ["Knew the lake as of epoch", count(row.features_epoch)],
          ["Rules", row.rule_class ? [classTag(row.rule_class), ` ${row.rule_reasons ?? ""}`] : "–"],
        ]),
        h(
          "p",
          { class: "actions" },
          h(
            "button",
            {
              type: "button",
              "data-key": `explain:${row.prediction_id}`,
              onclick: () => ask(row.prediction_id),
              disabled: state.explained[row.prediction_id]?.waits,
            },
            "Compute it again",
          ),
        ),
        state.explained[row.prediction_id] ? explained(state.explained[row.prediction_id], row.prediction_id) : null,
      ),
    ),
    h("p", { class: "muted small" }, `From ${name}: what was sent, what was known, the version, and what came out.`),
  );
}

function explained(told, id) {
  if (told.waits) return h("p", { class: "muted", role: "status" }, "Computing…");
  if (told.problem) return h("p", { class: "note", role: "status" }, told.problem);
  const most = Math.max(1e-9, ...told.contributions.map(({ contribution }) => Math.abs(contribution)));
  return h(
    "div",
    { role: "status" },
    h(
      "p",
      {},
      told.same ? tag("✓ comes out the same, to the bit", "good") : tag("✗ does not come out the same", "bad"),
    ),
    table(
      "What was compared with the receipt",
      [
        { title: "What", heads: true, of: (check) => check.what },
        { title: "Same", of: (check) => (check.same ? h("span", { class: "good" }, "✓ yes") : tag("✗ no", "bad")) },
        { title: "Difference", wide: true, of: (check) => check.differs ?? "–" },
      ],
      told.checks,
    ),
    told.contributions.length
      ? table(
          "What moved the model most, on its scale before calibration",
          [
            { title: "Feature", heads: true, of: (of) => of.feature },
            { title: "Value", numeric: true, of: (of) => String(of.value) },
            { title: "Adds", numeric: true, of: (of) => `${of.contribution >= 0 ? "+" : ""}${real(of.contribution)}` },
            { title: "", of: (of) => bar(Math.abs(of.contribution), most, of.contribution > 0 ? "bad" : null) },
          ],
          told.contributions,
        )
      : null,
    h(
      "p",
      { class: "muted small" },
      "Whether the lake still says the same of the past as of that epoch takes the memory of a scorer, so a job does it:",
    ),
    copyable(`assay explain ${id}`, "the command that compares it with the lake"),
  );
}
