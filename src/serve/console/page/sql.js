// The SQL prompt: one question, a table, and a chart of it.

import { Problem, get, post } from "./api.js";
import { answerTable, h, head } from "./dom.js";
import { chart, columns as upright, lines } from "./charts.js";
import { cell, count, instantOf, isNumeric, plural, real, span } from "./format.js";

const FIRST =
  "SELECT class, count(*) AS transactions, sum(amount) AS amount\nFROM gold.fraud_scores\nGROUP BY class\nORDER BY transactions DESC";

export async function load({ at, state, shared, signal }) {
  state.names ??= (await get("/console/names", signal)).tables;
  const asked = at.query.get("q");
  const first = state.names.some(({ table }) => table === "gold.fraud_scores")
    ? FIRST
    : `SELECT *\nFROM ${shared.about.tables.silver}\nLIMIT 20`;
  state.sql ??= asked ?? sessionStorage.getItem("assay.sql") ?? first;
  // A link of the page asks; one of another site only fills in, for any site could send people here.
  if (asked && !state.ran && navigator.userActivation?.hasBeenActive) state.run = true;
  return { names: state.names, limits: shared.about.limits };
}

export function draw({ names, limits }, { state, redraw, signal }) {
  const question = h("textarea", {
    id: "question",
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    "aria-label": "Question in SQL",
    "data-key": "question",
  });
  question.value = state.sql;
  question.addEventListener("input", () => {
    state.sql = question.value;
    sessionStorage.setItem("assay.sql", question.value);
  });
  const run = async () => {
    if (state.waits) return;
    state.ran = true;
    state.waits = true;
    redraw();
    try {
      state.answer = await post("/console/sql", { sql: state.sql }, signal);
      state.problem = null;
      state.plot = null;
    } catch (error) {
      if (error.name === "AbortError") return;
      state.problem = error instanceof Problem ? error : new Problem(0, { detail: error.message });
    }
    state.waits = false;
    redraw();
  };
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
    }
  });
  if (state.run) {
    state.run = false;
    queueMicrotask(run);
  }
  const insert = (text) => {
    question.setRangeText(text, question.selectionStart, question.selectionEnd, "end");
    question.dispatchEvent(new Event("input"));
    question.focus();
  };
  return [
    head(
      "SQL",
      h(
        "span",
        { class: "muted small" },
        `reads only; ${plural(limits.rows_max, "row")} and ${span(limits.statement_timeout_ms / 1000)} at most; AS OF EPOCH n reads an earlier epoch`,
      ),
    ),
    h(
      "div",
      {},
      question,
      h(
        "p",
        { class: "controls" },
        h(
          "button",
          { type: "button", class: "primary", id: "run", onclick: run, disabled: state.waits },
          state.waits ? "Running…" : "Run",
        ),
        h("span", { class: "muted small" }, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter")),
      ),
    ),
    state.problem ? h("pre", { class: "note wrap", role: "alert", id: "sql-problem" }, state.problem.message) : null,
    state.answer && !state.problem ? answered(state, redraw) : null,
    h(
      "details",
      { "data-key": "names" },
      h("summary", {}, plural(names.length, "table")),
      h(
        "div",
        { class: "names card" },
        names.map(({ table, columns }) =>
          h(
            "details",
            { "data-key": `names:${table}` },
            h("summary", {}, h("span", { class: "mono" }, table)),
            h(
              "p",
              {},
              h("button", { type: "button", class: "link", onclick: () => insert(table) }, "Put into the question"),
            ),
            h(
              "ul",
              {},
              columns.map((column) =>
                h(
                  "li",
                  {},
                  h("button", { type: "button", class: "link mono", onclick: () => insert(column.name) }, column.name),
                  h("span", { class: "muted" }, column.kind),
                ),
              ),
            ),
          ),
        ),
      ),
    ),
  ];
}

function answered(state, redraw) {
  const { columns, rows, epoch, seconds, is_cut: isCut } = state.answer;
  const caption = `${isCut ? "The first " : ""}${plural(rows.length, "row")} as of epoch ${count(epoch)}, in ${span(seconds)}${isCut ? ". There are more: add LIMIT or a condition, or use assay sql." : ""}`;
  return h(
    "div",
    { id: "answer" },
    plotted(state, redraw),
    answerTable(caption, columns, rows, { key: "answer", tall: true }),
  );
}

/** What can be drawn: numbers over whatever stands first. */
function plotted(state, redraw) {
  const { columns, rows } = state.answer;
  const numbers = columns.map((column, place) => ({ ...column, place })).filter(({ kind }) => isNumeric(kind));
  if (!numbers.length || rows.length < 2) return null;
  const others = columns
    .map((column, place) => ({ ...column, place }))
    .filter(({ kind }) => !isNumeric(kind) && kind !== "json" && kind !== "binary");
  const across = [...others, ...numbers];
  state.plot ??= {
    x: across[0].place,
    y: (numbers.find(({ place }) => place !== across[0].place) || numbers[0]).place,
    kind: null,
  };
  const x = columns[state.plot.x];
  const isTime = x.kind === "instant" || x.kind === "date";
  const kind = state.plot.kind || (isTime || (isNumeric(x.kind) && rows.length > 40) ? "line" : "bar");
  const pick = (label, name, options, chosen) =>
    h(
      "label",
      {},
      label,
      h(
        "select",
        {
          "data-key": `plot:${name}`,
          onchange: (event) => {
            state.plot[name] = name === "kind" ? event.target.value : Number(event.target.value);
            event.target.blur();
            redraw();
          },
        },
        options.map(([value, text]) =>
          h("option", { value: String(value), selected: String(value) === String(chosen) }, text),
        ),
      ),
    );
  const controls = h(
    "p",
    { class: "controls" },
    pick(
      "Chart",
      "kind",
      [
        ["bar", "bars"],
        ["line", "lines"],
        ["none", "none"],
      ],
      kind,
    ),
    kind === "none"
      ? null
      : pick(
          "of",
          "y",
          numbers.map(({ place, name }) => [place, name]),
          state.plot.y,
        ),
    kind === "none"
      ? null
      : pick(
          "over",
          "x",
          across.map(({ place, name }) => [place, name]),
          state.plot.x,
        ),
  );
  if (kind === "none") return controls;
  const y = columns[state.plot.y];
  const values = rows.map((row) => Number(row[state.plot.y] ?? NaN));
  const finite = values.filter(Number.isFinite);
  const told = finite.length
    ? `${plural(finite.length, "value")}, least ${real(Math.min(...finite), 2)}, most ${real(Math.max(...finite), 2)}`
    : "no value is a number";
  const at = (row) => (isTime ? instantOf(row[state.plot.x]) : Number(row[state.plot.x]));
  const draw =
    kind === "line" && (isTime || isNumeric(x.kind))
      ? lines({
          series: [
            {
              ink: "k1",
              points: rows
                .map((row, place) => [at(row), values[place]])
                .filter(([one, other]) => Number.isFinite(one) && Number.isFinite(other))
                .sort((one, other) => one[0] - other[0]),
              area: isTime,
            },
          ],
          time: isTime,
          height: 260,
        })
      : upright({
          bars: rows.map((row, place) => ({
            label: cell(row[state.plot.x], x.kind) ?? "null",
            values: [values[place]],
          })),
          inks: ["k1"],
          height: 260,
        });
  return h("div", { class: "card", id: "plot" }, controls, chart(`${y.name} over ${x.name}`, told, draw));
}
