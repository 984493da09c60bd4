import { readFile } from "node:fs/promises";
import type { Page } from "@playwright/test";
import { expect, large, Server, test } from "./server";

const server = new Server();
test.beforeAll(async () => {
  test.setTimeout(300_000);
  await server.start();
  await server.trades();
});
test.afterAll(() => server.stop());

async function write(page: Page, sql: string) {
  await page.goto(`${server.url}/#/sql?bucket=NYSE&q=${encodeURIComponent(sql)}`);
  await expect(page.getByRole("textbox", { name: "SQL statement" })).toContainText(sql.slice(0, 20));
}
const run = (page: Page) => page.getByRole("button", { name: "Run", exact: true }).click();

test("a link opens a query, which completes, runs, and is kept", async ({ page }) => {
  await write(page, "SELECT count(*) AS n FROM trades");
  await expect(page.getByRole("gridcell")).toHaveCount(0);
  await page.keyboard.press("Control+Enter");
  await expect(page.getByText(/^1 rows in/)).toBeVisible();
  const colours = page.getByText("SELECT", { exact: true }).first();
  expect(await colours.evaluate((e) => getComputedStyle(e).fontWeight)).toBe("600");

  await page.getByRole("button", { name: "new query" }).click();
  await page.keyboard.type("SELECT vol");
  await page.keyboard.press("Escape");
  // Typed over a selection, the browser itself tries to keep its bold: the policy forbids it.
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");
  await page.keyboard.type("SELECT * FROM trad");
  await expect(page.getByRole("option", { name: /trades/ })).toBeVisible();
  await page.waitForTimeout(200);
  await page.keyboard.press("Enter");
  await page.keyboard.type(" WHERE trades.vol");
  await expect(page.getByRole("option", { name: /volume/ })).toBeVisible();
  await page.reload();
  await expect(page.getByRole("tab")).toHaveCount(2);
  await page.getByRole("button", { name: "History" }).click();
  await page.getByRole("list", { name: "history" }).getByRole("button").first().click();
  await expect(page.getByRole("tab", { selected: true })).toHaveText(/count/);
});

test("an error is marked at its place", async ({ page }) => {
  await write(page, "SELECT id,\n  nothing FROM trades");
  await run(page);
  await expect(page.getByRole("alert")).toContainText("Line 2, column 3");
  await expect(page.locator(".cm-lintRange-error")).toHaveText("nothing");
});

test("a result is drawn as charts, with times on the axis, and downloaded", async ({ page }) => {
  await write(page, `SELECT "at", price, sym FROM trades WHERE id < 500 ORDER BY id`);
  await run(page);
  await expect(page.getByText(/^500 rows in/)).toBeVisible();
  await page.getByRole("button", { name: "Chart", exact: true }).click();
  for (const kind of ["line", "bar", "scatter", "histogram"]) {
    await page.getByRole("combobox", { name: /^Chart/ }).selectOption(kind);
    await expect(page.getByRole("img", { name: kind })).toBeVisible();
    const drawn = await page.locator(".plot canvas").evaluate((canvas: HTMLCanvasElement) => {
      const data = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height).data;
      let blue = 0;
      for (let i = 0; i < data.length; i += 4) blue += Number(data[i + 3] > 60 && data[i + 2] > data[i] + 60);
      return blue;
    });
    expect(drawn, kind).toBeGreaterThan(100);
  }
  for (const [name, begins] of [["CSV", "at,price,sym"], ["Parquet", "PAR1"]]) {
    const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name }).last().click()]);
    expect((await readFile(await file.path())).subarray(0, begins.length).toString()).toBe(begins);
  }
});

test("a large result is cut with a word, and memory stays bounded", async ({ page }) => {
  await write(page, "SELECT range AS i, repeat('x', 400) AS x FROM range(100000000)");
  await run(page);
  await expect(page.getByText(/^Cut: the first/)).toBeVisible();
  const heap = await page.evaluate(() => (performance as unknown as { memory: { usedJSHeapSize: number } }).memory.usedJSHeapSize);
  expect(heap).toBeLessThan(200 << 20);
  await expect.poll(() => server.statements()).toBe(0);
});

test("cancel ends the query at the server", async ({ page }) => {
  await write(page, "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b");
  await run(page);
  await expect.poll(() => server.statements()).toBe(1);
  const begun = Date.now();
  await page.getByRole("button", { name: "Cancel" }).click();
  await expect(page.getByRole("alert")).toContainText("cancelled");
  await expect.poll(() => server.statements(), { intervals: [20] }).toBe(0);
  if (large) {
    console.log(`the server ended the query ${Date.now() - begun} ms after the click`);
    expect(Date.now() - begun).toBeLessThan(500);
  }
});
