// The page's requests to the server, which docs/http.md describes.
import type { RecordBatch, Schema } from "apache-arrow";

export interface Session {
  secret: boolean;
  signed_in: boolean;
  rights: "admin" | "read" | "none";
  buckets: string[] | null;
}
export interface TreeTable {
  name: string;
  rows: number;
  rows_exact?: false; // if present, rows is only a maximum
  bytes: number;
  version: number;
  updated: string;
  metadata: Record<string, unknown> | null;
}
export interface Snapshot {
  name: string;
  time: string;
  tables: number;
}
export interface TreeBucket {
  name: string;
  tables: TreeTable[];
  snapshots: Snapshot[] | null;
}
export interface Tree {
  buckets: TreeBucket[];
  next: { bucket: string; table: string } | null; // the last table on this page of the tree; null on the last page
}
export interface Column {
  name: string;
  type: string;
  nullable: boolean;
}
export interface Table extends Omit<TreeTable, "name"> {
  bucket: string;
  table: string;
  columns: Column[];
  versions: { version: number; time: string; operation: string; rows: number; current: boolean }[];
  snapshots: Snapshot[] | null;
  settings: { time?: string; keys?: string[] } | null;
  maintenance: { files: number; small_files: number; versions: number; metadata_bytes: number; unused_bytes: number; last?: string; next?: string; reason?: string } | null;
}
export interface Profile {
  column: string;
  type: string;
  rows: number;
  nulls: number;
  distinct: number;
  exact: boolean; // whether distinct is exact, not an estimate
  min: string | null;
  max: string | null;
  histogram: { from: number; to: number; count: number }[] | null;
  top: { value: string; count: number }[] | null;
}

// Written is the result of a statement that writes.
export interface Written {
  verb: string;
  bucket: string;
  table: string;
  rows: number; // the number of rows changed
  replaced?: number; // the number of rows that a CREATE OR REPLACE TABLE would remove
}

// ApiError is a failed request. status is 0 if the server could not be reached. line and column, counted from 1, locate
// an error in SQL. writes is set if the statement writes: then only the action exec runs it.
export class ApiError extends Error {
  constructor(message: string, readonly status: number, readonly line?: number, readonly column?: number, readonly writes?: boolean) {
    super(message);
  }
}

// Args are the parameters of a request. One that is "" or undefined is omitted; null is sent as an empty value.
export type Args = Record<string, string | number | null | undefined>;

export function address(path: string, args: Args = {}): string {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(args)) {
    if (value !== undefined && value !== "") query.set(key, String(value ?? ""));
  }
  return `api/${path}${query.size ? `?${query}` : ""}`;
}

const noResponse = "the server does not respond: the page retries until it does";

// onBack calls retry once the server responds, if error means that it could not be reached. It polls the server until
// then.
let pollTimer = 0;
export function onBack(error: Error, signal: AbortSignal, retry: () => void) {
  if (error instanceof ApiError && error.status !== 0 && error.status !== 503) return;
  addEventListener("server-back", retry, { once: true, signal });
  pollTimer ||= window.setInterval(async () => {
    const answer = await fetch("api/session").catch(() => null);
    if (!answer?.ok || !pollTimer) return;
    clearInterval(pollTimer);
    pollTimer = 0;
    dispatchEvent(new Event("server-back"));
  }, 1500);
}

async function request(url: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { ...init, headers: { "X-Partd": "1", ...init.headers } });
  } catch (err) {
    if (init.signal?.aborted) throw err;
    throw new ApiError(noResponse, 0);
  }
  if (response.ok) return response;
  throw apiError(response.status, await response.json().catch(() => ({ error: response.statusText })));
}

function apiError(status: number, reply: { error: string; line?: number; column?: number; writes?: boolean }): ApiError {
  if (status === 401) dispatchEvent(new Event("signed-out"));
  return new ApiError(reply.error, status, reply.line, reply.column, reply.writes);
}

export async function get<T>(path: string, args?: Args, signal?: AbortSignal): Promise<T> {
  return (await request(address(path, args), { signal })).json();
}

export async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  return (await request(`api/${path}`, { method: "POST", headers, body: JSON.stringify(body), signal })).json();
}

// put uploads a file and reports the progress as a share from 0 to 1. It does not use fetch, which cannot report the
// progress of an upload.
export function put(args: Args, file: Blob, signal: AbortSignal, onProgress: (share: number) => void): Promise<{ version: number; rows: number }> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address("put", args));
    request.setRequestHeader("X-Partd", "1");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = (e) => onProgress(e.loaded / e.total);
    request.onload = () => (request.status === 200 ? resolve(request.response) : reject(apiError(request.status, request.response ?? { error: request.statusText })));
    request.onerror = () => reject(new ApiError("the connection was lost: check that the server is running, and put the file again", 0));
    signal.onabort = () => (request.abort(), reject(new ApiError("cancelled", 499)));
    request.send(file);
  });
}

export interface Batches {
  headers: Headers;
  bytes: () => number; // returns the number of bytes received so far
  schema: Schema;
  batches: AsyncIterable<RecordBatch>;
}

// stream reads Arrow batches as they arrive. If the caller stops reading early, the server stops the query.
export async function stream(url: string, init: RequestInit): Promise<Batches> {
  const response = await request(url, init);
  let bytes = 0;
  const counted = response.body!.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        bytes += chunk.length;
        controller.enqueue(chunk);
      },
    }),
  );
  const { RecordBatchReader } = await import("apache-arrow"); // loaded here, because the first view does not need it
  const reader = await RecordBatchReader.from(counted);
  await reader.open();
  return { headers: response.headers, bytes: () => bytes, schema: reader.schema, batches: reader as AsyncIterable<RecordBatch> };
}

export function query(body: object, signal: AbortSignal): Promise<Batches> {
  const headers = { "Content-Type": "application/json" };
  return stream("api/query", { method: "POST", headers, body: JSON.stringify(body), signal });
}
