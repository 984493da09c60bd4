import { expect, Server, test } from "./server";

const server = new Server();
test.beforeAll(async () => {
  test.setTimeout(300_000);
  await server.start();
  await server.trades();
  for (let i = 0; i < 12; i++) await server.put(`bucket ${i}`, "one", "a\n1\n");
  await server.call("action", JSON.stringify({ action: "snapshot", bucket: "bucket 7", name: "kept" }));
});
test.afterAll(() => server.stop());

test("the address contains a table's filter, order, profile and chart, so that Back, reload and links restore them", async ({ page, context }) => {
  await page.goto(`${server.url}/#/table?bucket=NYSE&table=trades`);
  const cells = page.getByRole("gridcell");
  await expect(cells.first()).toHaveText("0");
  await expect(page).toHaveTitle("trades · NYSE · Tables");
  await page.getByRole("searchbox", { name: "Filter" }).fill("sym = 'S3'");
  await page.keyboard.press("Enter");
  await expect(cells.first()).toHaveText("3");
  await page.getByRole("grid").focus();
  // Press three keys before the next render. None of them may be lost.
  await page.evaluate(() => {
    for (const key of ["Enter", "Enter", "p"]) document.activeElement!.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  });
  const profile = page.getByRole("complementary", { name: "profile of a column" });
  await expect(profile).toBeVisible();
  await expect(cells.first()).toHaveText(/^\d{5,}$/);
  const firstCell = (await cells.first().textContent())!;
  const link = page.url();
  await page.reload();
  const expectSameView = async (view: typeof page) => {
    await expect(view.getByRole("gridcell").first()).toHaveText(firstCell);
    await expect(view.getByRole("searchbox", { name: "Filter" })).toHaveValue("sym = 'S3'");
    await expect(view.getByRole("complementary")).toBeVisible();
    await expect(view.getByRole("columnheader", { name: "id" })).toHaveAttribute("aria-sort", "descending");
  };
  await expectSameView(page);
  const other = await context.newPage();
  await other.goto(link);
  await expectSameView(other);
  await page.goBack();
  await expect(profile).toHaveCount(0);
  await page.goBack();
  await page.goBack();
  await expect(cells.first()).toHaveText("3");
  await page.goBack();
  await expect(cells.first()).toHaveText("0");
  await expect(page.getByRole("searchbox", { name: "Filter" })).toHaveValue("");
  await page.getByRole("button", { name: "Chart", exact: true }).click();
  await page.getByRole("combobox", { name: "Colour" }).selectOption("sym");
  await expect(page.locator(".plot svg")).toBeVisible();
  await page.reload();
  await expect(page.getByRole("combobox", { name: "Colour" })).toHaveValue("sym");
  await expect(page.locator(".plot svg")).toBeVisible();
});

test("Back returns to the statements that ran, and a reload does not duplicate their tabs", async ({ page }) => {
  await page.goto(`${server.url}/#/sql?bucket=NYSE&q=SELECT+1+AS+one`);
  await expect(page.getByRole("textbox", { name: "SQL statement" })).toBeFocused();
  await page.keyboard.press("Control+Enter");
  await expect(page.getByRole("gridcell").first()).toHaveText("1");
  await expect(page).toHaveTitle("SQL · Tables");
  for (const key of ["Control+a", "Delete"]) await page.keyboard.press(key);
  await page.keyboard.type("SELECT 2 AS two");
  await page.keyboard.press("Control+Enter");
  await expect(page.getByRole("gridcell").first()).toHaveText("2");
  await expect(page).toHaveURL(/SELECT\+2/);
  await page.reload();
  await expect(page.getByRole("tab")).toHaveCount(1);
  await expect(page.getByRole("textbox", { name: "SQL statement" })).toHaveText("SELECT 2 AS two");
  await page.getByRole("link", { name: "Tables" }).first().click();
  await expect(page).toHaveTitle("Tables");
  await page.goBack();
  await expect(page.getByRole("textbox", { name: "SQL statement" })).toHaveText("SELECT 2 AS two");
  await page.goto(`${server.url}/#/sql?bucket=NYSE&q=SELECT+1+AS+one`);
  await expect(page.getByRole("tab", { selected: true })).toHaveText("SELECT 1 AS one");
});

test("the tree opens the node in the address, and a click on a bucket opens the bucket", async ({ page }) => {
  const item = (name: RegExp, level: number) => page.getByRole("treeitem", { name, level });
  await page.goto(`${server.url}/#/table?bucket=bucket+9&table=one&version=1`);
  await expect(item(/^one/, 2)).toHaveCount(1);
  await expect(item(/^1 /, 4)).toHaveAttribute("aria-selected", "true");
  await page.goto(`${server.url}/#/bucket?bucket=bucket+7&snapshot=kept`);
  await expect(item(/^kept/, 3)).toHaveAttribute("aria-selected", "true");
  await expect(item(/^kept/, 3)).toBeInViewport();
  const bucket = item(/^bucket 3/, 1);
  await expect(bucket).toHaveAttribute("aria-expanded", "false");
  await bucket.click();
  await expect(bucket).toHaveAttribute("aria-expanded", "true");
  await expect(page).toHaveURL(/bucket\+3/);
  await expect(page).toHaveTitle("bucket 3 · Tables");
  await bucket.click();
  await expect(bucket).toHaveAttribute("aria-expanded", "false");
  await page.getByRole("tree").focus();
  await page.keyboard.press("Enter");
  await expect(bucket).toHaveAttribute("aria-expanded", "true");
});
