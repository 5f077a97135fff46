// Models: versions, how good they are, their curves, who is champion and who was; promote and rollback.

import { change, confirmed, get } from "./api.js";
import { bar, copyable, empty, facts, h, head, section, table, tag } from "./dom.js";
import { chart, columns as upright, lines } from "./charts.js";
import { count, day, instant, plural, real, words } from "./format.js";

export const every = 15000;

export async function load({ at, state, signal }) {
  const told = await get("/console/models", signal);
  const [name, version] = at.rest;
  const model = told.models.find((of) => of.name === name) || told.models[0];
  const champion = model?.aliases.find((of) => of.alias === "champion")?.version;
  const chosen = version || champion || model?.versions[0]?.version;
  if (model && chosen && state.loaded !== `${model.name}@${chosen}`) {
    state.version = await get(`/console/models/${model.name}/${chosen}`, signal).catch((error) => {
      if (error.name === "AbortError") throw error;
      return { version: chosen, problem: error.message };
    });
    state.loaded = `${model.name}@${chosen}`;
  }
  return { ...told, model, chosen, detail: state.version };
}

export function draw(told, context) {
  const { models, model, folder } = told;
  if (!model)
    return [
      head("Models"),
      empty("No models yet", `The folder ${folder} holds none. This trains one from the lake:`),
      copyable(`assay train --lake ${context.shared.about.lake}`, "the command that trains"),
    ];
  const { state } = context;
  return [
    head(
      "Models",
      models.length > 1
        ? h(
            "p",
            { class: "controls" },
            models.map((of) =>
              h("a", { href: `#/models/${of.name}`, "aria-current": of === model ? "true" : null }, of.name),
            ),
          )
        : h("span", { class: "mono" }, model.name),
    ),
    told.served?.problem
      ? h("p", { class: "note" }, `What is served is not what the alias says: ${told.served.problem}`)
      : null,
    state.said ? h("p", { class: state.failed ? "note" : "card", role: "status" }, state.said) : null,
    versions(told, context),
    told.detail ? detail(told) : null,
    h("div", { class: "grid" }, aliases(told), history(model)),
  ];
}

function versions({ model, chosen }, context) {
  const quality = (part, name, digits) => ({
    title: part === "test" ? `Test ${name}` : name,
    numeric: true,
    of: (row) =>
      real(
        row.manifest?.[part]?.[
          name === "F1" ? "f1" : name === "AP" ? "average_precision" : name === "AUC" ? "roc_auc" : name.toLowerCase()
        ],
        digits ?? 4,
      ),
  });
  const rows = model.versions;
  const able = context.shared.about.access.may_be_changed;
  return h(
    "section",
    { "aria-label": "Versions" },
    table(
      `${plural(rows.length, "version")} of ${model.name}, the newest first. Metrics are out of fold, in the order of time, but where test is said.`,
      [
        {
          title: "Version",
          heads: true,
          of: (row) =>
            h(
              "a",
              {
                class: "mono",
                href: `#/models/${model.name}/${row.version}`,
                "aria-current": row.version === chosen ? "true" : null,
                "data-key": `version:${row.version}`,
              },
              row.version,
            ),
        },
        {
          title: "Aliases",
          of: (row) =>
            row.aliases.length
              ? row.aliases.map((alias) => [tag(alias, alias === "champion" ? "good" : "accent"), " "])
              : "–",
        },
        { title: "Change", of: (row) => actions(model, row, context) },
        {
          title: "Gate",
          of: (row) =>
            row.damage
              ? tag("damaged", "bad")
              : row.manifest.passed
                ? h("span", { class: "good" }, "✓ passed")
                : tag("refused", "warn"),
        },
        { title: "Family", of: (row) => row.manifest?.imported || row.manifest?.family || "–" },
        quality("out_of_fold", "F1"),
        quality("out_of_fold", "AP"),
        quality("out_of_fold", "AUC"),
        quality("out_of_fold", "Precision"),
        quality("out_of_fold", "Recall"),
        quality("test", "F1"),
        { title: "Trained on epoch", numeric: true, of: (row) => count(row.manifest?.epoch) },
      ],
      rows,
      { key: "versions" },
    ),
    able
      ? null
      : h(
          "p",
          { class: "muted small" },
          "Nothing can be changed here, because there is no admin key: set ASSAY_SERVE_ADMIN_KEY or serve.admin_key_file and start again, or use ",
          h("code", {}, "assay promote"),
          " and ",
          h("code", {}, "assay rollback"),
          ".",
        ),
  );
}

function actions(model, row, context) {
  if (row.aliases.includes("champion"))
    return h(
      "button",
      {
        type: "button",
        disabled: !model.previous || !context.shared.about.access.may_be_changed,
        "data-key": "rollback",
        onclick: () => rollback(model, context),
      },
      "Roll back",
    );
  const able = row.manifest?.passed && !row.damage && context.shared.about.access.may_be_changed;
  return h(
    "button",
    {
      type: "button",
      disabled: !able,
      "data-key": `promote:${row.version}`,
      "aria-label": `Promote ${row.version}`,
      onclick: () => promote(model, row, context),
    },
    "Promote",
  );
}

async function promote(model, row, context) {
  const champion = model.aliases.find((of) => of.alias === "champion")?.version;
  if (
    !(await confirmed(
      `Promote ${row.version}?`,
      `It becomes the champion of ${model.name}${champion ? ` in the place of ${champion}` : ""}: requests, and rows of the stream from the next epoch on, are scored with it. It is verified first.`,
      "Promote",
    ))
  )
    return;
  await changed(context, `/console/models/${model.name}/promote`, { version: row.version, alias: "champion" });
}

async function rollback(model, context) {
  if (
    !(await confirmed(
      "Roll back?",
      `${model.previous} becomes the champion of ${model.name} again. It is verified first.`,
      "Roll back",
    ))
  )
    return;
  await changed(context, `/console/models/${model.name}/rollback`, {});
}

async function changed({ state, again }, path, body) {
  try {
    const told = await change(path, body);
    if (!told) return;
    state.failed = false;
    state.said = `${told.model}@${told.alias} is ${told.version}${told.before ? `; before it was ${told.before}` : ""}.${told.recorded?.not ? ` Not recorded in ml.models: ${told.recorded.not}.` : ""}`;
  } catch (error) {
    state.failed = true;
    state.said = error.message;
  }
  await again();
}

function aliases({ model, served, streamed }) {
  return section(
    "Aliases",
    h(
      "div",
      { class: "card" },
      model.aliases.length
        ? facts(model.aliases.map(({ alias, version }) => [alias, h("span", { class: "mono" }, version)]))
        : h("p", { class: "muted" }, "No version has an alias: promote one to have it answer."),
      served && served.model === model.name
        ? h(
            "p",
            { class: "muted small" },
            `This process answers requests with ${served.champion ?? "the rules alone"}${served.challenger ? `, and asks ${served.challenger} as challenger` : ""}.`,
          )
        : null,
      streamed === model.name
        ? h("p", { class: "muted small" }, "The champion is asked about each row of the stream.")
        : null,
    ),
  );
}

function history(model) {
  const rows = model.champions.toReversed();
  return section(
    "Champions",
    rows.length
      ? table(
          "Who was champion, the present one first",
          [
            { title: "Since", heads: true, of: (row) => instant(new Date(row.at_us / 1000).toISOString()) },
            {
              title: "Version",
              of: (row) => h("a", { class: "mono", href: `#/models/${model.name}/${row.version}` }, row.version),
            },
            {
              title: "",
              of: (_, place) => (place === 0 ? tag("now", "good") : place === 1 ? tag("a rollback returns to it") : ""),
            },
          ],
          rows,
        )
      : h("div", { class: "card muted" }, "Nobody was champion yet."),
  );
}

function detail({ detail: of }) {
  if (of.problem) return h("p", { class: "note" }, of.problem);
  const { manifest, curves } = of;
  const both = [
    ["k1", "out of fold"],
    ["k2", "test"],
  ];
  const unit = { x: [0, 1], y: [0, 1], height: 250 };
  const diagonal = {
    ink: "k6",
    points: [
      [0, 0],
      [1, 1],
    ],
    dashed: true,
  };
  const pair = (pick, more = {}) => [
    { ink: "k1", points: pick(curves.out_of_fold), ...more },
    { ink: "k2", points: pick(curves.test), ...more },
  ];
  const out = manifest.out_of_fold;
  const card = (child) => h("div", { class: "card" }, child);
  const bins = (curve) =>
    curve.calibration.map((bin) => [bin.predicted, bin.observed, 2 + Math.log10(Math.max(1, bin.rows))]);
  return h(
    "section",
    { "aria-label": `Version ${of.version}` },
    h("div", { class: "head" }, h("h2", {}, "Version ", h("span", { class: "mono" }, of.version))),
    card(
      facts([
        ["Family", manifest.imported ? `from ${manifest.imported}` : (manifest.family ?? "–")],
        ["Threshold", real(manifest.threshold)],
        ["F1 out of fold, test", `${real(out?.f1)}, ${real(manifest.test?.f1)}`],
        ["Average precision", `${real(out?.average_precision)}, ${real(manifest.test?.average_precision)}`],
        ["Brier score", `${real(out?.brier)}, ${real(manifest.test?.brier)}`],
        ["Learned from", manifest.set ? `${manifest.set}, epoch ${count(manifest.epoch)}` : "files"],
        ["Rows learned, tested", of.data ? `${count(of.data.development.rows)}, ${count(of.data.test.rows)}` : "–"],
        ["Test from", of.data ? day(new Date(of.data.test.from_us / 1000).toISOString()) : "–"],
        ["Features", count(of.features.length)],
        ["Refused because", manifest.refusals.length ? manifest.refusals.join("; ") : "it was not"],
      ]),
    ),
    curves
      ? h(
          "div",
          { class: "grid two spaced" },
          card(
            chart(
              "Precision over recall",
              `Average precision ${real(out?.average_precision)} out of fold, ${real(manifest.test?.average_precision)} on the test`,
              lines({ ...unit, series: pair((curve) => curve.precision_recall), xName: "recall", yName: "precision" }),
              both,
            ),
          ),
          card(
            chart(
              "ROC",
              `Area ${real(out?.roc_auc)} out of fold, ${real(manifest.test?.roc_auc)} on the test`,
              lines({
                ...unit,
                series: [diagonal, ...pair((curve) => curve.roc)],
                xName: "false positive rate",
                yName: "true positive rate",
              }),
              both,
            ),
          ),
          card(
            chart(
              "Calibration",
              "Share of fraud over the predicted probability; on the diagonal they agree",
              lines({
                ...unit,
                series: [diagonal, ...pair(bins, { apart: true })],
                xName: "predicted probability",
                yName: "share of fraud",
              }),
              both,
            ),
          ),
          card(
            chart(
              "Scores of the test",
              `${plural(
                curves.test.histogram.positives.reduce((all, one) => all + one, 0),
                "fraud",
              )} among ${plural(
                curves.test.histogram.negatives.reduce((all, one) => all + one, 0),
                "other row",
              )}, by probability`,
              upright({
                bars: curves.test.histogram.negatives.map((value, place) => ({
                  label: (place / curves.test.histogram.negatives.length).toFixed(2),
                  values: [value, curves.test.histogram.positives[place]],
                })),
                inks: ["k6", "k4"],
                log: true,
                height: 250,
              }),
              [
                ["k6", "legitimate"],
                ["k4", "fraud"],
              ],
            ),
          ),
        )
      : h("p", { class: "muted" }, "This version has no curves: it was not learned here, or nothing was fitted."),
    h(
      "div",
      { class: "grid spaced" },
      of.importances?.length
        ? table(
            "Importance: what average precision loses when a feature is shuffled",
            [
              { title: "Feature", heads: true, of: (row) => row.feature },
              { title: "Loss", numeric: true, of: (row) => real(row.loss.mean) },
              { title: "", of: (row) => bar(row.loss.mean, of.importances[0].loss.mean) },
            ],
            of.importances.slice(0, 15),
            { key: "importances" },
          )
        : null,
      of.segments?.length
        ? table(
            "Quality by segment, out of fold",
            [
              { title: "Segment", heads: true, of: (row) => `${words(row.dimension)}: ${row.value}` },
              { title: "Rows", numeric: true, of: (row) => count(row.out_of_fold?.rows) },
              { title: "Precision", numeric: true, of: (row) => real(row.out_of_fold?.precision) },
              { title: "Recall", numeric: true, of: (row) => real(row.out_of_fold?.recall) },
            ],
            of.segments,
            { key: "segments", tall: true },
          )
        : null,
    ),
  );
}
