// Provides a separate server for each test file, and a page that fails a test if it raises an error or
// violates its Content-Security-Policy.
import { expect, type Page, test as base } from "@playwright/test";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const large = process.env.PARTD_PAGE_LARGE === "1";
export const rows = large ? 5_000_000 : 20_000;
export const secret = "a secret for tests that is long enough";

export class Server {
  url = "";
  token = "";
  private flight = "";
  private child?: ChildProcess;
  private dir = "";

  // start starts the server. A second call restarts it at the same address, with the same tables.
  async start(withSecret = false): Promise<this> {
    this.dir ||= mkdtempSync(join(tmpdir(), "partd-page-")); // not before, because Playwright loads each test file twice
    const http = this.url ? new URL(this.url).host : "localhost:0";
    const args = ["serve", "--dir", join(this.dir, "d"), "--listen", "grpc://localhost:0", "--http", http];
    if (withSecret) {
      writeFileSync(join(this.dir, "secret"), secret, { mode: 0o600 });
      args.push("--secret-file", join(this.dir, "secret"), "--insecure", "--print-token");
    }
    this.child = spawn("test-results-bin/partd-tables", args, { stdio: ["ignore", "pipe", "pipe"] });
    await new Promise<void>((resolve, reject) => {
      let output = "";
      const read = (text: Buffer) => {
        output += text;
        this.url = /address=(http:\S+)/.exec(output)?.[1] ?? "";
        this.token = /^([\w-]+\.[\w-]+\.[\w-]+|token \S+)$/m.exec(output)?.[1].replace("token ", "") ?? "";
        this.flight = /^ready (\S+)$/m.exec(output)?.[1] ?? "";
        if (this.flight) resolve();
      };
      this.child!.stdout!.on("data", read);
      this.child!.stderr!.on("data", read);
      this.child!.on("exit", () => reject(new Error(`the server ended: ${output}`)));
    });
    return this;
  }

  // readToken returns a token that only reads, for a server with a secret.
  readToken(): string {
    return execFileSync("test-results-bin/partd-tables", ["token", "--read", "--secret-file", join(this.dir, "secret")], { encoding: "utf8" }).trim();
  }

  async kill() {
    const ended = new Promise((done) => this.child!.on("exit", done));
    this.child!.kill("SIGTERM");
    await ended;
  }

  async stop() {
    if (this.child!.exitCode === null) await this.kill();
    rmSync(this.dir, { recursive: true });
  }

  async call(path: string, body: BodyInit, signal?: AbortSignal): Promise<unknown> {
    const headers = { "X-Partd": "1", ...(this.token && { Authorization: `Bearer ${this.token}` }) };
    const response = await fetch(`${this.url}/api/${path}`, { method: "POST", headers, body, signal });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  put(bucket: string, table: string, file: string, mode = "error"): Promise<unknown> {
    return this.call(`put?${new URLSearchParams({ bucket, table, mode, format: "csv" })}`, file);
  }

  // settings changes a table's settings. It needs a server without a secret.
  settings(bucket: string, table: string, ...flags: string[]) {
    execFileSync("test-results-bin/partd-tables", ["settings", table, "--bucket", bucket, ...flags, "--server", this.flight]);
  }

  // trades creates a table with n rows, one for each second, with ascending ids.
  async trades(n = rows) {
    await this.put("NYSE", "seed", "a\n1\n");
    const sql = `SELECT i AS id, TIMESTAMP '2024-01-01' + to_seconds(i) AS at, 'S' || (i % 7) AS sym,
      CASE WHEN i % 50 = 49 THEN NULL ELSE round(100 + 20 * sin(i / 900.0), 3) END AS price, (i * 37) % 1000 AS volume FROM range(${n}) t(i)`;
    await this.call("action", JSON.stringify({ action: "resample", bucket: "NYSE", source: "seed", target: "trades", sql, mode: "error" }));
  }

  // statements returns the number of statements that the server is running.
  async statements(): Promise<number> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    return Number(/^\w*queries_running\S* (\d+)/m.exec(text)?.[1] ?? NaN);
  }
}

export const test = base.extend<{ page: Page }>({
  page: async ({ page }, use) => {
    const errors: string[] = [];
    page.on("pageerror", (err) => errors.push(String(err)));
    page.on("console", (message) => {
      if (/Content.Security.Policy|violates/i.test(message.text())) errors.push(message.text());
    });
    page.on("dialog", (dialog) => {
      errors.push(`the browser opened a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    await use(page);
    expect(errors).toEqual([]);
  },
});

export { expect };
