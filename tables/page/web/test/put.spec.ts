// Puts a table into an empty store and views it, with the mouse and with only the keyboard.
import { gzipSync } from "node:zlib";
import type { Page } from "@playwright/test";
import { expect, Server, test } from "./server";

let server: Server;
test.beforeEach(async () => void (server = await new Server().start()));
test.afterEach(() => server.stop());

const file = (name: string, buffer: Buffer | string) => ({ name, mimeType: "application/octet-stream", buffer: Buffer.from(buffer) });
const choose = (page: Page, name: string, content: Buffer | string) => page.getByRole("dialog").locator("input[type=file]").setInputFiles(file(name, content));

test("home shows examples and a drop area; a dropped file is previewed and put into a new bucket", async ({ page }) => {
  await page.goto(server.url);
  const home = page.getByRole("region", { name: "home" });
  await expect(home.getByRole("link")).toHaveCount(3);
  const dropped = await page.evaluateHandle(() => {
    const data = new DataTransfer();
    data.items.add(new File(["at;sym;\"a;price\"\n2024-01-02;A;1,5\n2024-01-01;B;2\n"], "quotes.csv"));
    return data;
  });
  await home.getByText("Drop a file here").dispatchEvent("drop", { dataTransfer: dropped });
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByRole("region", { name: "preview" }).getByRole("columnheader")).toHaveText(["at", "sym", "a;price"]);
  await expect(dialog.getByLabel("Delimiter")).toHaveValue(";");
  await dialog.getByLabel("Bucket").fill("fresh");
  await dialog.getByLabel("Time column").selectOption("at");
  await dialog.getByLabel("Key columns").fill("sym");
  await expect(dialog.locator(".command")).toHaveText(/^partd-tables put --server \S+ --bucket fresh --mode error --format csv '--sep=;' --time at --key sym -- quotes quotes\.csv$/);
  await dialog.getByRole("button", { name: "Put" }).click();
  await expect(page.getByRole("gridcell").nth(1)).toHaveText("B");
  await expect(page.getByRole("treeitem", { name: "fresh", level: 1 })).toBeVisible();
  await page.getByRole("link", { name: "Tables", exact: true }).click();
  await expect(home.getByRole("link", { name: "quotes", exact: true })).toBeVisible();
  await home.getByRole("link", { name: /^The first rows of quotes/ }).click();
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await expect(page.getByText(/^2 rows in/)).toBeVisible();
});

async function tabTo(page: Page, name: string) {
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((name) => !!document.activeElement?.closest("main") && document.activeElement.textContent === name, name)) return;
  }
  throw new Error(`pressing Tab 40 times did not reach ${name}`);
}

test("a bucket and a table are created with only the keyboard", async ({ page }) => {
  await page.goto(server.url);
  await expect(page.getByRole("region", { name: "home" })).toBeVisible();
  await tabTo(page, "Create a bucket…");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByLabel("Name")).toBeFocused();
  await page.keyboard.type("mine");
  await expect(dialog.locator(".command")).toContainText("meta set --server");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/bucket=mine/);
  await expect(page.getByText("The bucket has no tables.")).toBeVisible();
  await tabTo(page, "Put a file…");
  await page.keyboard.press("Enter");
  await choose(page, "lines.jsonl", '{"a": 1}\n{"a": 2}\n');
  await expect(dialog.getByLabel("Bucket")).toHaveValue("mine");
  await expect(dialog.getByLabel("Table", { exact: true })).toHaveValue("lines");
  await dialog.getByLabel("Table", { exact: true }).focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("gridcell")).toHaveText(["1", "2"]);
});

test("Latin-1 and compressed files are converted, and the command shows how", async ({ page }) => {
  const latin = Buffer.from("name,n\ncafé,1\nnaïve,2\n", "latin1");
  for (const [name, content, commandPattern] of [
    ["latin.csv", latin, /^iconv -f WINDOWS-1252 -t UTF-8 latin\.csv \| partd-tables put .* -- latin -$/],
    ["packed.csv.gz", gzipSync("name,n\ncafé,1\n"), /^gzip -dc packed\.csv\.gz \| partd-tables put .* -- packed -$/],
    ["both.csv.gz", gzipSync(latin), /^gzip -dc both\.csv\.gz \| iconv -f WINDOWS-1252 -t UTF-8 \| partd-tables put .* -- both -$/],
  ] as [string, Buffer, RegExp][]) {
    await page.goto(server.url);
    await page.getByRole("region", { name: "home" }).getByRole("button", { name: "Put a file…" }).click();
    await choose(page, name, content);
    const dialog = page.getByRole("dialog");
    await expect(dialog.getByRole("region", { name: "preview" })).toContainText("café");
    await expect(dialog.locator(".command")).toHaveText(commandPattern);
    await dialog.getByRole("button", { name: "Put" }).click();
    await expect(page.getByRole("gridcell").first()).toHaveText("café");
  }
  // The server rejects a file that is invalid in the chosen encoding, and the error names the line.
  await page.goto(server.url);
  await page.getByRole("region", { name: "home" }).getByRole("button", { name: "Put a file…" }).click();
  await choose(page, "refused.csv", latin);
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Encoding").selectOption("utf-8");
  await dialog.getByRole("button", { name: "Put" }).click();
  await expect(dialog.getByRole("alert")).toContainText("line 2");
  await expect(dialog.getByRole("alert")).toContainText("not valid UTF-8");
});

test("the table's name follows the chosen file until the user edits the name, and wide previews scroll", async ({ page }) => {
  await page.setViewportSize({ width: 390, height: 800 });
  await page.goto(server.url);
  await page.getByRole("region", { name: "home" }).getByRole("button", { name: "Put a file…" }).click();
  const dialog = page.getByRole("dialog");
  const tableField = dialog.getByLabel("Table", { exact: true });
  await choose(page, "first.csv", `${Array.from({ length: 80 }, (_, i) => `column${i}`).join(",")}\n`);
  await expect(tableField).toHaveValue("first");
  const preview = dialog.getByRole("region", { name: "preview" });
  await expect.poll(() => preview.evaluate((e) => e.scrollWidth > e.clientWidth)).toBe(true);
  expect(await dialog.evaluate((e) => e.scrollWidth > e.clientWidth)).toBe(false);
  await choose(page, "second.csv", "a,b\n1\n");
  await expect(tableField).toHaveValue("second");
  await dialog.getByRole("button", { name: "Put" }).click();
  await expect(dialog.getByRole("alert")).toContainText("second.csv, line 2: the record has 1 field");
  await tableField.fill("mine");
  await choose(page, "third.csv", "a\n1\n");
  await expect(dialog.locator(".command")).toContainText("third.csv");
  await expect(tableField).toHaveValue("mine");
  // Lines of the command break only between words.
  expect(await dialog.locator(".command span").evaluateAll((words) => words.filter((w) => w.textContent!.startsWith("--") && w.getBoundingClientRect().height > 30).length)).toBe(0);
});

test("in a window 390 pixels wide, home shows the tree", async ({ page }) => {
  await server.put("b", "quotes", "a\n1\n");
  await page.setViewportSize({ width: 390, height: 800 });
  await page.goto(server.url);
  await expect(page.getByRole("treeitem", { name: /^quotes/ })).toBeInViewport();
  expect(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)).toBe(false);
  await page.getByRole("treeitem", { name: /^quotes/ }).click();
  await expect(page.getByRole("gridcell").first()).toBeVisible();
  await expect(page.getByRole("tree")).toBeHidden();
});

test("in a window of a phone, several files are put one after the other, and errors are visible", async ({ page }) => {
  await server.put("", "quotes", "a\n1\n");
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(server.url);
  await page.getByRole("region", { name: "home" }).getByRole("button", { name: "Put a file…" }).click();
  const dialog = page.getByRole("dialog");
  const input = dialog.locator("input[type=file]");
  await input.setInputFiles([file("quotes.csv", "a,b,c\n1,2\n3,4,5\n"), file("more.ndjson", '{"x": 7}\n')]);
  await expect(dialog.getByText("then 1 more")).toBeVisible();
  await expect(dialog.getByRole("region", { name: "preview" }).getByRole("cell")).toHaveText(["1", "2", "", "3", "4", "5"]);
  const put = dialog.getByRole("button", { name: "Put" });
  const alert = dialog.getByRole("alert");
  for (const [mode, error] of [["error", "The table already exists: choose append or replace above"], ["replace", "line 2: the record has 2 fields"]]) {
    await dialog.getByLabel("If the table exists").selectOption(mode);
    await put.click();
    await expect(alert).toContainText(error);
    await expect(alert).toBeInViewport({ ratio: 1 });
    await expect(put).toBeInViewport({ ratio: 1 });
    const [box, footer] = [(await alert.boundingBox())!, (await put.boundingBox())!];
    expect(box.y + box.height).toBeLessThanOrEqual(footer.y);
  }
  await input.setInputFiles([file("quotes.tsv", "a\n2\n"), file("more.ndjson", '{"x": 7}\n')]);
  await put.click();
  await expect(dialog.getByLabel("Table", { exact: true })).toHaveValue("more");
  await expect(dialog.getByLabel("Format")).toHaveValue("jsonl");
  await put.click();
  await expect(page.getByRole("gridcell")).toHaveText(["7"]);
});
