import { expect, Server, test } from "./server";

const server = new Server();
test.beforeAll(async () => {
  test.setTimeout(300_000);
  await server.start();
});
test.afterAll(() => server.stop());

// values maps SQL expressions to the text of the cell, which must show every digit.
const values: Record<string, string> = {
  "9007199254740993::BIGINT": "9007199254740993",
  "18446744073709551615::UBIGINT": "18446744073709551615",
  "-99999999999999999999999999999999999999::DECIMAL(38, 0)": "-99999999999999999999999999999999999999",
  "-1234567890123456789.01::DECIMAL(38, 2)": "-1234567890123456789.01",
  "'nan'::DOUBLE": "NaN",
  "'-infinity'::DOUBLE": "-Infinity",
  "'-0'::DOUBLE": "-0",
  "1.1::FLOAT": "1.1",
  "16777216::FLOAT": "16777216",
  "3.4028235e38::FLOAT": "3.4028235e+38",
  "DATE '2024-02-29'": "2024-02-29",
  "DATE 'infinity'": "infinity",
  "DATE '-infinity'": "-infinity",
  "DATE '290000-01-01'": "290000-01-01",
  "TIMESTAMP 'infinity'": "infinity",
  "TIMESTAMP '2024-01-02 03:04:05.000001'": "2024-01-02T03:04:05.000001",
  "TIMESTAMP_NS '1969-12-31 23:59:59.999999999'": "1969-12-31T23:59:59.999999999",
  "TIMESTAMPTZ '2024-01-01 00:00:00+02'": "2023-12-31T22:00:00Z",
  "TIME '23:59:59.5'": "23:59:59.5",
  "[9007199254740993, NULL]": "[9007199254740993, null]",
  "[1.50::DECIMAL(5, 2)]": "[1.50]",
  "['nan'::DOUBLE]": "[NaN]",
  "{'at': TIMESTAMP '2024-01-01 00:00:01', 's': 'x'}": '{"at": 2024-01-01T00:00:01, "s": "x"}',
  "MAP {'k': DATE '2024-01-01'}": '{"k": 2024-01-01}',
  "[[1], []]": "[[1], []]",
  "'ab'::BLOB": "6162",
  "true": "true",
};

test("values of any type, even nested ones, are shown exactly", async ({ page }) => {
  const sql = Object.keys(values).map((v, i) => `SELECT ${v} AS v${i}`);
  const from = sql.map((s, i) => `(${s}) AS t${i}`).join(", ");
  await page.setViewportSize({ width: 6000, height: 600 });
  await page.goto(`${server.url}/#/sql?q=${encodeURIComponent(`SELECT * FROM ${from}`)}`);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await expect(page.getByText(/^1 rows in|Line/)).toBeVisible();
  await expect(page.getByRole("gridcell").first()).toBeVisible();
  expect(await page.getByRole("gridcell").allTextContents()).toEqual(Object.values(values));
});

test("grid and tree spell types alike", async ({ page }) => {
  const types = ["decimal(20, 2)", "float32", "timestamp[us, tz=UTC]", "timestamp[ns]", "date32", "time64[us]", "uint8", "list<l: int32, nullable>", "struct<a: int32 nullable, b: utf8 nullable>", "map<utf8, int32, items_nullable>", "binary", "bool"];
  const sql = `CREATE TABLE types AS SELECT 1::DECIMAL(20, 2) AS c0, 1::FLOAT AS c1, TIMESTAMPTZ '2024-01-01' AS c2, '2024-01-01'::TIMESTAMP_NS AS c3, DATE '2024-01-01' AS c4, TIME '01:00:00' AS c5, 1::UTINYINT AS c6, [1] AS c7, {'a': 1, 'b': 'x'} AS c8, MAP {'k': 1} AS c9, 'x'::BLOB AS c10, true AS c11`;
  await server.call("action", JSON.stringify({ action: "exec", bucket: "", sql }));
  await page.setViewportSize({ width: 3000, height: 900 });
  await page.goto(`${server.url}/#/table?table=types`);
  await expect(page.locator(".head .name small")).toHaveText(types);
  expect(await page.locator(".head .name small").evaluateAll((all) => all.filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent))).toEqual([]);
  await page.getByRole("treeitem", { name: /^types/, level: 2 }).locator(".twist").click();
  await expect(page.locator(".tree .column small")).toHaveText(types);
});

test("a chart accepts times outside the range of JavaScript's dates", async ({ page }) => {
  await page.goto(`${server.url}/#/sql?q=${encodeURIComponent("SELECT * FROM (VALUES (TIMESTAMP '2024-01-01', 1), (TIMESTAMP 'infinity', 2), (TIMESTAMP '290000-01-01', 3)) t(a, n)")}`);
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByRole("button", { name: "Chart", exact: true }).click();
  await expect(page.getByRole("img", { name: "line chart" })).toBeVisible();
});

test("clicking a header sorts a column, whatever its name", async ({ page }) => {
  await server.put("", "odd", '"-v","a,""b","+w"\n1,1,1\n3,3,3\n2,2,2\n');
  for (const name of ["-v", 'a,"b', "+w"]) {
    await page.goto(`${server.url}/#/table?table=odd`);
    await page.reload();
    const head = page.getByRole("columnheader", { name, exact: false }).first();
    for (const [order, first] of [["ascending", "1"], ["descending", "3"]]) {
      await head.click({ position: { x: 5, y: 8 } });
      await expect(head).toHaveAttribute("aria-sort", order);
      await expect(page.getByRole("grid")).toHaveAttribute("aria-busy", "false");
      await expect(page.getByRole("alert")).toHaveCount(0);
      await expect(page.getByRole("gridcell").first()).toHaveText(first);
    }
  }
});

test("tables whose names contain slashes are not confused", async ({ page }) => {
  await server.put("a", "b/c", "one\n1\n");
  await server.put("a/b", "c", "two\n1\n");
  await page.goto(server.url);
  await page.getByRole("treeitem", { name: /^b\/c/, level: 2 }).locator(".twist").click();
  await expect(page.getByRole("treeitem", { name: /^one/, level: 3 })).toBeVisible();
  await page.getByRole("treeitem", { name: /^c/, level: 2 }).locator(".twist").click();
  await expect(page.getByRole("treeitem", { name: /^two/, level: 3 })).toBeVisible();
});
