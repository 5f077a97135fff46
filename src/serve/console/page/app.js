// The frame: views by address, what is fresh, keys of the keyboard.

import { Gone, Problem, get, isLockedOut, tryAgain } from "./api.js";
import { by, empty, h, head } from "./dom.js";
import { ago, count, instantOf } from "./format.js";
import * as drift from "./drift.js";
import * as epochs from "./epochs.js";
import * as flow from "./flow.js";
import * as models from "./models.js";
import * as rejects from "./rejects.js";
import * as sql from "./sql.js";
import * as story from "./story.js";
import * as transactions from "./transactions.js";

const VIEWS = [
  ["flow", "Flow", flow],
  ["epochs", "Epochs", epochs],
  ["transactions", "Transactions", transactions],
  ["rejects", "Rejects", rejects],
  ["models", "Models", models],
  ["drift", "Drift", drift],
  ["sql", "SQL", sql],
];
const HIDDEN = [["transaction", "Transaction", story]];
const SHORTCUTS = [
  ["1 … 7", `Go to ${VIEWS.map(([, title]) => title).join(", ")}`],
  ["/", "Find a transaction by its id"],
  ["r", "Ask again now"],
  ["Tab, Enter", "Go through what can be opened"],
  ["Ctrl Enter", "Run the question of the SQL prompt"],
  ["?", "This list"],
  ["Esc", "Close a dialog, leave a field"],
];

const main = by("main");
/** What all views share: what the process is, how fresh the lake is. */
const shared = { about: null, newest: null };
let current = null;
let timer = 0;

function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { name: name || "flow", rest, query: new URLSearchParams(query || "") };
}

async function show() {
  const at = place();
  const found = [...VIEWS, ...HIDDEN].find(([name]) => name === at.name) || VIEWS[0];
  current?.stop.abort();
  clearTimeout(timer);
  const stop = new AbortController();
  const [name, title, module] = found;
  current = { name, title, at, module, stop, state: {}, drawn: false };
  document.title = `${title} · assay`;
  for (const link of by("nav").children) {
    const isHere = link.dataset.view === (name === "transaction" ? "transactions" : name);
    if (isHere) {
      link.setAttribute("aria-current", "page");
      // Only sideways: the page itself stays where it is.
      by("nav").scrollLeft = Math.max(0, link.offsetLeft - 60);
    } else link.removeAttribute("aria-current");
  }
  main.replaceChildren(h("p", { class: "muted" }, "Asking…"));
  scrollTo(0, 0);
  await load(current, true);
}

async function load(view, isFirst = false) {
  clearTimeout(timer);
  const signal = view.stop.signal;
  const context = {
    shared,
    at: view.at,
    state: view.state,
    signal,
    again: () => load(view),
    redraw: () => draw(view),
    isFirst,
  };
  try {
    shared.about ??= await get("/console/about", signal);
    view.data = await view.module.load(context);
    if (view !== current) return;
    view.context = context;
    trouble(null);
    if (isFirst || !isBusy()) draw(view);
  } catch (error) {
    if (error.name === "AbortError" || view !== current) return;
    failed(view, error);
  }
  if (view.module.every && view === current && !isLockedOut())
    timer = setTimeout(() => whenSeen(() => load(view)), view.module.every);
}

/** Nobody is looking: nothing is asked. */
function whenSeen(work) {
  if (!document.hidden) work();
  else document.addEventListener("visibilitychange", work, { once: true });
}

/** What the user is doing shall not be taken from under them. */
function isBusy() {
  const selected = getSelection();
  if (selected && !selected.isCollapsed && main.contains(selected.anchorNode)) return true;
  return (
    Boolean(document.querySelector("dialog[open]")) ||
    (["INPUT", "TEXTAREA", "SELECT"].includes(document.activeElement?.tagName) && main.contains(document.activeElement))
  );
}

function draw(view) {
  const focused = main.contains(document.activeElement)
    ? document.activeElement.closest("[data-key]")?.dataset.key
    : null;
  const open = new Set([...main.querySelectorAll("details[open][data-key]")].map((details) => details.dataset.key));
  const scrolled = new Map(
    [...main.querySelectorAll(".scroll[data-key]")].map((box) => [box.dataset.key, [box.scrollLeft, box.scrollTop]]),
  );
  const top = scrollY;
  main.replaceChildren(...[view.module.draw(view.data, view.context)].flat().filter(Boolean));
  main.setAttribute("data-view", view.name);
  if (view.drawn) {
    for (const details of main.querySelectorAll("details[data-key]"))
      if (open.has(details.dataset.key)) details.open = true;
    for (const box of main.querySelectorAll(".scroll[data-key]")) {
      const at = scrolled.get(box.dataset.key);
      if (at) [box.scrollLeft, box.scrollTop] = at;
    }
    scrollTo(0, top);
    if (focused)
      [...main.querySelectorAll("[data-key]")]
        .find((element) => element.dataset.key === focused)
        ?.focus({ preventScroll: true });
  }
  view.drawn = true;
}

function failed(view, error) {
  if (error instanceof Problem && error.code === "no_lake") {
    trouble(null);
    const title = shared.about?.job === "run" ? "The lake is being founded" : "There is no lake yet";
    main.replaceChildren(head(view.title), empty(title, error.message));
    view.drawn = false;
    return;
  }
  if (!(error instanceof Problem || error instanceof Gone)) console.error(error);
  const next = error instanceof Gone ? "It is asked again every few seconds." : "";
  trouble([error.message, next].filter(Boolean).join(" "), error instanceof Problem && error.status === 401);
  if (!view.drawn) main.replaceChildren(head(view.title), empty("Nothing to show", "What stands above says why."));
}

function trouble(text, isKey = false) {
  const box = by("trouble");
  box.hidden = !text;
  if (!text) return box.replaceChildren();
  const again = isKey ? h("button", { type: "button", onclick: unlock }, "Give a key") : null;
  const wanted = [text, again ? " " : null, again].filter(Boolean);
  // Said once, not every few seconds.
  if (box.firstChild?.textContent !== text) box.replaceChildren(...wanted);
}

function unlock() {
  tryAgain();
  pulse();
  if (current) load(current, true);
}

/** How fresh the lake is, on every view. */
async function pulse() {
  clearTimeout(pulse.timer);
  const status = by("status");
  try {
    if (!isLockedOut()) {
      const told = await get("/console/pulse");
      shared.newest = told;
      const age = told.now_us / 1e6 - instantOf(told.published_at) / 1000;
      const isStill = !(age < (shared.about?.job === "serve" ? 60 : 30));
      status.className = told.epoch ? (isStill ? "status still" : "status live") : "status still";
      status.textContent = told.epoch ? `epoch ${count(told.epoch)}, ${ago(age)}` : "no epoch yet";
      status.title = told.epoch ? `The newest complete epoch was published at ${told.published_at}` : "";
    }
  } catch (error) {
    status.className = error.code === "no_lake" ? "status still" : "status gone";
    const isGone = error instanceof Gone;
    status.textContent = isGone
      ? "no answer"
      : error.code === "no_lake"
        ? "no lake yet"
        : error.status === 401
          ? "locked"
          : "trouble";
    if (isGone) trouble("The server does not answer. It is asked again every few seconds; what is shown is as it was.");
  }
  pulse.timer = setTimeout(() => whenSeen(pulse), 3000);
}

function keys(event) {
  const typing = ["INPUT", "TEXTAREA", "SELECT"].includes(event.target.tagName);
  if (event.key === "Escape" && typing && !event.target.closest("dialog")) event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const view = VIEWS[Number(event.key) - 1];
  if (view && /^[1-9]$/.test(event.key)) {
    location.hash = `#/${view[0]}`;
    main.focus();
  } else if (event.key === "/") {
    event.preventDefault();
    by("sought").focus();
    by("sought").select();
  } else if (event.key === "?") by("help").showModal();
  else if (event.key === "r" && current) load(current);
}

function start() {
  by("nav").append(
    ...VIEWS.map(([name, title], place) =>
      h("a", { href: `#/${name}`, "data-view": name, "aria-keyshortcuts": String(place + 1) }, title),
    ),
  );
  by("help-keys").append(...SHORTCUTS.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]));
  by("help-button").addEventListener("click", () => by("help").showModal());
  by("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = by("sought").value.trim();
    if (id) location.hash = `#/transaction/${encodeURIComponent(id)}`;
  });
  addEventListener("hashchange", show);
  addEventListener("keydown", keys);
  show();
  pulse();
}

start();
