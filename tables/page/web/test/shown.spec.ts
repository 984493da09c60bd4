// Tests that the page shows correct data: snapshots, old versions and complete numbers, also after
// a restart of the server.
import type { Page } from "@playwright/test";
import { expect, Server, test } from "./server";

const server = new Server();
const bucket = (name: string, more = "") => `${server.url}/#/bucket?bucket=${name}${more}`;
test.beforeAll(async () => {
  test.setTimeout(300_000);
  await server.start();
  await server.put("b", "kept", "a\n1\n2\n");
  await server.put("b", "gone", "a\n1\n2\n3\n");
  await server.put("b", "grown", "a\n1\n");
  await server.call("action", JSON.stringify({ action: "snapshot", bucket: "b", name: "then" }));
  await server.call("action", JSON.stringify({ action: "delete", bucket: "b", tables: ["gone"] }));
  await server.put("b", "grown", "a\n1\n2\n3\n4\n5\n", "replace");
  await server.put("b", "since", "a\n1\n");
});
test.afterAll(() => server.stop());

const tableNames = (page: Page) => page.getByRole("main").getByRole("table").getByRole("link").allTextContents();

test("a snapshot's page lists the tables in the snapshot, with their rows at that time", async ({ page }) => {
  await page.goto(bucket("b"));
  await expect.poll(() => tableNames(page)).toEqual(["grown", "kept", "since"]);
  await page.goto(bucket("b", "&snapshot=then"));
  await expect.poll(() => tableNames(page)).toEqual(["gone", "grown", "kept"]);
  await expect(page.getByRole("row", { name: /^grown 1 / })).toBeVisible();
  await page.getByRole("main").getByRole("link", { name: "gone" }).click();
  await expect(page.getByRole("gridcell", { name: "3" })).toBeVisible();
});

test("a table's page shows the state of its maintenance, and why a table is not maintained", async ({ page }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(`${server.url}/#/table?bucket=b&table=grown`);
  await page.getByText("Maintenance", { exact: true }).click();
  const facts = page.getByRole("list", { name: "maintenance" });
  await expect(facts).toContainText(/1 files, 1 of them small.*versions, .* of metadata.*maintained/);
  expect(await facts.evaluate((e) => e.scrollWidth - e.clientWidth)).toBe(0);
  await server.settings("b", "grown", "--maintenance", "off");
  await page.reload();
  await page.getByText("Not maintained", { exact: true }).click();
  await expect(facts).toContainText("the table's setting maintenance is off");
});

test("restore lists the tables that it will create, change and delete; it ignores Enter in a field", async ({ page }) => {
  await page.goto(bucket("b", "&snapshot=then"));
  await page.getByRole("button", { name: "Restore…" }).click();
  const dialog = page.getByRole("dialog");
  const plan = dialog.getByRole("list", { name: "changes by the restore" });
  await expect(plan).toContainText("Created: gone (3 rows)");
  await expect(plan).toContainText("Changed: grown (5 → 1 row)");
  await expect(plan).toContainText("Deleted: since (1 row)");
  expect(await dialog.locator("p, li").evaluateAll((all) => all.filter((e) => e.scrollWidth > e.clientWidth + 1).length)).toBe(0);
  await expect(dialog.getByRole("button", { name: "Close" })).toBeFocused();
  await dialog.getByLabel("Tables").focus();
  await page.keyboard.press("Enter");
  await page.waitForTimeout(300);
  await expect(dialog).toBeVisible();
  await dialog.getByLabel("Tables").fill("gone");
  await expect(plan).toHaveText("Created: gone (3 rows)");
  await dialog.getByRole("button", { name: "Close" }).focus();
  await page.keyboard.press("Enter");
  await expect(dialog).toHaveCount(0);
  await page.goto(bucket("b"));
  await expect.poll(() => tableNames(page)).toEqual(["grown", "kept", "since"]);
});

test("the Query link of an old version or a snapshot queries that state", async ({ page }) => {
  for (const state of ["version=1", "snapshot=then"]) {
    await page.goto(`${server.url}/#/table?bucket=b&table=grown&${state}`);
    await expect(page.getByText("1 rows", { exact: true })).toBeVisible();
    await page.getByRole("link", { name: "Query" }).click();
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await expect(page.getByText(/^1 rows? in/)).toBeVisible();
  }
});

const truncated = (page: Page) =>
  page.locator(".grid .num:not(.head *), .grid .gutter").evaluateAll((all) => all.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.textContent));

test("numbers and row numbers are never truncated", async ({ page }) => {
  const sql = `SELECT 1.2345678901234568e-10 AS x, 9007199254740993::BIGINT AS i, (-99999999999999999999999999999999999999)::DECIMAL(38, 0) AS d, TIMESTAMP_NS '2024-01-02 03:04:05.123456789' AS t,
    CASE WHEN i > 900 THEN 123456789012345 ELSE 1 END AS late FROM range(1000) t(i)`;
  await server.call("action", JSON.stringify({ action: "resample", bucket: "b", source: "kept", target: "numbers", sql, mode: "replace" }));
  await page.goto(`${server.url}/#/table?bucket=b&table=numbers`);
  for (const text of ["1.2345678901234568e-10", "9007199254740993", "-99999999999999999999999999999999999999"]) {
    await expect(page.getByRole("gridcell", { name: text, exact: true }).first()).toBeVisible();
  }
  await expect.poll(() => truncated(page)).toEqual([]);
  const grid = page.getByRole("grid");
  await grid.evaluate((element) => (element.scrollTop = element.scrollHeight));
  await expect(page.getByRole("gridcell", { name: "123456789012345", exact: true }).first()).toBeVisible();
  await expect.poll(() => truncated(page)).toEqual([]);
  // A column that is too narrow for its numbers shows no part of them.
  const head = page.getByRole("columnheader", { name: /^i$|^i / });
  const box = (await head.boundingBox())!;
  await page.mouse.move(box.x + box.width - 2, box.y + 10);
  await page.mouse.down();
  await page.mouse.move(box.x + 60, box.y + 10);
  await page.mouse.up();
  await expect(page.getByRole("gridcell", { name: /^#+$/ }).first()).toBeVisible();
  expect(await page.getByRole("gridcell", { name: /^9007/ }).count()).toBe(0);
});

test("row numbers in the millions are shown completely", async ({ page }) => {
  const sql = "SELECT i FROM range(1000000) t(i)";
  await server.call("action", JSON.stringify({ action: "resample", bucket: "b", source: "kept", target: "million", sql, mode: "replace" }));
  await page.goto(`${server.url}/#/table?bucket=b&table=million`);
  await expect(page.getByText("1,000,000 rows", { exact: true })).toBeVisible();
  await page.getByRole("grid").evaluate((element) => (element.scrollTop = element.scrollHeight));
  await expect(page.getByRole("rowheader", { name: "1,000,000", exact: true })).toBeVisible();
  await expect.poll(() => truncated(page)).toEqual([]);
});

test("a profile counts a few distinct values exactly, and only in rows that match the filter", async ({ page }) => {
  await server.put("b", "few", `s,n\n${["A", "B", "C", "D"].map((s, i) => `${s},${i}\n`.repeat(50)).join("")}`);
  await page.goto(`${server.url}/#/table?bucket=b&table=few`);
  await page.getByRole("button", { name: "profile of s" }).click();
  const profile = page.getByRole("complementary", { name: "profile of a column" });
  await expect(profile.locator("dt:text-is('Distinct') + dd")).toHaveText("4");
  await expect(profile.getByRole("listitem")).toHaveCount(4);
  await page.getByRole("searchbox", { name: "Filter" }).fill("s <> 'D'");
  await page.keyboard.press("Enter");
  await expect(profile.locator("dt:text-is('Rows') + dd")).toHaveText("150");
  await expect(profile.getByRole("listitem")).toHaveCount(3);
  await expect(profile).toContainText("match the filter");
});

test("rows that could not be loaded appear once the server is running again", async ({ page }) => {
  const restarted = await new Server().start();
  try {
    await restarted.put("b", "t", `a\n${"1\n".repeat(2000)}`);
    await page.goto(`${restarted.url}/#/table?bucket=b&table=t`);
    await expect(page.getByRole("gridcell").first()).toHaveText("1");
    await restarted.kill();
    await page.getByRole("grid").evaluate((element) => (element.scrollTop = element.scrollHeight));
    await expect(page.getByRole("alert").first()).toContainText("does not respond");
    await expect(page.locator(".wait").first()).toBeVisible();
    await restarted.start();
    await expect(page.getByRole("rowheader", { name: "2,000", exact: true })).toBeVisible();
    await expect(page.locator(".wait")).toHaveCount(0);
    await expect(page.getByRole("alert")).toHaveCount(0);
    expect(await page.getByRole("gridcell").last().textContent()).toBe("1");
  } finally {
    await restarted.stop();
  }
});

test("a tree that is higher than the window does not make the page scroll", async ({ page }) => {
  await page.setViewportSize({ width: 1200, height: 260 });
  await page.goto(`${server.url}/#/table?bucket=b&table=kept`);
  await expect(page.getByText("2 rows", { exact: true })).toBeInViewport({ ratio: 1 });
  expect(await page.locator(".sidebar .scroll").evaluate((e) => e.scrollHeight > e.clientHeight)).toBe(true);
  expect(await page.evaluate(() => document.documentElement.scrollHeight > innerHeight)).toBe(false);
});
