// Elements from data. Text is only ever set as text.

import { cell, isNumeric } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(4).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** h("a", {href: "#/"}, "text", other): attributes that begin with `on` are listeners. */
export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

export const by = (id) => document.getElementById(id);

/** The title of a view, with what stands at its right. */
export const head = (title, ...right) =>
  h("div", { class: "head" }, h("h1", {}, title), right.length ? h("div", { class: "controls" }, ...right) : null);

export const section = (title, ...children) => h("section", { "aria-label": title }, h("h2", {}, title), ...children);

export const empty = (title, ...text) =>
  h("div", { class: "empty" }, h("h2", {}, title), ...text.map((line) => h("p", {}, line)));

export const tag = (text, kind) => h("span", { class: kind ? `tag ${kind}` : "tag" }, text);

export const when = (text, shown) => h("time", { datetime: text || null }, shown);

/** Columns: {title, of(row, index) -> node or text, numeric, wide}. `key` tells scrolled boxes apart when they are drawn anew. */
export function table(caption, columns, rows, { key = caption, tall = false, after } = {}) {
  const classOf = (column) =>
    [column.numeric ? "n" : "", column.wide ? "wide" : "", column.cell ? "cell" : ""].join(" ").trim() || null;
  const header = h(
    "tr",
    {},
    columns.map((column) =>
      column.title ? h("th", { scope: "col", class: classOf(column) }, column.title) : h("td", {}),
    ),
  );
  const body = rows.flatMap((row, index) => {
    const cells = columns.map((column, place) => {
      const inside = column.of(row, index);
      return place === 0 && column.heads
        ? h("th", { scope: "row", class: classOf(column) }, inside)
        : h("td", { class: classOf(column), title: column.cell && typeof inside === "string" ? inside : null }, inside);
    });
    const line = h("tr", {}, cells);
    const below = after?.(row, columns.length);
    return below ? [line, below] : [line];
  });
  return h(
    "div",
    {
      class: tall ? "scroll tall" : "scroll",
      tabindex: "0",
      role: "region",
      "aria-label": caption,
      "data-key": `scroll:${key}`,
    },
    h("table", {}, h("caption", {}, h("span", {}, caption)), h("thead", {}, header), h("tbody", {}, body)),
  );
}

/** Rows as the server gives them, column by column. */
export function answerTable(caption, columns, rows, options) {
  const shown = columns.map(({ name, kind }, place) => ({
    title: name,
    numeric: isNumeric(kind),
    cell: !isNumeric(kind),
    of: (row) => {
      const text = cell(Array.isArray(row) ? row[place] : row[name], kind);
      return text === null ? h("span", { class: "null" }, "null") : text;
    },
  }));
  return table(caption, shown, rows, options);
}

/** A share of the largest as a bar. */
export function bar(value, most, kind) {
  const percent = most > 0 ? Math.max(0, Math.min(100, (100 * value) / most)) : 0;
  return s(
    "svg",
    { class: "bar", "aria-hidden": "true" },
    s("rect", { class: "of", width: "100%", height: "100%", rx: 2 }),
    s("rect", { class: kind ? `is ${kind}` : "is", width: `${percent}%`, height: "100%", rx: 2 }),
  );
}

/** Name and value, for a list of what a row holds. */
export const facts = (pairs) =>
  h(
    "dl",
    { class: "facts" },
    pairs.map(([name, value]) =>
      h(
        "div",
        {},
        h("dt", {}, name),
        h("dd", {}, value === null || value === undefined ? h("span", { class: "null" }, "null") : value),
      ),
    ),
  );

/** Text that is to be taken away. */
export function copyable(text, label) {
  const button = h("button", { type: "button", "data-key": `copy:${text}` }, "Copy");
  button.setAttribute("aria-label", `Copy: ${label}`);
  button.addEventListener("click", async () => {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      // Without a clipboard (HTTP from elsewhere) the text is selected, to be copied by hand.
      getSelection().selectAllChildren(pre);
    }
    button.textContent = done ? "Copied" : "Selected";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  const pre = h("pre", { tabindex: "0", "aria-label": label }, text);
  return h("div", { class: "copy" }, pre, button);
}

/** One of several, as pressed buttons. */
export const choice = (label, options, chosen, choose) =>
  h(
    "div",
    { class: "choice", role: "group", "aria-label": label },
    options.map(([value, text]) =>
      h(
        "button",
        {
          type: "button",
          "aria-pressed": String(value === chosen),
          "data-key": `${label}:${value}`,
          onclick: () => choose(value),
        },
        text,
      ),
    ),
  );

/** A link to the prompt, with a question in it. */
export const askedBy = (sql) => h("a", { class: "small", href: `#/sql?q=${encodeURIComponent(sql)}` }, "as SQL");
