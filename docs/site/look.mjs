// Opens pages in a browser: in light colours in a wide window, and in dark colours in a window
// of a phone's width. It fails if axe reports a serious or critical fault, if a page is wider
// than the window, cuts code, requests another host or lacks a file, or if the site's search finds nothing.
//
//   node docs/site/look.mjs build/site/dev                    all pages in this folder
//   node docs/site/look.mjs build/site/dev docs/cli.html URL  only these pages
//
// PARTD_SITE_SHOTS names a directory for screenshots. Install the browser with .ci/peers node-look.
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
  { colorScheme: "light", viewport: { width: 1366, height: 900 } },
  { colorScheme: "dark", viewport: { width: 390, height: 844 } },
  ...(shots ? [{ colorScheme: "dark", viewport: { width: 1366, height: 900 } }, { colorScheme: "light", viewport: { width: 390, height: 844 } }] : []),
];

const site = resolve(process.argv[2]);
const all = () => readdirSync(site, { recursive: true }).filter((f) => f.endsWith(".html") && f !== "404.html").sort();
const named = process.argv.slice(3);
const addresses = (named.length ? named : all()).map((f) => (f.startsWith("http") ? f : pathToFileURL(join(site, f)).href));
const faults = [];

// look records the faults of the page at address.
async function look(page, address, { colorScheme, viewport }) {
  const pageFaults = [];
  const report = (text) => pageFaults.push(text);
  const checkOrigin = (r) => /^https?:/.test(r.url()) && new URL(r.url()).origin !== new URL(address).origin && report(`requests another host: ${r.url()}`);
  const checkFailed = (r) => r.url().endsWith("/versions.json") || report(`is missing: ${r.url()}`); // browsers do not let pages opened as files read versions.json
  page.on("request", checkOrigin).on("requestfailed", checkFailed).on("pageerror", report);
  await page.goto(address, { waitUntil: address.startsWith("http") ? "networkidle" : "load" });
  const { width } = viewport;
  const pageWidth = await page.evaluate(() => document.documentElement.scrollWidth);
  if (pageWidth > width) report(`is ${pageWidth} pixels wide`);
  const cut = await page.evaluate(() => [...document.querySelectorAll("pre > code")].find((c) => c.scrollWidth > c.clientWidth && !/auto|scroll/.test(getComputedStyle(c).overflowX))?.textContent);
  if (cut) report(`cuts a code block that does not scroll: ${cut.slice(0, 60)}`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run({ preload: false, resultTypes: ["violations"] }));
  for (const v of violations.filter((v) => ["serious", "critical"].includes(v.impact))) {
    report(`${v.id}: ${v.nodes.length} × ${v.nodes[0].target.join(" ")}: ${v.nodes[0].failureSummary.replace(/\s+/g, " ")}`);
  }
  if (shots) await page.screenshot({ path: join(shots, `${address.replace(pathToFileURL(site).href, "").replace(/\W+/g, "_")}-${width}-${colorScheme}.png`) });
  page.off("request", checkOrigin).off("requestfailed", checkFailed).off("pageerror", report);
  faults.push(...pageFaults.map((text) => `${address.replace(pathToFileURL(site).href, "")}, ${colorScheme}, ${width} wide: ${text}`));
}

// search records a fault if the site's search finds nothing.
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
