import type { Page } from "@playwright/test";
import { expect, Server, test } from "./server";

const server = new Server();
test.beforeAll(async () => {
  await server.start();
  await server.put("b", "quotes", "sym,price\nA,1.5\nB,2.5\nC,3.5\n");
});
test.afterAll(() => server.stop());

const dialog = (page: Page) => page.getByRole("dialog", { name: "Run a statement that writes" });

async function runStatement(page: Page, sql: string, url = server.url) {
  if (page.url().startsWith(url)) await page.evaluate(() => localStorage.clear()); // close the tabs of earlier statements, because the page limits their number
  await page.goto("about:blank");
  await page.goto(`${url}/#/sql?bucket=b&q=${encodeURIComponent(sql)}`);
  await expect(page.getByRole("textbox", { name: "SQL statement" })).toContainText(sql.slice(0, 15));
  await page.getByRole("button", { name: "Run", exact: true }).click();
}

// runConfirmed runs and confirms a statement and checks the page's messages before and after.
async function runConfirmed(page: Page, sql: string, verb: string, rows: string) {
  await runStatement(page, sql);
  await expect(dialog(page).getByText(`${verb} changes ${rows}`)).toBeVisible({ timeout: 60_000 });
  await dialog(page).getByRole("button", { name: "Run it" }).click();
  await expect(page.getByText(`${verb}: ${rows} changed`, { exact: true })).toBeVisible({ timeout: 60_000 });
  await expect(dialog(page)).toHaveCount(0);
}

test("statements create, load, change and drop tables once confirmed", async ({ page }) => {
  test.setTimeout(300_000);
  await runConfirmed(page, "CREATE TABLE made (sym VARCHAR, price DOUBLE)", "CREATE TABLE", "0 rows");
  await expect(page.getByRole("treeitem", { name: /^made/ })).toBeVisible();
  await runConfirmed(page, "CREATE TABLE million AS SELECT range AS id FROM range(1000000)", "CREATE TABLE", "1,000,000 rows");
  await runConfirmed(page, "INSERT INTO made SELECT * FROM quotes", "INSERT", "3 rows");
  await runConfirmed(page, "UPDATE made SET price = 9 WHERE sym = 'A'", "UPDATE", "1 row");
  await runConfirmed(page, "MERGE INTO made USING (SELECT 'B' AS sym, 0.5 AS price UNION ALL SELECT 'D', 4.5) AS n ON made.sym = n.sym WHEN MATCHED THEN UPDATE SET price = n.price WHEN NOT MATCHED THEN INSERT *", "MERGE", "2 rows");
  await runConfirmed(page, "DELETE FROM made WHERE sym = 'C'", "DELETE", "1 row");
  await runConfirmed(page, "ALTER TABLE made RENAME COLUMN price TO last", "ALTER TABLE", "0 rows");
  await runStatement(page, "SELECT string_agg(sym || last, ' ' ORDER BY sym) AS all FROM made");
  await expect(page.getByRole("gridcell", { name: "A9.0 B0.5 D4.5" })).toBeVisible();
  await runConfirmed(page, "DROP TABLE million", "DROP TABLE", "1,000,000 rows");
  await expect(page.getByRole("treeitem", { name: /^million/ })).toHaveCount(0);
});

test("an unconfirmed statement changes nothing, and an invalid one shows its error", async ({ page }) => {
  await runStatement(page, "DELETE FROM quotes; DELETE FROM quotes");
  await expect(dialog(page).getByText("DELETE changes 3 rows of quotes in b.")).toBeVisible();
  await expect(dialog(page).locator(".command")).toContainText("-- 'DELETE FROM quotes'");
  await expect(page.getByRole("alert")).toHaveCount(0);
  await expect(dialog(page).getByRole("button", { name: "Close" })).toBeFocused();
  await dialog(page).getByRole("button", { name: "Close" }).click();
  await expect(page.getByText("The statement was not run.")).toBeVisible();
  await expect(dialog(page)).toHaveCount(0); // the second statement does not run
  await runStatement(page, "SELECT count(*) AS n FROM quotes");
  await expect(page.getByRole("gridcell", { name: "3" })).toBeVisible();
  await runStatement(page, "DELETE FROM quotes\nWHERE nothing = 1");
  await expect(page.getByRole("alert")).toContainText("nothing");
  expect((await page.getByRole("alert").boundingBox())!.height).toBeLessThan(120); // no taller than its text
});

test("the dialog says which rows are removed, and closing it stops the dry run", async ({ page }) => {
  await runStatement(page, "CREATE OR REPLACE TABLE quotes AS SELECT 1 AS x");
  await expect(dialog(page).getByText("CREATE TABLE changes 1 row of quotes in b, and removes the 3 rows that the table has.")).toBeVisible();
  await runStatement(page, "DROP SCHEMA b CASCADE");
  await expect(dialog(page).getByText(/DROP SCHEMA changes [\d,]+ rows in b\./)).toBeVisible();
  await runStatement(page, "DELETE FROM quotes USING range(1000000000000) r(i) WHERE hash(i) = price");
  await expect.poll(() => server.statements()).toBe(1);
  await dialog(page).getByRole("button", { name: "Cancel" }).click();
  await expect.poll(() => server.statements()).toBe(0);
});

test("closing the dialog before the server answers does not report the statement as cancelled", async ({ page }) => {
  await runStatement(page, "DELETE FROM quotes WHERE sym = 'none'");
  await expect(dialog(page).getByText("DELETE changes 0 rows")).toBeVisible();
  await page.route("**/api/action", () => undefined); // the server never answers
  await dialog(page).getByRole("button", { name: "Run it" }).click();
  await expect(dialog(page).getByRole("button", { name: "Working…" })).toBeVisible();
  await dialog(page).getByRole("button", { name: "Close" }).click();
  await expect(page.getByRole("alert")).toContainText("may have changed the table");
  await expect(page.getByText(/^Cancelled/)).toHaveCount(0);
});

test("with a read-only token, the page offers no writes", async ({ page }) => {
  const serverWithTokens = await new Server().start(true);
  try {
    await serverWithTokens.put("b", "t", "x\n1\n");
    await page.goto(serverWithTokens.url);
    await page.getByLabel("Token").fill(serverWithTokens.readToken());
    await page.getByRole("button", { name: "Sign in" }).click();
    await runStatement(page, "DELETE FROM t -- all", serverWithTokens.url);
    await expect(page.getByRole("alert")).toContainText("allows reading only");
    await expect(dialog(page)).toHaveCount(0);
  } finally {
    await serverWithTokens.stop();
  }
});
