// Measures the size of the first view, its loading time over a slow connection, and the memory for a
// million rows. It prints the times, which depend on the machine. It checks them only if
// PARTD_PAGE_LARGE is 1.
import { readdirSync } from "node:fs";
import type { Page } from "@playwright/test";
import { expect, large, Server, test } from "./server";

const server = new Server();
test.beforeAll(async () => {
  test.setTimeout(300_000);
  await server.start();
  await server.trades(1_000_000);
});
test.afterAll(() => server.stop());

async function load(page: Page, connection?: { bits: number; delay: number }): Promise<{ bytes: number; seconds: number }> {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  await devtools.send("Network.setCacheDisabled", { cacheDisabled: true });
  if (connection) {
    const throughput = connection.bits / 8;
    await devtools.send("Network.emulateNetworkConditions", { offline: false, latency: connection.delay, downloadThroughput: throughput, uploadThroughput: throughput });
  }
  const start = Date.now();
  await page.goto(server.url);
  await expect(page.getByRole("treeitem", { name: /^trades/ })).toBeVisible();
  const seconds = (Date.now() - start) / 1000;
  // Requests after the tree has loaded belong to later views.
  const bytes = await page.evaluate(() => {
    const all = performance.getEntries().filter((e) => "transferSize" in e) as PerformanceResourceTiming[];
    const tree = all.find((e) => e.name.includes("/api/tree"))!.responseEnd;
    return all.filter((e) => e.startTime < tree).reduce((sum, e) => sum + e.transferSize, 0);
  });
  await devtools.detach();
  return { bytes, seconds };
}

test("the first view is small and loads fast", async ({ page }) => {
  for (const file of ["page.js", "page.css"]) {
    const response = await page.request.get(`${server.url}/${file}`, { headers: { "Accept-Encoding": "gzip" } });
    expect(response.headers()["content-encoding"], file).toBe("gzip");
  }
  const local = await load(page);
  await page.goto("about:blank");
  const slow = await load(page, { bits: 1.6e6, delay: 150 });
  console.log(`first view: ${local.bytes} bytes; ${local.seconds.toFixed(2)} s on loopback, ${slow.seconds.toFixed(2)} s at 1.6 Mbit/s and 150 ms`);
  expect(local.bytes).toBeLessThan(50_000);
  // Files that the first view does not need exist, but are loaded later.
  expect(readdirSync("../dist").some((file) => /^sql-\w+\.js\.gz$/.test(file))).toBe(true);
  if (large) expect(slow.seconds).toBeLessThan(1.5);
});

test("10,000 rows load fast, and a million rows need little memory", async ({ page }) => {
  await page.goto(`${server.url}/#/sql?bucket=NYSE&q=${encodeURIComponent("SELECT * FROM trades LIMIT 10000")}`);
  await expect(page.getByRole("button", { name: "Run", exact: true })).toBeEnabled();
  await page.evaluate(() => {
    const observer = new MutationObserver(() => {
      if (/^10,000 rows in/.test(document.querySelector(".view:not([hidden]) .status")?.textContent ?? "")) performance.measure("rows", "run");
    });
    observer.observe(document.body, { subtree: true, childList: true, characterData: true });
    document.addEventListener("keydown", (e) => e.key === "Enter" && performance.mark("run"), { capture: true });
  });
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    await page.evaluate(() => (performance.clearMarks(), performance.clearMeasures()));
    await page.keyboard.press("Control+Enter");
    await page.waitForFunction(() => performance.getEntriesByName("rows").length > 0);
    times.push((await page.evaluate(() => performance.getEntriesByName("rows")[0].duration)) / 1000);
    await page.waitForTimeout(200);
  }
  await page.goto("about:blank");
  await page.goto(`${server.url}/#/table?bucket=NYSE&table=trades`);
  await expect(page.getByText("1,000,000 rows", { exact: true })).toBeVisible();
  const grid = page.getByRole("grid");
  for (let i = 0; i <= 10; i++) {
    await grid.evaluate((element, share) => (element.scrollTop = share * element.scrollHeight), i / 10);
    await page.waitForFunction(() => !document.querySelector(".wait"));
  }
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("HeapProfiler.collectGarbage");
  const heap = await devtools.send("Runtime.getHeapUsage");
  const usedSize = heap.usedSize + (heap.backingStorageSize ?? 0);
  console.log(`10,000 rows after ${times.map((t) => t.toFixed(2)).join(" ")} s; ${(usedSize / 1e6).toFixed(1)} MB of heap with a million rows scrolled through`);
  expect(usedSize).toBeLessThan(25e6);
  if (large) expect(Math.min(...times)).toBeLessThan(0.15);
});
