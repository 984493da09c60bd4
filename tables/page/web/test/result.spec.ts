import type { Page } from "@playwright/test";
import { expect, Server, test } from "./server";

const server = new Server();
test.beforeAll(async () => {
  test.setTimeout(300_000);
  await server.start();
  await server.trades();
});
test.afterAll(() => server.stop());

async function result(page: Page, sql: string) {
  await page.goto(`${server.url}/#/sql?bucket=NYSE&q=${encodeURIComponent(sql)}`);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await expect(page.getByText(/^[\d,]+ rows in/)).toBeVisible();
}

test("the server sorts, filters and profiles a result like a table", async ({ page }) => {
  await result(page, "SELECT id, sym, price * 2 AS twice FROM trades WHERE id < 1000 -- some\n;");
  const cells = page.getByRole("gridcell");
  const id = page.getByRole("columnheader", { name: "id" });
  await expect(id).toContainText("int64");
  await expect(page.getByRole("columnheader", { name: "sym" })).toContainText("utf8");
  // With only the keyboard: focus the grid, where the column's name is active, and press Enter twice.
  await page.getByRole("grid").focus();
  await page.keyboard.press("Enter");
  await expect(id).toHaveAttribute("aria-sort", "ascending");
  await page.keyboard.press("Enter");
  await expect(id).toHaveAttribute("aria-sort", "descending");
  await expect(cells.first()).toHaveText("999");
  await page.getByRole("searchbox", { name: "Filter" }).fill("sym = 'S3' AND id < 50");
  await page.keyboard.press("Enter");
  await expect(page.getByText(/^7 rows in/)).toBeVisible();
  await expect(cells.first()).toHaveText("45");
  await page.getByRole("grid").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("p");
  const profile = page.getByRole("complementary", { name: "profile of a column" });
  await expect(profile.getByRole("listitem")).toHaveText(/S3\s*7/);
});

test("an error in a filter selects the wrong word, and the rows stay visible", async ({ page }) => {
  await result(page, "SELECT id,\n  sym FROM trades WHERE id < 10");
  const filter = page.getByRole("searchbox", { name: "Filter" });
  const selectedText = () => filter.evaluate((e: HTMLInputElement) => e.value.slice(e.selectionStart!, e.selectionEnd!));
  const expectFilterError = async () => {
    await filter.fill("id > 1 AND nothing = 2");
    await filter.press("Enter");
    await expect(page.getByRole("alert")).toContainText("nothing = 2");
    expect(await selectedText()).toBe("nothing");
    await expect(page.getByRole("gridcell").first()).toHaveText("0");
  };
  await expectFilterError();
  await filter.fill("");
  await filter.press("Enter");
  await expect(page.getByRole("alert")).toHaveCount(0);
  await page.goto(`${server.url}/#/table?bucket=NYSE&table=trades`);
  await expect(page.getByRole("gridcell").first()).toHaveText("0");
  await expectFilterError();
  await filter.fill("id > 1");
  await filter.press("Enter");
  await expect(page.getByRole("gridcell").first()).toHaveText("2");
});

test("a range is copied as tab-separated values for spreadsheets", async ({ page, context }) => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await result(page, `SELECT * FROM (VALUES (1, 'a' || chr(10) || 'b', NULL), (2, 'say "x"', 3)) t(n, s, m)`);
  const cells = page.getByRole("gridcell");
  await expect(cells.nth(1)).toHaveText("a↵b");
  await page.getByRole("grid").focus();
  for (const key of ["ArrowDown", "Shift+ArrowDown", "Shift+ArrowRight", "Shift+ArrowRight", "Control+c"]) await page.keyboard.press(key);
  await expect(page.getByText("2 rows of 3 columns were copied")).toBeVisible();
  const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
  expect(await clipboard()).toBe('1\t"a\nb"\t\n2\t"say ""x"""\t3');
  await expect(page.getByRole("gridcell", { selected: true })).toHaveCount(6);
  await cells.nth(1).hover();
  await page.mouse.down();
  await cells.nth(4).hover();
  await page.mouse.up();
  await page.keyboard.press("Control+c");
  await expect.poll(clipboard).toBe('"a\nb"\n"say ""x"""');
  await cells.nth(1).dblclick();
  await expect(page.getByRole("region", { name: "cell" }).locator("pre")).toHaveText("a\nb");
});

test("intervals are shown as text", async ({ page }) => {
  const values: Record<string, string> = {
    "INTERVAL '14 months -3 days'": "1 year 2 months -3 days",
    "INTERVAL '90 minutes' + INTERVAL '500 microseconds'": "01:30:00.0005",
    "INTERVAL '-1 second'": "-00:00:01",
    "INTERVAL '0 seconds'": "00:00:00",
    "TIMESTAMP '2024-01-02' - TIMESTAMP '2023-01-01 12:00'": "365 days 12:00:00",
    "[INTERVAL 1 DAY]": "[1 day]",
  };
  await page.setViewportSize({ width: 3000, height: 600 });
  await result(page, `SELECT ${Object.keys(values).join(", ")}`);
  expect(await page.getByRole("gridcell").allTextContents()).toEqual(Object.values(values));
});
