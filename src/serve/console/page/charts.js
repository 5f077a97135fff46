// Small charts, drawn as wide as there is room. Each says in words what it shows.

import { h, s } from "./dom.js";
import { instant, short } from "./format.js";

const PAD = { left: 46, right: 12, top: 8, bottom: 24 };

/** Even steps between two numbers. */
function ticks(low, high, most) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((of) => of * power).find((of) => of >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step)
    found.push(Number(at.toPrecision(12)));
  return found;
}

function timeTicks(low, high, most) {
  const shown = (at) => {
    const text = instant(new Date(at).toISOString());
    if (high - low > 3 * 86400e3) return text.slice(5, 10);
    return high - low > 300e3 ? text.slice(11, 16) : text.slice(11, 19);
  };
  const found = new Map();
  for (let number = 0; number < most; number += 1) {
    const at = low + ((high - low) * (number + 0.5)) / most;
    found.set(shown(at), at);
  }
  return [...found].map(([text, at]) => [at, text]);
}

/** Days themselves, not hours between them. */
function dayTicks(points, most) {
  const days = [...new Set(points.map(([at]) => at))].sort((one, other) => one - other);
  const each = Math.max(1, Math.ceil(days.length / most));
  return days.filter((_, place) => place % each === 0).map((at) => [at, new Date(at).toISOString().slice(5, 10)]);
}

/**
 * Lines over time or numbers.
 * series: [{name, ink, points: [[x, y]], area, dots, dashed, apart}]; rules: [{at, ink, name}] across.
 */
export function lines({
  series,
  rules = [],
  time = false,
  x: xRange,
  y: yRange,
  height = 190,
  xName = "",
  yName = "",
  shown = short,
}) {
  return (width) => {
    const points = series.flatMap((of) => of.points).filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
    const [x0, x1] =
      xRange ||
      extent(
        points.map(([x]) => x),
        false,
      );
    const [y0, y1] = yRange || extent([...points.map(([, y]) => y), ...rules.map((rule) => rule.at)], true);
    const top = PAD.top + (yName ? 14 : 0);
    const box = {
      width: Math.max(40, width - PAD.left - PAD.right),
      height: height - top - PAD.bottom - (xName ? 16 : 0),
    };
    const px = (x) => PAD.left + (x1 > x0 ? ((x - x0) / (x1 - x0)) * box.width : box.width / 2);
    const py = (y) => top + (y1 > y0 ? (1 - (y - y0) / (y1 - y0)) * box.height : box.height);
    const floor = top + box.height;
    const svg = s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
    for (const at of ticks(y0, y1, Math.max(2, Math.floor(box.height / 40)))) {
      svg.append(s("line", { class: "axis", x1: PAD.left, x2: PAD.left + box.width, y1: py(at), y2: py(at) }));
      svg.append(s("text", { x: PAD.left - 8, y: py(at) + 4, "text-anchor": "end" }, shown(at)));
    }
    const across = Math.max(2, Math.floor(box.width / (time ? 90 : 70)));
    const marks = time === "day" ? dayTicks(points, across) : time ? timeTicks(x0, x1, across) : null;
    for (const [at, text] of marks ?? ticks(x0, x1, across).map((at) => [at, short(at)])) {
      svg.append(s("text", { x: px(at), y: floor + 17, "text-anchor": "middle" }, text));
    }
    if (xName) svg.append(s("text", { x: PAD.left + box.width / 2, y: height - 3, "text-anchor": "middle" }, xName));
    if (yName) svg.append(s("text", { x: PAD.left - 8, y: 11 }, yName));
    for (const rule of rules) {
      svg.append(
        s("line", {
          class: `rule ${rule.ink}`,
          x1: PAD.left,
          x2: PAD.left + box.width,
          y1: py(rule.at),
          y2: py(rule.at),
        }),
      );
      if (rule.name)
        svg.append(
          s(
            "text",
            {
              x: rule.left ? PAD.left + 4 : PAD.left + box.width,
              y: py(rule.at) - 4,
              "text-anchor": rule.left ? "start" : "end",
            },
            rule.name,
          ),
        );
    }
    for (const of of series) {
      const group = s("g", { class: of.ink });
      const path = of.points
        .map(([x, y], place) => `${place ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`)
        .join("");
      if (of.area && of.points.length > 1) {
        const ends = [of.points[0][0], of.points.at(-1)[0]].map((x) => px(x).toFixed(1));
        group.append(s("path", { class: "area", d: `${path}L${ends[1]} ${floor}L${ends[0]} ${floor}Z` }));
      }
      if (!of.apart) group.append(s("path", { class: of.dashed ? "rule" : "line", d: path }));
      if (of.dots || of.apart || of.points.length === 1) {
        for (const [x, y, size] of of.points)
          group.append(s("circle", { class: "dot", cx: px(x), cy: py(y), r: size || 2.6 }));
      }
      svg.append(group);
    }
    return svg;
  };
}

/** Upright bars, one or two a place. bars: [{label, values: [number]}] */
export function columns({ bars, inks, height = 190, log = false, xLabels = true }) {
  return (width) => {
    const scale = (value) => (log ? Math.log10(Math.max(0, value) + 1) : value);
    const all = bars.flatMap((bar) => bar.values).filter(Number.isFinite);
    const low = Math.min(0, ...all.map(scale));
    const high = Math.max(...all.map(scale), low + 1e-9);
    const box = { width: Math.max(40, width - PAD.left - PAD.right), height: height - PAD.top - PAD.bottom };
    const py = (value) => PAD.top + (1 - (scale(value) - low) / (high - low)) * box.height;
    const svg = s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
    const marks = log ? Array.from({ length: Math.floor(high) + 1 }, (_, power) => 10 ** power) : ticks(low, high, 4);
    for (const at of marks) {
      svg.append(s("line", { class: "axis", x1: PAD.left, x2: PAD.left + box.width, y1: py(at), y2: py(at) }));
      svg.append(s("text", { x: PAD.left - 8, y: py(at) + 4, "text-anchor": "end" }, short(at)));
    }
    const slot = box.width / Math.max(1, bars.length);
    const wide = Math.max(1, Math.min(38, (slot * 0.8) / Math.max(1, inks.length)));
    const each = Math.max(1, Math.ceil(bars.length / Math.max(1, Math.floor(box.width / 80))));
    bars.forEach((bar, place) => {
      const middle = PAD.left + slot * (place + 0.5);
      bar.values.forEach((value, number) => {
        if (!Number.isFinite(value)) return;
        const [top, bottom] = [py(Math.max(value, 0)), py(Math.min(value, 0))];
        const left = middle - (wide * inks.length) / 2 + wide * number;
        svg.append(
          s(
            "g",
            { class: inks[number] },
            s("rect", {
              class: "fill",
              x: left,
              y: top,
              width: Math.max(1, wide - 1),
              height: Math.max(0.5, bottom - top),
            }),
          ),
        );
      });
      if (xLabels && place % each === 0) {
        const letters = Math.max(4, Math.floor((slot * each) / 7));
        const text = bar.label.length > letters ? `${bar.label.slice(0, letters - 1)}…` : bar.label;
        svg.append(s("text", { x: middle, y: PAD.top + box.height + 17, "text-anchor": "middle" }, text));
      }
    });
    return svg;
  };
}

function extent(values, fromZero) {
  if (!values.length) return [0, 1];
  const [low, high] = values.reduce(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Infinity, -Infinity],
  );
  if (fromZero) return [Math.min(0, low), high > 0 ? high * 1.06 : high === low ? 1 : 0];
  return [low, high];
}

/** A chart with its title, its legend, and in words what it shows. */
export function chart(title, told, draw, legend = []) {
  const box = h("div", { role: "img", "aria-label": `${title}. ${told}` });
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.round(box.clientWidth);
    if (now > 0 && now !== width) {
      width = now;
      box.replaceChildren(draw(now));
    }
  }).observe(box);
  const keys = legend.map(([ink, name]) => h("span", { class: ink }, name));
  return h(
    "figure",
    {},
    h("figcaption", {}, h("b", {}, title), keys.length ? h("span", { class: "legend" }, keys) : h("span", {}, told)),
    box,
  );
}
