import type { Page } from "@playwright/test";
import { readFile } from "node:fs/promises";
import { expect, Server, test } from "./server";

const server = new Server();
test.beforeAll(async () => {
  test.setTimeout(300_000);
  await server.start();
  await server.trades();
});
test.afterAll(() => server.stop());

async function chart(page: Page, sql: string) {
  await page.goto(`${server.url}/#/sql?bucket=NYSE&q=${encodeURIComponent(sql)}`);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByRole("button", { name: "Chart", exact: true }).click();
  await expect(page.locator(".plot svg")).toBeVisible();
}
const lines = (page: Page) => page.locator('.plot svg [aria-label="line"] path');
const choose = (page: Page, label: string, value: string) => page.getByRole("combobox", { name: label, exact: true }).selectOption(value);

test("a line chart has a line for each value of a column or each of several columns, and titled axes", async ({ page }) => {
  await chart(page, `SELECT "at", sym, price, volume FROM trades`);
  await expect(lines(page)).toHaveCount(1);
  await choose(page, "Colour", "sym");
  await expect(lines(page)).toHaveCount(7);
  const colours = await lines(page).evaluateAll((all) => new Set(all.map((e) => e.getAttribute("stroke"))).size);
  expect(colours).toBe(7);
  const svg = page.locator(".plot svg");
  await expect(svg).toContainText("S6");
  await expect(svg).toContainText("price");
  await expect(svg).toContainText("at");
  await choose(page, "Colour", "");
  await choose(page, "and", "volume");
  await expect(lines(page)).toHaveCount(2);
  await expect(svg).toContainText("price, volume");
  await choose(page, "Colour", "sym");
  await expect(svg).toContainText("S6 · volume");
  await expect(page.getByText(/10 of 14 series are drawn/)).toBeVisible();
  // The legend is below the title of the axis.
  const tops = await svg.locator("> text").evaluateAll((all) => all.map((e) => e.getBoundingClientRect().top));
  const title = (await svg.locator("text", { hasText: "price, volume" }).boundingBox())!;
  expect(title.y + title.height).toBeLessThanOrEqual(Math.min(...tops) + 1);
  // While the server computes another chart, the page says so.
  let go = () => {};
  const held = new Promise<void>((done) => (go = done));
  await page.route("**/api/query", (route) => held.then(() => route.continue()));
  await choose(page, "Chart", "scatter");
  await expect(page.getByRole("progressbar", { name: "computing the chart" })).toBeVisible();
  go();
  await expect(page.getByRole("progressbar")).toHaveCount(0);
  await expect(page.getByRole("img", { name: "scatter chart" })).toHaveAttribute("aria-busy", "false");
});

test("the server returns the minimum and maximum of each pixel, computed from all rows", async ({ page }) => {
  // Two rows of a million are outliers, beyond the rows that the grid loads.
  await chart(page, "SELECT i, CASE WHEN i = 777777 THEN 1000 WHEN i = 888888 THEN -1000 ELSE sin(i / 1e5) END AS y FROM range(1000000) t(i)");
  await expect(page.getByText("1,000,000 rows")).toBeVisible();
  await expect(lines(page)).toHaveCount(1);
  const path = await lines(page).getAttribute("d");
  expect(path!.split("L").length).toBeLessThan(4500);
  const heights = [...path!.matchAll(/,(-?[\d.]+)/g)].map((m) => Number(m[1])).sort((a, b) => a - b);
  // The outliers are at the ends of the axis, and all other points near its middle.
  expect(heights[1] - heights[0]).toBeGreaterThan(100);
  expect(heights[heights.length - 1] - heights[heights.length - 2]).toBeGreaterThan(100);
});

test("with fewer rows than pixels, a line chart draws all rows, and if x repeats, it offers a colour", async ({ page }) => {
  await chart(page, "SELECT 2::DOUBLE ** i AS x, i % 7 AS y FROM range(60) t(i)"); // most rows are in the first pixel
  await expect(lines(page)).toHaveAttribute("d", /^M[^L]*(L[^L]*){59}$/);
  await expect(page.getByText("60 rows", { exact: true })).toBeVisible();
  await expect(page.getByText("x repeats")).toHaveCount(0);
  for (const rows of [300, 300_000]) {
    await chart(page, `SELECT i // 3 AS day, i AS price, i % 2 AS odd, 'S' || (i % 3) AS sym FROM range(${rows}) t(i)`);
    await expect(page.getByText("day repeats")).toBeVisible();
    await page.getByRole("button", { name: "Colour by sym" }).click();
    await expect(lines(page)).toHaveCount(3);
    await expect(page.getByText("day repeats")).toHaveCount(0);
  }
});

test("a chart is saved as SVG and as PNG with the keyboard", async ({ page }) => {
  await chart(page, `SELECT sym, sum(volume) AS "sum & <total>" FROM trades GROUP BY sym`);
  await expect(page.getByRole("img", { name: "bar chart" })).toBeVisible();
  for (const [name, check] of [["SVG", (d: Buffer) => /^<svg [^>]*xmlns=/.test(d.toString()) && d.includes("&lt;total&gt;") && d.includes("rect")], ["PNG", (d: Buffer) => d.readUInt32BE(16) > 800 && d.length > 5000]] as const) {
    await page.getByRole("button", { name, exact: true }).focus();
    const [file] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Enter")]);
    expect(file.suggestedFilename()).toBe(`bar_chart_of_sum_total_by_sym.${name.toLowerCase()}`);
    expect(check(await readFile(await file.path())), name).toBe(true);
  }
});

test("the number of bars and bins is limited, with a notice, and a scatter chart shows points", async ({ page }) => {
  await chart(page, "SELECT 'name ' || i AS name, i AS n, i % 3 AS third FROM range(500) t(i)");
  await expect(page.getByText(/60 of 500 bars are drawn/)).toBeVisible();
  await expect(page.locator('.plot svg [aria-label="bar"] rect')).toHaveCount(60);
  await choose(page, "Chart", "histogram");
  await choose(page, "Colour", "third");
  await expect(page.locator('.plot svg [aria-label="rect"] rect')).toHaveCount(120);
  await page.goto(`${server.url}/#/table?bucket=NYSE&table=trades&chart=scatter&x=price&y=volume&filter=id+<+300`);
  await expect(page.getByText("294 rows")).toBeVisible();
  await expect.poll(() => page.locator('.plot svg [aria-label="dot"] circle').count()).toBeGreaterThan(100);
});

test("in a window of a phone, labels of bars do not overlap, and a profile makes room for the chart", async ({ page }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  for (const n of [7, 40]) {
    await chart(page, `SELECT 'category ' || i AS name, i AS n FROM range(${n}) t(i)`);
    await expect(page.locator('.plot svg [aria-label="bar"] rect')).toHaveCount(n);
    const lefts = await page.locator('.plot svg [aria-label="x-axis tick label"] text').evaluateAll((all) => all.map((e) => e.getBoundingClientRect().right));
    expect(lefts.length).toBeGreaterThan(6);
    for (let i = 1; i < lefts.length; i++) expect(lefts[i] - lefts[i - 1]).toBeGreaterThan(11);
    // Labels side by side are slanted, so that each is higher than wide lines of text.
    expect(await page.locator('.plot svg [aria-label="x-axis tick label"] text').first().evaluate((e) => e.getBoundingClientRect().height)).toBeGreaterThan(30);
  }
  await page.goto(`${server.url}/#/table?bucket=NYSE&table=trades`);
  const profile = page.getByRole("complementary", { name: "profile of a column" });
  for (const close of ["Escape", "Chart"]) {
    await page.getByRole("button", { name: "profile of id" }).click();
    await expect(profile).toBeVisible();
    if (close === "Chart") await page.getByRole("button", { name: "Chart", exact: true }).dispatchEvent("click");
    else await page.keyboard.press(close);
    await expect(profile).toHaveCount(0);
  }
});

test.describe("with touch", () => {
  test.use({ hasTouch: true, isMobile: true, viewport: { width: 390, height: 844 } });
  test("icons are large, and no key is named", async ({ page }) => {
    await page.goto(`${server.url}/#/table?bucket=NYSE&table=trades`);
    const icon = (await page.getByRole("button", { name: "profile of id" }).boundingBox())!;
    expect(Math.min(icon.width, icon.height)).toBeGreaterThanOrEqual(32);
    await page.goto(`${server.url}/#/sql`);
    await expect(page.getByText("Write a SELECT and run it")).toBeVisible();
    await expect(page.getByText("Ctrl")).toHaveCount(2);
    for (const key of await page.getByText("Ctrl").all()) await expect(key).toBeHidden();
  });
});
