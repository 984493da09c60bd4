import { expect, Server, test } from "./server";

const server = new Server();
test.beforeAll(() => server.start().then(() => server.put("b", "quotes", "time,price\n2024-01-01 00:00:01,1\n2024-01-01 00:00:31,3\n")));
test.afterAll(() => server.stop());

test("a file dropped on a bucket becomes a table, and forms show the equivalent command", async ({ page }) => {
  await page.goto(`${server.url}/#/bucket?bucket=b`);
  const dropped = await page.evaluateHandle(() => {
    const data = new DataTransfer();
    data.items.add(new File(["a,b\n1,x\n2,y\n"], "it's new.csv"));
    return data;
  });
  await page.getByRole("treeitem", { name: "b", level: 1, exact: true }).dispatchEvent("drop", { dataTransfer: dropped });
  const dialog = page.getByRole("dialog");
  await expect(dialog.locator(".command")).toHaveText(/^partd-tables put --server \S+:\d+ --bucket b --mode error --format csv -- 'it'\\''s new' 'it'\\''s new\.csv'$/);
  await dialog.getByRole("button", { name: "Put" }).click();
  await expect(page.getByRole("gridcell", { name: "y" })).toBeVisible();
  await expect(page.getByRole("treeitem", { name: /it's new/ })).toBeVisible();
});

test("resample, combine, snapshot, restore and delete", async ({ page }) => {
  const dialog = page.getByRole("dialog");
  await page.goto(`${server.url}/#/table?bucket=b&table=quotes`);
  await page.getByRole("button", { name: "Resample…" }).click();
  await expect(dialog.getByLabel("Time column")).toHaveValue("time");
  await dialog.getByLabel("Target").fill("bars");
  await dialog.getByLabel("Rule").fill("10s");
  await expect(dialog.locator(".command")).toContainText("--rule 10s");
  await dialog.getByRole("button", { name: "Resample" }).click();
  await expect(page.getByText("4 rows", { exact: true })).toBeVisible();
  await page.getByRole("button", { name: "Combine…" }).click();
  await dialog.getByLabel("Sources").fill("quotes, bars");
  await dialog.getByLabel("Target").fill("both");
  await dialog.getByRole("button", { name: "Combine" }).click();
  await expect(page.getByText("6 rows", { exact: true })).toBeVisible();
  await page.getByRole("link", { name: "b", exact: true }).click();
  await page.getByRole("button", { name: "Snapshot…" }).click();
  await dialog.getByLabel("Name").fill("whole");
  await dialog.getByRole("button", { name: "Take the snapshot" }).click();
  await page.getByRole("main").getByRole("link", { name: "both" }).click();
  await page.getByRole("button", { name: "Delete…" }).click();
  await expect(dialog.locator(".command")).toContainText("partd-tables delete");
  await dialog.getByRole("button", { name: "Delete" }).click();
  await expect(page.getByRole("treeitem", { name: /^both/ })).toHaveCount(0);
  await page.goto(`${server.url}/#/bucket?bucket=b&snapshot=whole`);
  await page.getByRole("button", { name: "Restore…" }).click();
  await dialog.getByRole("button", { name: "Restore" }).click();
  await expect(page.getByRole("treeitem", { name: /^both/ })).toBeVisible();
});

test("names and cells are shown as text, even if they contain HTML", async ({ page }) => {
  const hostile = `<script>alert(1)</script><img src=x onerror=alert(2)>\u202etxt.exe`;
  await server.put(hostile, hostile, `"${hostile}",big\n${hostile},${"z".repeat(10 << 20)}\n`);
  await page.goto(`${server.url}/#/table?${new URLSearchParams({ bucket: hostile, table: hostile })}`);
  const cells = page.getByRole("gridcell");
  await expect(cells.first()).toContainText("<script>alert(1)</script>");
  expect(await cells.first().locator("bdi").evaluate((e) => getComputedStyle(e).unicodeBidi)).toMatch(/isolate/);
  expect((await cells.nth(1).textContent())!.length).toBeLessThan(400);
  await cells.nth(1).dblclick();
  expect((await page.getByRole("region", { name: "cell" }).textContent())!.length).toBeLessThan(30_000);
  await page.getByRole("button", { name: /^profile of <script>/ }).click();
  await expect(page.getByRole("complementary").getByRole("listitem")).toHaveCount(1);
  expect(await page.locator("script").count()).toBe(1);
  await page.goto(`${server.url}/#/sql?q=${encodeURIComponent(`SELECT '${hostile}' AS "${hostile}", 1 AS n`)}`);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await expect(cells.first()).toContainText("<script>");
  await page.getByRole("button", { name: "Chart", exact: true }).click();
  await expect(page.getByRole("img", { name: "bar chart" })).toBeVisible();
  expect(await page.locator("img[src=x]").count()).toBe(0);
});

test("signing in with a token sets a cookie that scripts cannot read", async ({ page }) => {
  const guarded = await new Server().start(true);
  try {
    await page.goto(guarded.url);
    await page.getByLabel("Token").fill("nonsense");
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByRole("alert")).toBeVisible();
    await page.getByLabel("Token").fill(guarded.token);
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByText("No tables yet")).toBeVisible();
    expect(await page.evaluate(() => document.cookie + JSON.stringify(localStorage))).not.toContain(guarded.token);
    const [cookie] = await page.context().cookies();
    expect(cookie.httpOnly && cookie.sameSite === "Strict").toBe(true);
    const forged = await page.request.post(`${guarded.url}/api/sign-out`);
    expect(forged.status()).toBe(403);
    await page.getByRole("button", { name: "Sign out" }).click();
    await expect(page.getByLabel("Token")).toBeVisible();
  } finally {
    await guarded.stop();
  }
});
