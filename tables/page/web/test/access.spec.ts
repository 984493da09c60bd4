// Checks every view with axe, in light and dark colours; names with invisible characters; and that
// signing out removes a user's data.
import { readFileSync } from "node:fs";
import type { Page } from "@playwright/test";
import { expect, Server, test } from "./server";

const server = new Server();
test.beforeAll(async () => {
  test.setTimeout(300_000);
  await server.start();
  await server.trades();
  await server.call("action", JSON.stringify({ action: "snapshot", bucket: "NYSE", name: "before" }));
});
test.afterAll(() => server.stop());

const axe = readFileSync("node_modules/axe-core/axe.min.js", "utf8");
interface Finding {
  id: string;
  nodes: { target: string[]; failureSummary: string }[];
}
async function findings(page: Page, options = {}): Promise<string[]> {
  await page.evaluate(axe);
  const found = await page.evaluate((o) => (window as unknown as { axe: { run: (o: object) => Promise<{ violations: Finding[] }> } }).axe.run(o), options);
  return found.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(" ")}: ${n.failureSummary}`));
}

const views: Record<string, [string, (page: Page) => Promise<unknown>]> = {
  home: ["", (page) => expect(page.getByRole("region", { name: "home" })).toBeVisible()],
  table: ["#/table?bucket=NYSE&table=trades", (page) => page.getByRole("button", { name: "profile of price" }).click()],
  cell: ["#/table?bucket=NYSE&table=trades", (page) => page.getByRole("gridcell").first().dblclick()],
  version: ["#/table?bucket=NYSE&table=trades&version=1", (page) => page.getByRole("button", { name: "profile of sym" }).click()],
  bucket: ["#/bucket?bucket=NYSE", (page) => expect(page.getByRole("table")).toBeVisible()],
  snapshot: ["#/bucket?bucket=NYSE&snapshot=before", (page) => page.getByRole("button", { name: "Restore…" }).click()],
  put: ["#/bucket?bucket=NYSE", async (page) => {
    await page.getByRole("main").getByRole("button", { name: "Put a file…" }).click();
    await page.getByRole("dialog").locator("input[type=file]").setInputFiles({ name: "x.csv", mimeType: "text/csv", buffer: Buffer.from("a,b\n1,x\n") });
    await expect(page.getByRole("region", { name: "preview" })).toBeVisible();
  }],
  write: ["#/sql?bucket=NYSE&q=DELETE%20FROM%20trades%20WHERE%20id%20%3C%203", async (page) => {
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await expect(page.getByRole("dialog").getByText("DELETE changes 3 rows")).toBeVisible();
  }],
  error: ["#/table?bucket=NYSE&table=none", (page) => expect(page.getByRole("alert").first()).toBeVisible()],
  sql: ["#/sql?q=SELECT%201", (page) => page.getByRole("button", { name: "History" }).click()],
  result: [`#/sql?bucket=NYSE&q=${encodeURIComponent('SELECT "at", price FROM trades LIMIT 50')}`, (page) => page.getByRole("button", { name: "Run", exact: true }).click()],
  chart: [`#/sql?bucket=NYSE&q=${encodeURIComponent('SELECT "at", price FROM trades LIMIT 50')}`, async (page) => {
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.getByRole("button", { name: "Chart", exact: true }).click();
    await expect(page.getByRole("img", { name: /chart/ })).toBeVisible();
  }],
};
for (const [name, [address, ready]] of Object.entries(views)) {
  test(`axe reports no violations: ${name}`, async ({ page }) => {
    await page.goto(`${server.url}/${address}`);
    await ready(page);
    await expect(page.getByText("Loading…")).toHaveCount(0);
    expect(await findings(page), `${name}, light`).toEqual([]);
    await expect(page.getByRole("heading", { level: 1 })).toHaveCount(1);
    await page.emulateMedia({ colorScheme: "dark" });
    expect(await findings(page, { runOnly: ["color-contrast"] }), `${name}, dark`).toEqual([]);
  });
}

test("characters that change the direction of text are shown, and copied unchanged", async ({ page }) => {
  const name = "invoice\u202efdp.exe";
  await server.put("", name, `${name}\n${name}\n`);
  await page.goto(`${server.url}/#/table?${new URLSearchParams({ table: name })}`);
  for (const place of [page.getByRole("gridcell").first(), page.getByRole("heading", { level: 1 }), page.getByRole("columnheader").last(), page.getByRole("treeitem", { name: /^invoice/ })]) {
    await expect(place).toContainText("invoice⟨U+202E⟩fdp.exe");
  }
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.getByRole("gridcell").first().click();
  await page.getByRole("grid").focus();
  await page.keyboard.press("Control+c");
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(name);
});

test("signing out removes the queries of the previous user", async ({ page }) => {
  const guarded = await new Server().start(true);
  try {
    await page.goto(guarded.url);
    expect(await findings(page), "sign-in").toEqual([]);
    const signIn = async () => {
      await page.getByLabel("Token").fill(guarded.token);
      await page.getByRole("button", { name: "Sign in" }).click();
      await expect(page.getByRole("region", { name: "home" })).toBeVisible();
    };
    await signIn();
    await page.goto(`${guarded.url}/#/sql?q=SELECT%20'my%20own'`);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await expect(page.getByText(/^1 rows? in/)).toBeVisible();
    expect(await page.evaluate(() => JSON.stringify(localStorage))).toContain("my own");
    await page.getByRole("button", { name: "Sign out" }).click();
    await expect(page.getByLabel("Token")).toBeVisible();
    expect(await page.evaluate(() => JSON.stringify(localStorage))).not.toContain("my own");
    await page.goto(guarded.url);
    await signIn();
    await page.getByRole("link", { name: "SQL", exact: true }).click();
    await page.getByRole("button", { name: "History" }).click();
    await expect(page.getByText("my own")).toHaveCount(0);
    // A reader cannot put a file, so the page does not ask for one.
    await page.getByRole("button", { name: "Sign out" }).click();
    guarded.token = guarded.readToken();
    await page.goto(guarded.url);
    await signIn();
    await expect(page.getByText("There are no tables that you may read.")).toBeVisible();
    await guarded.kill();
    await page.getByRole("button", { name: "Reload the tables" }).click();
    await expect(page.getByRole("alert")).toContainText("does not respond");
    await expect(page.getByText("There are no tables")).toHaveCount(0);
  } finally {
    await guarded.stop();
  }
});
