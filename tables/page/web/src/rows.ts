// Rows for the grid, in bounded memory: pages of a table, loaded on demand, or the first rows of a query's result.
import { Field, RecordBatch } from "apache-arrow";
import { type Args, ApiError, type Batches, address, get, onBack, query, stream, type Written } from "./api";
import { quoteName } from "./common";
import type { Sort } from "./state";

export interface Rows {
  fields: Field[];
  count: number;
  // at returns the batch that contains a row, and the row's index there, or undefined if the row is not loaded.
  at(row: number): { batch: RecordBatch; index: number } | undefined;
  // want loads the rows from first to last, which are now visible.
  want(first: number, last: number): void;
}

interface Page {
  batches: RecordBatch[];
  bytes: number;
}

const pageRows = 200;
const maxPageBytes = 32 << 20;
const maxCachedBytes = 64 << 20;
const maxResultBytes = 48 << 20;
export const maxResultRows = 100_000;

function find(batches: RecordBatch[], row: number) {
  for (const batch of batches) {
    if (row < batch.numRows) return { batch, index: row };
    row -= batch.numRows;
  }
  return undefined;
}

// TableRows fetches the visible pages, two at a time. It aborts requests for pages that are no longer
// visible, and discards the least recently visible pages.
export class TableRows implements Rows {
  fields: Field[] = [];
  count = 0;
  ready = false;
  error?: Error;
  private pages = new Map<number, Page>();
  private pending = new Map<number, AbortController>();
  private visiblePages: number[] = [];
  private closed = new AbortController();
  private failures = 0;

  constructor(private args: Args, private changed: () => void) {
    this.want(0, 0);
  }

  at(row: number) {
    const page = this.pages.get(Math.floor(row / pageRows));
    return page && find(page.batches, row % pageRows);
  }

  want(first: number, last: number) {
    this.visiblePages = [];
    for (let n = Math.floor(first / pageRows); n <= Math.floor(last / pageRows); n++) this.visiblePages.push(n);
    for (const [n, abort] of this.pending) {
      if (!this.visiblePages.includes(n)) abort.abort();
    }
    this.next();
  }

  close() {
    this.visiblePages = [];
    this.closed.abort();
    for (const abort of this.pending.values()) abort.abort();
    this.pages.clear();
  }

  private next() {
    for (const n of this.visiblePages) {
      if (this.pending.size >= 2 || this.error) return;
      const page = this.pages.get(n);
      if (page) {
        this.pages.delete(n);
        this.pages.set(n, page);
      } else if (!this.pending.has(n)) {
        void this.fetch(n);
      }
    }
  }

  private async fetch(n: number) {
    const abort = new AbortController();
    this.pending.set(n, abort);
    try {
      const url = address("rows", { ...this.args, offset: n * pageRows, limit: pageRows });
      const response = await stream(url, { signal: abort.signal });
      const page: Page = { batches: [], bytes: 0 };
      for await (const batch of response.batches) {
        page.batches.push(batch);
        page.bytes = response.bytes();
        if (page.bytes > maxPageBytes) break;
      }
      this.fields = response.schema.fields;
      this.count = Number(response.headers.get("X-Partd-Rows"));
      this.ready = true;
      this.failures = 0;
      this.keep(n, page);
    } catch (err) {
      if (!abort.signal.aborted) this.fail(err as Error);
    } finally {
      this.pending.delete(n);
      if (this.visiblePages.length) this.changed();
      this.next();
    }
  }

  // fail stops fetching until the server is back. It retries only a few times, because the rows themselves may cause
  // the failure.
  private fail(error: Error) {
    if (!this.error && ++this.failures <= 5) {
      onBack(error, this.closed.signal, () => {
        this.error = undefined;
        this.next();
      });
    }
    this.error = error;
  }

  private keep(n: number, page: Page) {
    this.pages.set(n, page);
    let bytes = 0;
    for (const p of this.pages.values()) bytes += p.bytes;
    for (const [old, p] of this.pages) {
      if (bytes <= maxCachedBytes || this.visiblePages.includes(old)) continue;
      this.pages.delete(old);
      bytes -= p.bytes;
    }
  }
}

// Statement is a statement, its position in the editor, and the state of the tables that it names.
export interface Statement {
  sql: string;
  from: number;
  bucket: string;
  at: Record<string, string>;
}

// narrow returns a statement for the rows of sql that satisfy a filter, in the order of sort.
export function narrow(sql: string, filter: string, sort: Sort | null): string {
  if (!filter && !sort) return sql;
  const order = sort ? ` ORDER BY ${quoteName(sort.column)} ${sort.descending ? "DESC NULLS FIRST" : "ASC NULLS LAST"}` : "";
  return `SELECT * FROM (\n${sql}\n)${filter ? ` WHERE (\n${filter}\n)` : ""}${order}`;
}

export function stateOf(at: Record<string, string>): Record<string, string | number> {
  return Object.fromEntries(Object.entries(at).map(([key, value]) => [key, key.endsWith("version") ? Number(value) : value]));
}

// standsAlone reports whether DuckDB cannot run a statement as a subquery. The page cannot filter or
// draw the result of such a statement.
export const standsAlone = (sql: string) => /^(\s|--.*\n)*(SHOW|EXPLAIN)\b/i.test(sql);

// ResultRows is the result of a query, up to a limit on rows and bytes.
export class ResultRows implements Rows {
  fields: Field[] = [];
  count = 0;
  batches: RecordBatch[] = [];
  cut = ""; // describes the rows that were kept, if the result exceeds the limit
  running = true;
  error?: Error;
  cancelled = false;
  declined = false; // whether the user did not confirm a statement that writes
  written?: Written; // the result of a statement that writes
  readonly id = crypto.randomUUID();
  readonly started = performance.now();
  elapsed = 0;
  private abort = new AbortController();
  private starts: number[] = []; // the first row of each batch

  readonly done: Promise<void>;

  constructor(readonly statement: Statement, readonly filter: string, readonly sort: Sort | null, private statementCount: number, private changed: () => void) {
    this.done = this.run();
  }

  cancel() {
    this.abort.abort();
    void fetch("api/cancel", {
      method: "POST",
      headers: { "X-Partd": "1", "Content-Type": "application/json" },
      body: JSON.stringify({ id: this.id }),
    }).catch(() => undefined);
  }

  at(row: number) {
    let low = 0;
    let high = this.starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.starts[middle] <= row) low = middle;
      else high = middle - 1;
    }
    const batch = this.batches[low];
    const index = row - this.starts[low];
    return batch && index < batch.numRows ? { batch, index } : undefined;
  }

  want() {}

  // close ends a statement that writes: with its result, with an error, or without either if it was cancelled.
  close(outcome?: Written | Error) {
    this.error = outcome instanceof Error ? outcome : undefined;
    this.written = outcome instanceof Error ? undefined : outcome;
    this.cancelled = this.declined = !outcome;
    this.changed();
  }

  private async run() {
    let response: Batches | undefined;
    try {
      const { sql, bucket } = this.statement;
      const body = { id: this.id, sql: narrow(sql, this.filter, this.sort), bucket, ...stateOf(this.statement.at), limit: maxResultRows + 1 };
      response = await query(body, this.abort.signal);
      this.fields = response.schema.fields;
      this.changed();
      for await (const batch of response.batches) {
        if (!batch.numRows) continue;
        this.starts.push(this.count);
        this.batches.push(batch);
        this.count += batch.numRows;
        if (this.count > maxResultRows) {
          this.count = maxResultRows;
          this.cut = `the first ${maxResultRows.toLocaleString("en")} rows`;
          break;
        }
        if (response.bytes() > maxResultBytes / this.statementCount) {
          this.cut = `the first ${this.count.toLocaleString("en")} rows, ${maxResultBytes / this.statementCount >> 20} MiB`;
          break;
        }
        this.changed();
      }
    } catch (err) {
      this.cancelled = this.abort.signal.aborted || (err as ApiError).status === 499;
      if (!this.cancelled) this.error = this.relocate(await this.findCause(err as Error, !!response));
    }
    this.running = false;
    this.elapsed = performance.now() - this.started;
    this.changed();
  }

  // relocate converts an error's line number in the whole statement to a line of the filter.
  private relocate(err: Error): Error {
    if (!(err instanceof ApiError) || !err.line || (!this.filter && !this.sort)) return err;
    const line = err.line - this.statement.sql.split("\n").length - 2;
    return line > 0 ? new ApiError(err.message, err.status, line, err.column) : new ApiError(err.message, err.status);
  }

  // If the stream broke off after it had begun, findCause returns the server's error. Otherwise it returns err.
  private async findCause(err: Error, begun: boolean): Promise<Error> {
    if (!begun) return err;
    const reply = await get<{ error: string; line?: number; column?: number }>(`query/${this.id}/error`).catch(() => null);
    return reply ? new ApiError(reply.error, 500, reply.line, reply.column) : err;
  }
}
