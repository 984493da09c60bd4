// Completes the names of tables, and the columns of the tables that the statement mentions.
import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { get, type Table } from "./api";
import { type App, bucketName } from "./common";
import { quoteIfNeeded } from "./duckdb";
import type { Editor, Names } from "./editor";

const maxDescribed = 50; // maximum number of tables whose columns are requested
const completion = (label: string, type: string, detail?: string) => ({ label, type, detail, apply: quoteIfNeeded(label) });
// CodeMirror splits a key into two names at a dot, unless the dot is escaped.
const completionKey = (name: string) => name.replaceAll(".", "\\.");

export function useCompletion(edit: RefObject<Editor | null>, app: App, tab: { sql: string; bucket: string }, visible: boolean) {
  const lastSchema = useRef("");
  const columns = useRef(new Map<string, Table["columns"]>());

  function complete() {
    const names: Names = {};
    const unqualified: Names = {};
    for (const bucket of app.tree?.buckets ?? []) {
      const list: Names = {};
      for (const t of bucket.tables) {
        const details = columns.current.get(`${bucket.name}/${t.name}`) ?? [];
        const children = details.map((c) => completion(c.name, "property", c.type));
        list[completionKey(t.name)] = { self: completion(t.name, "type"), children };
        if (tab.sql.includes(t.name)) for (const c of children) unqualified[completionKey(c.label)] = { self: c, children: [] };
      }
      names[completionKey(bucketName(bucket.name))] = { self: completion(bucketName(bucket.name), "namespace"), children: list };
      if (bucket.name === tab.bucket) Object.assign(names, list);
    }
    // A new schema restarts completion, so set it only if it differs.
    const text = JSON.stringify({ ...unqualified, ...names });
    if (text !== lastSchema.current) edit.current!.schema({ ...unqualified, ...names });
    lastSchema.current = text;
  }
  useEffect(() => {
    if (!visible) return;
    complete();
    const timer = setTimeout(async () => {
      for (const bucket of app.tree?.buckets ?? []) {
        for (const t of bucket.tables) {
          const key = `${bucket.name}/${t.name}`;
          if (!tab.sql.includes(t.name) || columns.current.has(key) || columns.current.size >= maxDescribed) continue;
          columns.current.set(key, []);
          const table = await get<Table>("table", { bucket: bucket.name, table: t.name }).catch(() => null);
          columns.current.set(key, table?.columns ?? []);
          complete();
        }
      }
    }, 150);
    return () => clearTimeout(timer);
  }, [tab.sql, tab.bucket, app.tree, visible]);
}
