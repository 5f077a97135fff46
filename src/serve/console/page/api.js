// Requests to this server, and to no other. Keys stay in this tab.

import { by } from "./dom.js";

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || `the server answered ${status}`);
    this.status = status;
    this.body = body;
    this.code = body.code;
  }
}

/** The server does not answer at all. */
export class Gone extends Error {}

const KEYS = { read: "assay.key", admin: "assay.admin" };

const keyOf = (kind) =>
  sessionStorage.getItem(KEYS[kind]) || (kind === "read" ? sessionStorage.getItem(KEYS.admin) : null);

async function send(path, options, key) {
  const headers = { accept: "application/json", "x-assay-console": "1", ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone("the server does not answer");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, body);
}

let asking = null;

/** Asks for a key, once for all who wait for one. */
function askKey(kind, why) {
  asking ??= new Promise((resolve) => {
    const dialog = by("key-dialog");
    const input = by("key");
    by("key-title").textContent = kind === "admin" ? "Admin key" : "API key";
    by("key-why").textContent = why;
    input.value = "";
    dialog.returnValue = "cancel";
    dialog.addEventListener(
      "close",
      () => {
        asking = null;
        const key = dialog.returnValue === "ok" ? input.value.trim() : "";
        input.value = "";
        if (key) sessionStorage.setItem(KEYS[kind], key);
        resolve(Boolean(key));
      },
      { once: true },
    );
    dialog.showModal();
    input.focus();
  });
  return asking;
}

let refusedKey = false;

/** Whether the user would not give a key: nothing is asked again before they do something. */
export const isLockedOut = () => refusedKey;
export const tryAgain = () => (refusedKey = false);

async function withKey(path, options) {
  for (;;) {
    const key = keyOf("read");
    try {
      return await send(path, options, key);
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 401 || refusedKey) throw error;
      if (key && keyOf("read") !== key) continue;
      const given = await askKey(
        "read",
        key ? "The key is not known to this server." : "This server shows its lake to those who have a key.",
      );
      if (!given) {
        refusedKey = true;
        throw error;
      }
    }
  }
}

/** Asks again, three times, while all turns are taken or tables are being opened. */
export async function get(path, signal) {
  for (let left = 3; ; left -= 1) {
    try {
      return await (await withKey(path, { signal })).json();
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 503 || left === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 + Math.random() * 1000));
      signal?.throwIfAborted();
    }
  }
}

export const text = async (path, signal) => (await withKey(path, { signal })).text();

export const post = async (path, body, signal) =>
  (
    await withKey(path, {
      method: "POST",
      signal,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    })
  ).json();

/** A change: always with an admin key, which is asked for where there is none, and again where it is not taken. */
export async function change(path, body) {
  for (;;) {
    const key = sessionStorage.getItem(KEYS.admin);
    if (!key && !(await askKey("admin", "Changes need an admin key (serve.admin_key_file, or ASSAY_SERVE_ADMIN_KEY).")))
      return null;
    try {
      const sent = sessionStorage.getItem(KEYS.admin);
      const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
      return await (await send(path, options, sent)).json();
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "admin_key_needed") throw error;
      sessionStorage.removeItem(KEYS.admin);
      if (!(await askKey("admin", "This key may not change anything here."))) return null;
    }
  }
}

/** Asks before something changes. */
export function confirmed(title, why, yes) {
  return new Promise((resolve) => {
    const dialog = by("ask-dialog");
    by("ask-title").textContent = title;
    by("ask-text").textContent = why;
    by("ask-yes").textContent = yes;
    dialog.returnValue = "cancel";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
    dialog.showModal();
  });
}
