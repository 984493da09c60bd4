// Looks at pages as readers do: light and wide, then dark and on a telephone. It fails at what
// axe calls serious or critical, at a page that is wider than its screen, at a request to
// elsewhere, at what is missing, and at a search of the site that finds nothing.
//
//   node docs/site/look.mjs build/site/dev                    all pages, from their folder
//   node docs/site/look.mjs build/site/dev docs/cli.html URL  these
//
// PARTD_SITE_SHOTS names a directory for pictures, to be looked at. .ci/peers node-look has what it needs.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const peers = process.env.PARTD_PEERS ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "partd-peers");
const require = createRequire(join(peers, "node-look/"));
const { chromium } = require("@playwright/test");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const shots = process.env.PARTD_SITE_SHOTS;
const looks = [
  { colorScheme: "light", viewport: { width: 1280, height: 900 } },
  { colorScheme: "dark", viewport: { width: 390, height: 844 } },
  ...(shots ? [{ colorScheme: "dark", viewport: { width: 1280, height: 900 } }, { colorScheme: "light", viewport: { width: 390, height: 844 } }] : []),
];

const site = resolve(process.argv[2]);
const all = () => readdirSync(site, { recursive: true }).filter((f) => f.endsWith(".html") && f !== "404.html").sort();
const named = process.argv.slice(3);
const addresses = (named.length ? named : all()).map((f) => (f.startsWith("http") ? f : pathToFileURL(join(site, f)).href));
const faults = [];

// look says what is wrong with a page at an address.
async function look(page, address, { colorScheme, viewport }) {
  const found = [];
  const wrong = (text) => found.push(text);
  const asked = (r) => /^https?:/.test(r.url()) && new URL(r.url()).origin !== new URL(address).origin && wrong(`asks elsewhere: ${r.url()}`);
  const failed = (r) => r.url().endsWith("/versions.json") || wrong(`is missing: ${r.url()}`); // a folder's page may not read it
  page.on("request", asked).on("requestfailed", failed).on("pageerror", wrong);
  await page.goto(address, { waitUntil: address.startsWith("http") ? "networkidle" : "load" });
  const { width } = viewport;
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > width) wrong(`is ${wide} wide`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run({ preload: false, resultTypes: ["violations"] }));
  for (const v of violations.filter((v) => ["serious", "critical"].includes(v.impact))) {
    wrong(`${v.id}: ${v.nodes.length} × ${v.nodes[0].target.join(" ")}: ${v.nodes[0].failureSummary.replace(/\s+/g, " ")}`);
  }
  if (shots) await page.screenshot({ path: join(shots, `${address.replace(pathToFileURL(site).href, "").replace(/\W+/g, "_")}-${width}-${colorScheme}.png`) });
  page.off("request", asked).off("requestfailed", failed).off("pageerror", wrong);
  faults.push(...found.map((text) => `${address.replace(pathToFileURL(site).href, "")}, ${colorScheme}, ${width} wide: ${text}`));
}

// search says what is wrong with the search of the site.
async function search(page) {
  await page.goto(pathToFileURL(join(site, "index.html")).href);
  await page.keyboard.press("/");
  await page.keyboard.type("memory");
  await page.locator(".md-search-result__item").first().waitFor({ timeout: 20_000 }).catch(() => faults.push("the search finds nothing"));
  if (shots) await page.screenshot({ path: join(shots, `search-${page.viewportSize().width}.png`) });
}

const browser = await chromium.launch({ executablePath: process.env.PARTD_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
await Promise.all(looks.map(async (as) => {
  const page = await browser.newPage(as);
  for (const address of addresses) await look(page, address, as);
  await search(page);
}));
await browser.close();
for (const f of faults) console.error(f);
console.log(`${addresses.length} pages, ${faults.length} faults`);
process.exitCode = faults.length ? 1 : 0;
