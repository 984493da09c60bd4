import { useEffect, useState } from "preact/hooks";
import { onBack, type Session, type Tree } from "./api";

export interface Route {
  view: string;
  args: URLSearchParams;
}

// App contains the data and the actions that all views share.
export interface App {
  session: Session;
  tree: Tree | null;
  reloadCount: number; // when it changes, the views reload their data
  reload: () => void;
  dialog: (form: FormName | null, args?: FormArgs) => void;
}
export type FormName = "put" | "bucket" | "snapshot" | "delete" | "resample" | "combine" | "restore" | "delete-snapshot";
export interface FormArgs {
  bucket: string;
  table?: string;
  snapshot?: string;
  files?: File[]; // files to put, one after the other
}

// readRoute returns the view and its state from the part of the address after #, which the browser does not send to the
// server.
export const readRoute = (): Route => parseRoute(location.hash);

export function parseRoute(hash: string): Route {
  const [view, query] = hash.replace(/^#\/?/, "").split("?", 2);
  return { view: view || "home", args: new URLSearchParams(query) };
}

export function href(view: string, args: Record<string, string | number | string[] | undefined> = {}): string {
  const query = new URLSearchParams();
  for (const [key, values] of Object.entries(args)) {
    for (const value of [values].flat()) if (value !== undefined && value !== "") query.append(key, String(value));
  }
  return `#/${view}${query.size ? `?${query}` : ""}`;
}

export const bucketName = (bucket: string) => bucket || "default";
export const formatCount = (n: number) => n.toLocaleString("en");
// tableCount formats a table's number of rows, which may be only a maximum.
export const tableCount = (t: { rows: number; rows_exact?: false }) => `${t.rows_exact === false ? "at most " : ""}${formatCount(t.rows)}`;
export const rowsOf = (n: number) => `${formatCount(n)} ${n === 1 ? "row" : "rows"}`;
// formatTime formats a time in UTC to the second, as the command line does.
export const formatTime = (time: string) => `${time.slice(0, 19)}Z`;
export const quoteName = (name: string) => `"${name.replaceAll('"', '""')}"`;

// markInvisible replaces invisible characters that change the text direction with visible codes, because a name with such
// characters could look like another name.
export const markInvisible = (text: string) => text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
export const shorten = (name: string, maxChars = 200) => markInvisible(name.slice(0, maxChars));

// csvField quotes a name for a comma-separated list if necessary.
export const csvField = (name: string) => (/[",\n\r]|^\s|\s$/.test(name) ? `"${name.replaceAll('"', '""')}"` : name);

export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const i = bytes > 0 ? Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10)) : 0;
  return `${(bytes / 1024 ** i).toFixed(i && bytes / 1024 ** i < 10 ? 1 : 0)} ${units[i]}`;
}

// useStored is like useState, but stores the value in the browser.
export function useStored<T>(key: string, first: T): [T, (value: T) => void] {
  const [value, set] = useState<T>(() => {
    try {
      return JSON.parse(localStorage.getItem(key) ?? "") as T;
    } catch {
      return first;
    }
  });
  useEffect(() => {
    try {
      localStorage.setItem(key, JSON.stringify(value));
    } catch {
      // If the browser cannot store the value, it is lost when the page closes.
    }
  }, [value]);
  return [value, set];
}

// useLoaded loads a value. It reloads the value when key changes and when the server is back after a failure.
export function useLoaded<T>(key: string, load: (signal: AbortSignal) => Promise<T>): { value?: T; error?: Error } {
  const [state, set] = useState<{ key: string; value?: T; error?: Error }>({ key: "" });
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    load(abort.signal).then(
      (value) => set({ key, value }),
      (error: Error) => {
        if (abort.signal.aborted) return;
        set({ key, error });
        onBack(error, abort.signal, () => setAttempt(attempt + 1));
      },
    );
    return () => abort.abort();
  }, [key, attempt]);
  return state.key === key ? state : {};
}
