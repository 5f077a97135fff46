// How far the rows of now are from those that each version learned from.

import { get } from "./api.js";
import { askedBy, bar, choice, copyable, empty, h, head, table, tag } from "./dom.js";
import { chart, lines } from "./charts.js";
import { count, day, instantOf, plural, real, share } from "./format.js";

export const every = 30000;

export const load = ({ signal }) => get("/console/drift", signal);

const STATUS = { stable: "good", watch: "warn", act: "bad" };

export function draw(told, { state, redraw, shared }) {
  if (!told.now?.length) {
    return [
      head("Drift"),
      empty(
        "Nobody has watched a model yet",
        "This compares the rows of each day with those that a model learned from, feature by feature, and writes ml.drift:",
      ),
      copyable(`assay drift --lake ${shared.about.lake}`, "the command that watches"),
    ];
  }
  const versions = [...new Set(told.now.map((row) => `${row.model}@${row.version}`))];
  const chosen = versions.includes(state.version) ? state.version : versions[0];
  const isOf = (row) => `${row.model}@${row.version}` === chosen;
  // What follows the calendar moves every day: it comes last.
  const rank = (row) => (row.status === "calendar" ? -2 : (row.psi ?? -1));
  const now = told.now.filter(isOf).sort((one, other) => rank(other) - rank(one));
  const days = (told.days || []).filter(isOf).toReversed();
  const quality = (told.performance || []).filter(isOf).toReversed();
  const first = now[0];
  const feature = now.some((row) => row.feature === state.feature) ? state.feature : first.feature;
  const choose = (name) => {
    state.feature = name;
    redraw();
  };
  const most = Math.max(first.psi_act * 1.5, ...now.map((row) => (row.status === "calendar" ? 0 : (row.psi ?? 0))));
  const bad = now.filter((row) => row.status !== "stable" && STATUS[row.status]);
  return [
    head(
      "Drift",
      versions.length > 1
        ? choice(
            "Version",
            versions.map((name) => [name, name]),
            chosen,
            (name) => {
              state.version = name;
              redraw();
            },
          )
        : h("span", { class: "mono" }, chosen),
      askedBy("SELECT * FROM ml.drift WHERE grain = 'day' ORDER BY window_start DESC, psi DESC"),
    ),
    told.is_cut
      ? h(
          "p",
          { class: "note" },
          `Not all is shown: of each part the first ${count(told.rows_max)} rows, the newest days (console.rows_max).`,
        )
      : null,
    bad.length
      ? h(
          "p",
          { class: "note" },
          `${plural(bad.length, "feature")} moved on ${day(first.window_start)}: ${bad.map((row) => row.feature).join(", ")}.`,
        )
      : h("p", { class: "muted" }, `Nothing moved on ${day(first.window_start)}, the newest day that was watched.`),
    table(
      `Population stability index by feature on ${day(first.window_start)}: watch from ${first.psi_watch}, act from ${first.psi_act}. Choose a feature to see its days.`,
      [
        {
          title: "Feature",
          heads: true,
          of: (row) =>
            h(
              "button",
              {
                type: "button",
                class: "link",
                "aria-pressed": String(row.feature === feature),
                "data-key": `feature:${row.feature}`,
                onclick: () => choose(row.feature),
              },
              row.feature,
            ),
        },
        { title: "Status", of: (row) => tag(row.status.replaceAll("_", " "), STATUS[row.status]) },
        { title: "PSI", numeric: true, of: (row) => real(row.psi) },
        { title: "", of: (row) => bar(row.psi ?? 0, most, STATUS[row.status] === "good" ? null : STATUS[row.status]) },
        { title: "By chance", numeric: true, of: (row) => real(row.psi_by_chance) },
        { title: "Jensen–Shannon", numeric: true, of: (row) => real(row.jensen_shannon) },
        { title: "Missing", numeric: true, of: (row) => share(row.missing, 1) },
        { title: "Rows", numeric: true, of: (row) => count(row.rows) },
        { title: "Largest change", wide: true, of: (row) => row.largest_change ?? "–" },
      ],
      now,
      { key: "drift" },
    ),
    h(
      "div",
      { class: "grid" },
      days.length
        ? h(
            "div",
            { class: "card" },
            psiChart(
              feature,
              days.filter((row) => row.feature === feature),
              first,
            ),
          )
        : null,
      quality.length ? h("div", { class: "card" }, qualityChart(quality)) : null,
    ),
    quality.length
      ? table(
          "Quality by day, once the labels had come",
          [
            { title: "Day", heads: true, of: (row) => day(row.window_start) },
            { title: "Rows", numeric: true, of: (row) => count(row.rows) },
            { title: "Frauds", numeric: true, of: (row) => count(row.frauds) },
            ...["precision", "recall", "f1", "average_precision"].map((name) => ({
              title: name.replace("_", " "),
              numeric: true,
              of: (row) => real(row[name]),
            })),
          ],
          quality.toReversed(),
          { key: "quality" },
        )
      : h("p", { class: "muted" }, "No day has labels yet: how good decisions were is known once they come."),
  ];
}

function psiChart(feature, days, { psi_watch: watch, psi_act: act }) {
  const points = days.filter((row) => row.psi !== null).map((row) => [instantOf(row.window_start), row.psi]);
  const last = points.at(-1);
  const told = last ? `${plural(points.length, "day")}, newest ${real(last[1])}` : "no day has enough rows";
  return chart(
    `PSI of ${feature}, by day`,
    told,
    lines({
      series: [{ ink: "k1", points, dots: true }],
      rules: [
        { at: watch, ink: "k5", name: "watch", left: true },
        { at: act, ink: "k4", name: "act" },
      ],
      time: "day",
    }),
  );
}

function qualityChart(days) {
  const points = (name) =>
    days.filter((row) => row[name] !== null).map((row) => [instantOf(row.window_start), row[name]]);
  const newest = days.at(-1);
  return chart(
    "Precision and recall, by day",
    `Newest: precision ${real(newest.precision)}, recall ${real(newest.recall)}`,
    lines({
      series: [
        { ink: "k1", points: points("precision"), dots: true },
        { ink: "k2", points: points("recall"), dots: true },
      ],
      time: "day",
      y: [0, 1],
    }),
    [
      ["k1", "precision"],
      ["k2", "recall"],
    ],
  );
}
