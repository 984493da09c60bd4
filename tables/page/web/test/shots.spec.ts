// Takes screenshots of every view at three widths, in light and dark colours, for people to look at.
// PARTD_PAGE_SHOTS names the directory for them.
import type { Page } from "@playwright/test";
import { expect, Server, test } from "./server";

const dir = process.env.PARTD_PAGE_SHOTS;
const server = new Server();
const guarded = new Server();
test.skip(!dir, "PARTD_PAGE_SHOTS is not set");
test.beforeAll(async () => {
  test.setTimeout(300_000);
  await server.start();
  await guarded.start(true);
  await server.trades();
  for (let i = 0; i < 40; i++) await server.put(i % 2 ? "NASDAQ" : "", `table ${i}`, `a,b\n${i},x\n`);
  await server.call("action", JSON.stringify({ action: "snapshot", bucket: "NYSE", name: "before" }));
});
test.afterAll(() => Promise.all([server.stop(), guarded.stop()]));

const run = (page: Page) => page.getByRole("button", { name: "Run", exact: true }).click();
const sql = `#/sql?bucket=NYSE&q=${encodeURIComponent(`SELECT "at", sym, price, volume\nFROM trades\nWHERE id < 900\nORDER BY id`)}`;
const views: Record<string, [string, (page: Page) => Promise<unknown>]> = {
  home: ["", (page) => expect(page.getByRole("region", { name: "home" })).toBeVisible()],
  table: ["#/table?bucket=NYSE&table=trades", async (page) => {
    await expect(page.getByRole("gridcell").first()).toBeVisible();
    if (page.viewportSize()!.width > 500) await page.getByRole("button", { name: "profile of price" }).click();
  }],
  sql: [sql, run],
  chart: [sql, (page) => run(page).then(() => page.getByRole("button", { name: "Chart", exact: true }).click())],
  snapshot: ["#/bucket?bucket=NYSE&snapshot=before", (page) => page.getByRole("button", { name: "Restore…" }).click()],
  put: ["#/bucket?bucket=NYSE", async (page) => {
    await page.getByRole("main").getByRole("button", { name: "Put a file…" }).click();
    await page.getByRole("dialog").locator("input[type=file]").setInputFiles({ name: "quotes.csv", mimeType: "text/csv", buffer: Buffer.from("at;sym;price\n2024-01-01;A;1.5\n2024-01-02;B;2.25\n") });
    await expect(page.getByRole("region", { name: "preview" })).toBeVisible();
  }],
  "sign-in": ["guarded", (page) => expect(page.getByLabel("Token")).toBeVisible()],
};
for (const [name, [address, ready]] of Object.entries(views)) {
  test(`screenshots: ${name}`, async ({ page }) => {
    for (const [width, height] of [[1440, 900], [1024, 768], [390, 844]]) {
      for (const colorScheme of ["light", "dark"] as const) {
        await page.setViewportSize({ width, height });
        await page.emulateMedia({ colorScheme });
        await page.goto("about:blank");
        await page.goto(address === "guarded" ? guarded.url : `${server.url}/${address}`);
        await ready(page);
        await page.waitForTimeout(600);
        await page.screenshot({ path: `${dir}/${name}-${width}-${colorScheme}.png` });
      }
    }
  });
}
