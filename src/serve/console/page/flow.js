// Kafka → bronze → silver → gold: how much, how fast, how far behind, and what was refused.

import { get, text } from "./api.js";
import { askedBy, facts, h, head, section, table, tag } from "./dom.js";
import { chart, lines } from "./charts.js";
import { ago, count, instant, instantOf, plural, rate, span } from "./format.js";
import { Rates, parse, sum } from "./metrics.js";

export const every = 2000;
/** Rates from the ledger are over so many seconds. */
const WINDOW_S = 60;

export async function load({ shared, state, signal }) {
  const told = await get("/console/flow", signal);
  told.live = null;
  // A process that streams measures itself while an epoch is under way; one that follows knows the ledger alone.
  if (shared.about.job !== "serve") {
    const samples = parse(await text("/metrics", signal));
    const rows = (layer) => sum(samples, "assay_rows_total", (labels) => labels.table?.startsWith(`${layer}.`)) ?? 0;
    state.rates ??= new Rates(10);
    state.rates.take(Date.now(), {
      messages: sum(samples, "assay_messages_total") ?? 0,
      bronze: sum(samples, "assay_rows_total", (labels) => labels.table === shared.about.tables.bronze) ?? 0,
      silver: sum(samples, "assay_rows_total", (labels) => labels.table === shared.about.tables.silver) ?? 0,
      gold: rows("gold"),
    });
    const of = (name) => state.rates.of(name);
    told.live = {
      rates: { messages: of("messages"), bronze: of("bronze"), silver: of("silver"), gold: of("gold") },
      lag: sum(samples, "assay_consumer_lag"),
      connected: sum(samples, "assay_source_connected"),
      watermark: sum(samples, "assay_watermark_lag_seconds"),
      behind: samples
        .filter((sample) => sample.name === "assay_consumer_lag")
        .map(({ labels, value }) => ({ ...labels, value })),
    };
  }
  return told;
}

/** Rows a second of the last minute, from the ledger. */
function ledgerRates(told) {
  const now = told.now_us / 1000;
  const recent = told.epochs.filter(
    (epoch) => epoch.kind === "stream" && now - instantOf(epoch.published_at) < WINDOW_S * 1000,
  );
  const over = (of) => recent.reduce((all, epoch) => all + of(epoch), 0) / WINDOW_S;
  return {
    messages: over((of) => of.messages),
    bronze: over((of) => of.bronze_rows),
    silver: over((of) => of.silver_rows),
    gold: over(goldRows),
  };
}

const goldRows = (epoch) =>
  epoch.tables.filter((of) => of.table.startsWith("gold.")).reduce((all, of) => all + of.rows_added, 0);

function stage(layer, title, perSecond, unit, pairs) {
  const name = h("h2", {}, title);
  const figure = h("p", { class: "figure" }, rate(perSecond ?? NaN), h("small", {}, ` ${unit}/s`));
  return h(
    "li",
    { class: layer },
    name,
    figure,
    h(
      "dl",
      { class: "pairs" },
      pairs.filter(Boolean).map(([what, value]) => [h("dt", {}, what), h("dd", {}, value)]),
    ),
  );
}

const refused = (value) => (Number(value) > 0 ? h("a", { href: "#/rejects", class: "warn" }, count(value)) : "0");

export function draw(told, { shared }) {
  const { totals, live } = told;
  // Until two looks were taken, the ledger tells.
  const isLive = live && live.rates.messages !== null;
  const rates = isLive ? live.rates : ledgerRates(told);
  const newest = told.epochs[0];
  if (!newest && !live)
    return [
      head("Flow"),
      h(
        "div",
        { class: "empty" },
        h("h2", {}, "No epoch is complete yet"),
        h("p", {}, "Figures appear with the first one."),
      ),
    ];
  const age = newest ? told.now_us / 1e6 - instantOf(newest.published_at) / 1000 : NaN;
  const gold = newest ? newest.tables.filter((of) => of.table.startsWith("gold.")) : [];
  const topics = [...new Set(told.epochs.flatMap((epoch) => epoch.offsets.map((of) => of.topic)))];
  const stages = [
    stage("source", "Kafka", rates.messages, "messages", [
      ["Read", count(totals.messages)],
      live ? ["Lag", live.lag === null ? "not told yet" : plural(live.lag, "message")] : ["Newest epoch", ago(age)],
      live
        ? [
            "Source",
            live.connected === null ? "–" : live.connected ? "connected" : h("span", { class: "bad" }, "not connected"),
          ]
        : null,
    ]),
    stage("bronze", "Bronze", rates.bronze, "rows", [
      ["Rows", count(totals.bronze_rows)],
      ["Dead letters", refused(totals.dead_letters)],
    ]),
    stage("silver", "Silver", rates.silver, "rows", [
      ["Rows", count(totals.silver_rows)],
      ["Duplicates", count(totals.duplicates)],
      ["Quarantined", refused(totals.quarantined)],
    ]),
    stage("gold", "Gold", rates.gold, "rows", [
      ["Tables", count(gold.length)],
      ["Late rows", count(totals.late_rows)],
      newest ? ["Watermark", newest.watermark_at ? instant(newest.watermark_at).slice(5, 16) : "–"] : null,
    ]),
  ];
  const how = isLive ? "by this process, over 10 s" : `by the ledger, over ${WINDOW_S} s`;
  return [
    head(
      "Flow",
      h("span", { class: "muted small" }, `Rates ${how}`),
      topics.length
        ? h(
            "span",
            { class: "muted small mono" },
            topics.length > 2 ? plural(topics.length, "topic") : topics.join(", "),
          )
        : null,
    ),
    told.not_ready.length
      ? h(
          "p",
          { class: "note" },
          "Not ready: ",
          told.not_ready.map(({ condition, reason }) => `${condition} (${reason})`).join("; "),
        )
      : null,
    h("ol", { class: "pipe" }, stages),
    newest ? conservation(totals) : null,
    newest ? charts(told) : null,
    live?.behind.length
      ? table(
          "Messages still to be read, by partition",
          [
            { title: "Topic", of: (row) => row.topic, heads: true },
            { title: "Partition", numeric: true, of: (row) => row.partition },
            { title: "Lag", numeric: true, of: (row) => count(row.value) },
          ],
          live.behind,
        )
      : null,
    newest
      ? section(
          "Newest epoch",
          h(
            "div",
            { class: "card" },
            facts([
              ["Epoch", h("a", { href: "#/epochs" }, count(newest.epoch))],
              ["Published", `${instant(newest.published_at)}, ${ago(age)}`],
              ["Took", span(newest.seconds)],
              ["Messages", count(newest.messages)],
              ["Lake", h("span", { class: "mono" }, shared.about.lake)],
              ["Pipeline", shared.about.pipeline],
              ["Process", `assay ${shared.about.job} ${shared.about.version}`],
            ]),
          ),
        )
      : null,
  ];
}

export function conservation(totals) {
  const holds = Number(totals.unbalanced_epochs) === 0;
  const verdict = holds
    ? tag("✓ adds up", "good")
    : tag(`✗ does not add up in ${plural(totals.unbalanced_epochs, "epoch")}`, "bad");
  const term = (value, name) => [h("b", {}, count(value)), " ", h("span", {}, name)];
  const sql =
    "SELECT sum(messages), sum(bronze_rows), sum(dead_letters), sum(silver_rows), sum(duplicates), sum(quarantined)\nFROM ops.epochs WHERE kind = 'stream'";
  return h(
    "section",
    { class: "card", "aria-label": "Conservation" },
    h(
      "div",
      { class: "head" },
      h("h2", {}, "Nothing is dropped"),
      h(
        "p",
        { class: "controls" },
        verdict,
        h("span", { class: "muted small" }, `in ${plural(totals.epochs, "epoch")}`),
        askedBy(sql),
      ),
    ),
    h(
      "p",
      { class: "sum" },
      term(totals.messages, "messages"),
      " = ",
      term(totals.bronze_rows, "bronze rows"),
      " + ",
      term(totals.dead_letters, "dead letters"),
    ),
    h(
      "p",
      { class: "sum" },
      term(totals.bronze_rows, "bronze rows"),
      " = ",
      term(totals.silver_rows, "silver rows"),
      " + ",
      term(totals.duplicates, "duplicates"),
      " + ",
      term(totals.quarantined, "quarantined"),
    ),
  );
}

function charts(told) {
  const epochs = told.epochs.filter((epoch) => epoch.kind === "stream").reverse();
  if (epochs.length < 2) return null;
  const at = epochs.map((epoch) => instantOf(epoch.published_at));
  const perSecond = epochs.map((epoch, place) => {
    const since = place ? (at[place] - at[place - 1]) / 1000 : epoch.seconds;
    return epoch.messages / Math.max(since, epoch.seconds, 1e-3);
  });
  const took = epochs.map((epoch) => epoch.seconds);
  const pairs = (values) => values.map((value, place) => [at[place], value]);
  const of = (values, shown) =>
    `Newest ${shown(values.at(-1))}, least ${shown(Math.min(...values))}, most ${shown(Math.max(...values))}`;
  const bad = epochs.map((epoch) => (100 * (epoch.dead_letters + epoch.quarantined)) / Math.max(1, epoch.messages));
  return h(
    "div",
    { class: "grid" },
    h(
      "div",
      { class: "card" },
      chart(
        "Messages a second, by epoch",
        of(perSecond, rate),
        lines({ series: [{ ink: "k1", points: pairs(perSecond), area: true }], time: true }),
      ),
    ),
    h(
      "div",
      { class: "card" },
      chart(
        "Seconds from the first message to published",
        of(took, span),
        lines({ series: [{ ink: "k3", points: pairs(took), area: true }], time: true }),
      ),
    ),
    h(
      "div",
      { class: "card" },
      chart(
        "Refused, in percent of messages",
        of(bad, (value) => `${value.toFixed(2)} %`),
        lines({ series: [{ ink: "k2", points: pairs(bad), area: true }], time: true }),
      ),
    ),
  );
}
