// Takes screenshots of every view at two widths, in light and dark colours, for people to look at.
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
  bucket: ["#/bucket?bucket=NASDAQ", (page) => expect(page.getByRole("link", { name: "table 1", exact: true })).toBeVisible()],
  filter: ["#/table?bucket=NYSE&table=trades&filter=price%20%3D", (page) => expect(page.getByRole("alert")).toBeVisible()],
  types: [`#/sql?q=${encodeURIComponent("SELECT 1.5::DECIMAL(20, 2) AS price, 1.1::FLOAT AS f, -0.0::DOUBLE AS zero, TIMESTAMPTZ '2024-01-01' AS at, [1, 2] AS list, {'a': 1} AS object")}`, run],
  error: [`#/sql?q=${encodeURIComponent("SELECT nothing")}`, (page) => run(page).then(() => expect(page.getByRole("alert")).toBeVisible())],
  write: [`#/sql?bucket=NYSE&q=${encodeURIComponent("DELETE FROM trades WHERE id = 1")}`, (page) => run(page).then(() => expect(page.getByRole("dialog")).toContainText("changes"))],
  series: [`#/sql?q=${encodeURIComponent("SELECT i % 50 AS x, i AS value, i // 50 AS city FROM range(2000) t(i)")}&chart=line&x=x&y=value&by=city`, run],
  wide: ["#/bucket?bucket=NYSE", async (page) => {
    await page.getByRole("main").getByRole("button", { name: "Put a file…" }).click();
    const line = (value: string) => Array.from({ length: 80 }, (_, i) => `${value}${i}`).join(",");
    await page.getByRole("dialog").locator("input[type=file]").setInputFiles({ name: "a long name of a file with many columns, to see how it wraps.csv", mimeType: "text/csv", buffer: Buffer.from(`${line("column")}\n${line("")}\n`) });
    await expect(page.getByRole("region", { name: "preview" })).toBeVisible();
  }],
  "sign-in": ["guarded", (page) => expect(page.getByLabel("Token")).toBeVisible()],
};
for (const [name, [address, ready]] of Object.entries(views)) {
  test(`screenshots: ${name}`, async ({ page }) => {
    for (const [width, height] of [[1366, 768], [390, 844]]) {
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
