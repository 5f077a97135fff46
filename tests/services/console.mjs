// Drives the console in Chromium: node console.mjs WHAT URL ..., called by console.sh.
import { execFileSync } from "node:child_process";
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";

const require = createRequire(`${process.env.CONSOLE_BROWSER}/`);
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const DESK = { width: 1280, height: 900 };
const PHONE = { width: 360, height: 780 };
const [, , what, url, ...rest] = process.argv;

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS });
/** Everything that should not have happened, over all pages. */
const wrong = [];

async function open({ size = DESK, scheme = "light", expected = [] } = {}) {
  const context = await browser.newContext({ viewport: size, colorScheme: scheme, bypassCSP: false });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !expected.some((text) => message.text().includes(text)))
      wrong.push(`console: ${message.text()} at ${page.url()}`);
  });
  page.on("pageerror", (error) => wrong.push(`error: ${error.stack}`));
  page.on("dialog", (dialog) => {
    wrong.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}/`) && !request.url().startsWith("data:"))
      wrong.push(`a request to ${request.url()}`);
  });
  return page;
}

const visit = async (page, view) => {
  await page.goto(`${url}/#/${view}`);
  const name = view.split(/[/?]/)[0];
  await page.waitForSelector(`main[data-view="${name}"] h1`);
};

async function shot(page, name) {
  if (process.env.CONSOLE_SHOTS)
    await page.screenshot({ path: `${process.env.CONSOLE_SHOTS}/${name}.png`, fullPage: true });
}

/** Nothing that a person with other eyes or hands would stumble over, and no sideways scrolling of the page. */
async function sound(page, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wide, 0, `${name} is ${wide} px too wide`);
  // Past the policy of the page, which lets no foreign script in.
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: AXE });
  const found = await page.evaluate(() =>
    window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
  );
  const told = found.violations.map(
    (of) =>
      `${of.id}: ${of.help}: ${of.nodes
        .slice(0, 3)
        .map((node) => node.html)
        .join(" | ")}`,
  );
  assert.deepEqual(told, [], `axe on ${name}`);
}

const sql = (lake, query) =>
  JSON.parse(
    `[${execFileSync(process.env.ASSAY, ["sql", "--lake", lake, "--format", "json", query], {
      stdio: ["ignore", "pipe", "ignore"],
    })
      .toString()
      .trim()
      .split("\n")
      .join(",")}]`,
  );
const commas = (value) => Number(value).toLocaleString("en-US");
const text = (page, selector = "main") => page.locator(selector).innerText();

/** What is asked of the server takes a moment to be shown. */
async function has(page, wanted, selector = "main") {
  let found = "";
  for (const until = Date.now() + 15_000; Date.now() < until; await page.waitForTimeout(100)) {
    found = (await text(page, selector).catch(() => "")).replace(/\s+/g, " ");
    if (found.includes(wanted)) return;
  }
  assert.fail(`expected "${wanted}" in: ${found.slice(0, 1500)}`);
}

const runs = {
  async views(lake) {
    const [totals] = sql(
      lake,
      "SELECT count(*) AS epochs, sum(messages) AS messages, sum(dead_letters) AS letters, sum(quarantined) AS quarantined, sum(duplicates) AS duplicates, sum(silver_rows) AS silver, sum(bronze_rows) AS bronze, max(epoch) AS epoch FROM ops.epochs",
    );
    const reasons = sql(lake, "SELECT reason, count(*) AS n FROM bronze.dead_letters GROUP BY reason");
    const broken = sql(
      lake,
      "SELECT e, count(*) AS n FROM (SELECT unnest(broken_expectations) AS e FROM silver.quarantine) GROUP BY e",
    );
    const [drift] = sql(
      lake,
      "SELECT feature, psi FROM ml.drift WHERE grain = 'day' AND window_start = (SELECT max(window_start) FROM ml.drift WHERE grain = 'day') ORDER BY psi DESC LIMIT 1",
    );
    for (const [name, size, scheme] of [
      ["desk-light", DESK, "light"],
      ["desk-dark", DESK, "dark"],
      ["phone-light", PHONE, "light"],
      ["phone-dark", PHONE, "dark"],
    ]) {
      // A wrong question is asked on purpose.
      const page = await open({ size, scheme, expected: ["400 (Bad Request)"] });
      const seen = async (view) => {
        await sound(page, `${name}, ${view}`);
        await shot(page, `${view}-${name}`);
      };
      await visit(page, "flow");
      await has(
        page,
        `${commas(totals.messages)} messages = ${commas(totals.bronze)} bronze rows + ${commas(totals.letters)} dead letters`,
      );
      await has(
        page,
        `${commas(totals.bronze)} bronze rows = ${commas(totals.silver)} silver rows + ${commas(totals.duplicates)} duplicates + ${commas(totals.quarantined)} quarantined`,
      );
      await has(page, "adds up");
      await has(page, `epoch ${commas(totals.epoch)}`, "#status");
      await seen("flow");

      await visit(page, "epochs");
      const first = page.locator("tbody tr").first();
      assert.ok((await first.innerText()).startsWith(commas(totals.epoch)));
      await first.locator("button").press("Enter");
      await has(page, `Tables as of epoch ${totals.epoch}`);
      await page.waitForTimeout(100);
      assert.equal(
        await page.evaluate(() => document.activeElement.getAttribute("aria-expanded")),
        "true",
        "the focus stays",
      );
      await seen("epochs");

      await visit(page, "transactions");
      await has(page, "<img src=x onerror=alert(1)>");
      await has(page, "evil-1");
      await seen("transactions");
      await page.getByRole("button", { name: "All", exact: true }).click();
      await page.waitForFunction(() => !document.querySelector("main").innerText.includes("of high risk"));
      await page.keyboard.press("/");
      await page.keyboard.type("evil-1");
      await page.keyboard.press("Enter");
      await page.waitForSelector('main[data-view="transaction"] ol.steps');
      await has(page, "<img src=x onerror=alert(1)>");
      await has(page, "The same id came 2 times");
      await has(page, "Points by rule");
      await has(page, "gold.merchant_activity, 3 windows");
      await page.getByRole("button", { name: "Compute it again" }).click();
      await has(page, "What was compared with the receipt").catch(() =>
        page.getByText("What was compared with the receipt").waitFor(),
      );
      await has(page, "comes out the same, to the bit");
      await seen("transaction");

      await visit(page, "rejects");
      for (const { reason, n } of reasons)
        await has(page, reason.replaceAll("_", " ")).then(() => has(page, commas(n)));
      for (const { e } of broken) await has(page, e.replaceAll("_", " "));
      await page.getByRole("button", { name: "amount positive" }).click();
      await has(page, "<b>bold</b>");
      await has(page, "array_has(broken_expectations, 'amount_positive')");
      // What is to be copied is run by console.sh.
      if (name === "desk-light")
        writeFileSync(`${process.env.WORK}/commands`, await page.locator("main .copy pre").first().innerText());
      await seen("rejects");

      await visit(page, "models");
      await has(page, "2 versions of fraud");
      for (const title of ["Precision over recall", "ROC", "Calibration", "Scores of the test"])
        await page.getByRole("img", { name: title }).locator("svg").waitFor();
      await seen("models");

      await visit(page, "drift");
      await has(page, drift.feature);
      await has(page, Number(drift.psi).toFixed(4));
      await seen("drift");

      await visit(page, "sql");
      await page
        .locator("#question")
        .fill("SELECT transaction_id, merchant, amount FROM silver.transactions WHERE transaction_id = 'evil-1'");
      await page.locator("#question").press("Control+Enter");
      await page.locator("#answer td").first().waitFor();
      await has(page, "<img src=x onerror=alert(1)>", "#answer");
      await has(page, "6543.21", "#answer");
      await page
        .locator("#question")
        .fill("SELECT class, count(*) AS n FROM gold.fraud_scores GROUP BY class ORDER BY n DESC");
      await page.locator("#run").click();
      await page.locator("#plot svg").waitFor();
      for (const { class: of, n } of sql(lake, "SELECT class, count(*) AS n FROM gold.fraud_scores GROUP BY class"))
        await has(page, `${of} ${n}`, "#answer");
      await seen("sql");
      await page.locator("#question").fill("SELECT * FROM silver.transactoins");
      await page.locator("#run").click();
      await has(page, "there is no table").catch(() => page.locator("#sql-problem").waitFor());
      await has(page, "silver.transactions", "#sql-problem");
      await page.context().close();
    }
    const page = await open({ expected: ["404 (Not Found)"] });
    await visit(page, "flow");
    await page.keyboard.press("?");
    await page.locator("#help[open]").waitFor();
    await sound(page, "help");
    await shot(page, "help");
    await page.keyboard.press("Escape");
    for (const [key, view] of [
      ["2", "epochs"],
      ["3", "transactions"],
      ["4", "rejects"],
      ["5", "models"],
      ["6", "drift"],
      ["7", "sql"],
      ["1", "flow"],
    ]) {
      await page.keyboard.press(key);
      await page.waitForSelector(`main[data-view="${view}"] h1`);
    }
    // The first stop of the keyboard leads past the head.
    await page.reload();
    await page.waitForSelector("main h1");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    await visit(page, "transaction/nobody-has-this");
    await has(page, "no table of the lake knows nobody-has-this");
  },

  async changes(lake, key) {
    const page = await open({ expected: ["401"] });
    const champion = async () =>
      (await (await fetch(`${url}/models`)).json()).versions.find((of) => of.aliases.includes("champion"))?.version;
    const before = await champion();
    await visit(page, "models");
    const give = async (given) => {
      await page.locator("#key-dialog[open]").waitFor();
      await page.locator("#key").fill(given);
      await page.keyboard.press("Enter");
    };
    await page.locator('main button[aria-label^="Promote"]:not([disabled])').first().click();
    await shot(page, "promote");
    await page.locator("#ask-yes").click();
    await give("wrong");
    await give(key);
    await page.getByText("before it was").waitFor();
    assert.notEqual(await champion(), before, "the alias moved");
    assert.deepEqual(
      sql(lake, "SELECT version FROM ml.models WHERE is_champion").map((of) => of.version),
      [await champion()],
    );
    await page.getByRole("button", { name: "Roll back" }).click();
    await page.locator("#ask-yes").click();
    await page.waitForFunction(
      (version) => document.querySelector("main [role=status]")?.innerText.includes(`is ${version};`),
      before,
    );
    assert.equal(await champion(), before, "and back");
    assert.equal(await page.evaluate(() => JSON.stringify(localStorage)), "{}", "no key outlives the tab");
  },

  async gone(server) {
    const page = await open({
      expected: ["ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET", "Failed to load resource"],
    });
    await visit(page, "flow");
    process.kill(Number(server), "SIGTERM");
    await page.locator("#trouble", { hasText: "does not answer" }).waitFor({ timeout: 30_000 });
    await page.locator("#status", { hasText: "no answer" }).waitFor({ timeout: 30_000 });
    await has(page, "Nothing is dropped");
    await shot(page, "gone");
    // Now it may come back.
    writeFileSync(`${process.env.WORK}/seen`, "");
    await page.locator("#trouble").waitFor({ state: "hidden", timeout: 90_000 });
    await page.locator("#status", { hasText: "epoch" }).waitFor({ timeout: 30_000 });
  },

  async keyed(key) {
    const page = await open({ expected: ["401"] });
    await page.goto(url);
    await page.locator("#key-dialog[open]").waitFor();
    await sound(page, "key");
    await shot(page, "key");
    await page.keyboard.press("Escape");
    await has(page, "API key is needed", "#trouble");
    await page.getByRole("button", { name: "Give a key" }).click();
    await page.locator("#key").fill(key);
    await page.keyboard.press("Enter");
    await has(page, "Nothing is dropped").catch(() => page.getByText("Nothing is dropped").waitFor());
    assert.equal(await page.evaluate(() => sessionStorage.getItem("assay.key")), key);
    await page.keyboard.press("5");
    await page.getByText("there is no admin key").waitFor();
  },

  async empty() {
    const page = await open({ expected: ["404"] });
    for (const view of ["flow", "epochs", "transactions", "rejects", "drift", "sql"]) {
      await page.goto(`${url}/#/${view}`);
      await page.getByText("There is no lake yet").waitFor();
      await sound(page, `no lake, ${view}`);
    }
    await shot(page, "no-lake");
    await page.goto(`${url}/#/models`);
    await page.getByText("No models yet").waitFor();
    await shot(page, "no-models");
  },

  async retail() {
    const page = await open({ size: PHONE });
    await visit(page, "transactions");
    await has(page, "No table of this pipeline says how risky a row is");
    await has(page, "<i>cup</i>");
    await sound(page, "retail");
    await shot(page, "retail");
    await page.locator("tbody a").first().click();
    await page.waitForSelector('main[data-view="transaction"] ol.steps');
    await has(page, "gold.revenue_by_country_day, one window");
    await visit(page, "rejects");
    await has(page, "quantity not zero");
    for (const view of ["flow", "epochs", "drift", "models", "sql"]) {
      await visit(page, view);
      await sound(page, `retail, ${view}`);
    }
  },
};

try {
  await runs[what](...rest);
} finally {
  await browser.close();
}
assert.deepEqual(wrong, []);
