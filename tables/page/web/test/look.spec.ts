import { expect, large, rows, Server, test } from "./server";

const server = new Server();
test.beforeAll(async () => {
  test.setTimeout(300_000);
  await server.start();
  await server.trades();
  await server.put("", "airports", "iata,name\nAQT,Nuiqsut\nBRW,Barrow\n");
});
test.afterAll(() => server.stop());

const trades = () => `${server.url}/#/table?bucket=NYSE&table=trades`;
const lastRow = rows.toLocaleString("en");

test("the tree shows buckets, tables, columns, versions and snapshots, and supports the keyboard", async ({ page }) => {
  await server.call("action", JSON.stringify({ action: "snapshot", bucket: "NYSE", name: "before" }));
  await page.goto(server.url);
  const item = (name: RegExp | string, level: number) => page.getByRole("treeitem", { name, level });
  await expect(item(/^default/, 1)).toBeVisible();
  await item(/^trades/, 2).locator(".twist").click();
  await expect(item(/^price float64/, 3)).toBeVisible();
  await item(/^Versions/, 3).click();
  await expect(item(/^1 /, 4)).toBeVisible();
  await item(/^Snapshots/, 2).click();
  await expect(item(/^before/, 3)).toBeVisible();
  await page.getByRole("tree").focus();
  for (const key of ["Home", "ArrowDown", "Enter"]) await page.keyboard.press(key);
  await expect(page).toHaveURL(/table=airports/);
  await page.getByRole("searchbox", { name: "Search names" }).fill("nys trad");
  await expect(item(/^airports/, 2)).toHaveCount(0);
  await expect(item(/^trades/, 2)).toBeVisible();
  await page.getByRole("searchbox", { name: "Search names" }).fill("no such thing");
  await expect(page.getByText("No table contains all of these words")).toBeVisible();
});

test("a grid of any number of rows scrolls to its end, sorts and filters", async ({ page }) => {
  await page.goto(server.url);
  const table = page.getByRole("treeitem", { name: /^trades/ });
  await expect(table).toBeVisible();
  const start = Date.now();
  await table.click();
  await expect(page.getByRole("gridcell", { name: "2024-01-01T00:00:00" })).toBeVisible();
  const firstMs = Date.now() - start;
  const grid = page.getByRole("grid");
  await expect(grid).toHaveAttribute("aria-rowcount", String(rows + 1));
  const scrollStart = Date.now();
  await grid.evaluate((element) => (element.scrollTop = element.scrollHeight));
  await expect(page.getByRole("gridcell", { name: String(rows - 1), exact: true })).toBeVisible();
  const lastMs = Date.now() - scrollStart;
  await expect(page.getByRole("rowheader", { name: lastRow, exact: true })).toBeInViewport();
  expect(await page.getByRole("row").count()).toBeLessThan(80);
  await grid.focus();
  await page.keyboard.press("Control+Home");
  await expect(page.getByRole("rowheader", { name: "1", exact: true })).toBeVisible();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("region", { name: "cell" })).toBeVisible();
  await page.keyboard.press("Escape");
  await page.mouse.move(700, 400);
  await page.mouse.wheel(0, 260);
  await expect(page.getByRole("rowheader", { name: "11", exact: true })).toBeVisible();
  await expect(page.getByRole("rowheader", { name: "1", exact: true })).toHaveCount(0);

  const idHeader = page.getByRole("columnheader", { name: "id" });
  await idHeader.click({ position: { x: 5, y: 8 } });
  await idHeader.click({ position: { x: 5, y: 8 } });
  await expect(idHeader).toHaveAttribute("aria-sort", "descending");
  await expect(page.getByRole("gridcell", { name: String(rows - 1), exact: true })).toBeVisible();
  await page.getByRole("searchbox", { name: "Filter" }).fill("sym = 'S3' AND id < 70");
  await page.keyboard.press("Enter");
  await expect(page.getByText("10 rows match")).toBeVisible();
  await expect(page.getByRole("gridcell", { name: "66", exact: true })).toBeVisible();
  await page.getByRole("searchbox", { name: "Filter" }).fill("Cost Total > 3");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("alert")).toContainText('column name with spaces in double quotes: "Cost Total"');
  await page.getByRole("searchbox", { name: "Filter" }).fill("sym = ");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("alert")).toBeVisible();
  await expect(page.getByText("The filter was not applied.")).toBeVisible();
  await expect(page.getByText("rows match")).toHaveCount(0);
  if (large) {
    console.log(`the first of ${rows} rows were shown after ${firstMs} ms, and the last ones after ${lastMs} ms`);
    expect(firstMs).toBeLessThan(500);
    expect(lastMs).toBeLessThan(1000);
  }
});

test("after jumps through a table, the visible rows are loaded", async ({ page }) => {
  await page.goto(trades());
  const grid = page.getByRole("grid");
  await expect(page.getByRole("gridcell", { name: "0", exact: true }).first()).toBeVisible();
  for (let i = 0; i <= 20; i++) {
    await grid.evaluate((element, share) => (element.scrollTop = share * element.scrollHeight), i / 20);
    await page.waitForFunction(() => !document.querySelector(".wait"));
  }
  await grid.evaluate((element) => (element.scrollTop = 0));
  await expect(page.getByRole("rowheader", { name: "1", exact: true })).toBeVisible();
});

test("a column's profile counts nulls and draws a histogram or the most frequent values", async ({ page }) => {
  await page.goto(trades());
  await page.getByRole("button", { name: "profile of price" }).click();
  const profile = page.getByRole("complementary", { name: "profile of a column" });
  await expect(profile.getByRole("img", { name: /histogram of 20 bins/ })).toBeVisible();
  await expect(profile).toContainText((rows / 50).toLocaleString("en"));
  await page.getByRole("button", { name: "profile of sym" }).click();
  await expect(profile.getByRole("listitem")).toHaveCount(7);
});

test("the page has light and dark colours, and fits narrow and wide windows", async ({ page }) => {
  await page.goto(trades());
  await expect(page.getByRole("gridcell").first()).toBeVisible();
  const backgroundColor = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.emulateMedia({ colorScheme: "dark" });
  await expect.poll(backgroundColor).toBe("rgb(21, 24, 31)");
  await page.getByRole("button", { name: "colours: auto" }).click();
  await expect.poll(backgroundColor).toBe("rgb(255, 255, 255)");
  await page.setViewportSize({ width: 380, height: 700 });
  await expect(page.getByRole("tree")).toBeHidden();
  await page.getByRole("button", { name: "☰ Tables" }).click();
  await expect(page.getByRole("tree")).toBeVisible();
  const overflows = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  expect(overflows).toBe(false);
});
