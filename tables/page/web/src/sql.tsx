// SQL: tabs with an editor, results as a grid or a chart.
import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import { ApiError, get, type Table } from "./api";
import { Chart } from "./chart";
import { type App, bucketName, count, href, useKept } from "./common";
import { editor, type Editor } from "./editor";
import { Grid } from "./grid";
import { ResultRows } from "./rows";
import { Downloads } from "./table";

interface Tab {
  id: number;
  sql: string;
  bucket: string;
}
const mostTabs = 8;
const mostHistory = 100;
const mostDescribed = 50;

export function SqlPage({ app, args, visible }: { app: App; args: URLSearchParams; visible: boolean }) {
  const [tabs, setTabs] = useKept<Tab[]>("partd.tabs", [{ id: 1, sql: "", bucket: "" }]);
  const [current, setCurrent] = useState(tabs[0].id);
  const [past, setPast] = useKept<Tab[]>("partd.history", []);
  const [showPast, setShowPast] = useState(false);
  const [chart, setChart] = useState(false);
  const [, changed] = useReducer((n: number) => n + 1, 0);
  const [note, setNote] = useState("");
  const results = useRef(new Map<number, ResultRows>());
  const host = useRef<HTMLDivElement>(null);
  const edit = useRef<Editor | null>(null);
  const [filled, setFilled] = useState(0);
  const known = useRef("");
  const columns = useRef(new Map<string, string[]>());
  const tab = tabs.find((t) => t.id === current) ?? tabs[0];
  const result = results.current.get(tab.id);
  // What the editor calls later has to see the state of then.
  const now = useRef({ tab, tabs, run });
  now.current = { tab, tabs, run };

  function change(part: Partial<Tab>) {
    setTabs(now.current.tabs.map((t) => (t.id === now.current.tab.id ? { ...t, ...part } : t)));
  }
  function add(sql = "", bucket = tab.bucket) {
    const same = tabs.find((t) => t.sql === sql && t.bucket === bucket);
    const id = Math.max(...tabs.map((t) => t.id)) + 1;
    if (same) setCurrent(same.id);
    else if (tabs.length >= mostTabs) setNote(`at most ${mostTabs} tabs: close one first`);
    else {
      setTabs([...tabs, { id, sql, bucket }]);
      setCurrent(id);
    }
  }
  function remove(id: number) {
    results.current.get(id)?.cancel();
    results.current.delete(id);
    const rest = tabs.filter((t) => t.id !== id);
    setTabs(rest.length ? rest : [{ id: id + 1, sql: "", bucket: "" }]);
    setCurrent(rest[0]?.id ?? id + 1);
  }
  function run() {
    const { tab } = now.current;
    if (!tab.sql.trim()) return;
    results.current.get(tab.id)?.cancel();
    setNote("");
    edit.current?.mark("");
    results.current.set(tab.id, new ResultRows(tab.sql, tab.bucket, () => changed(0)));
    setPast([tab, ...past.filter((p) => p.sql !== tab.sql || p.bucket !== tab.bucket)].slice(0, mostHistory));
  }

  useEffect(() => {
    edit.current = editor(host.current!, tab.sql, (sql) => change({ sql }), () => now.current.run());
    return () => {
      edit.current!.view.destroy();
      for (const r of results.current.values()) r.cancel();
    };
  }, []);
  useEffect(() => {
    const view = edit.current!.view;
    const text = view.state.doc.toString();
    if (text !== tab.sql) view.dispatch({ changes: { from: 0, to: text.length, insert: tab.sql } });
    // What is typed comes from the editor: by the time it is drawn, more may have been typed.
  }, [tab.id, filled]);
  const link = visible ? args.get("q") : null;
  useEffect(() => {
    if (link === null) return;
    const bucket = args.get("bucket") ?? "";
    if (tab.sql) add(link, bucket);
    else {
      change({ sql: link, bucket });
      setFilled(filled + 1);
    }
    // A link fills the editor once; it never runs by itself.
    history.replaceState(null, "", href("sql"));
    dispatchEvent(new HashChangeEvent("hashchange"));
  }, [link]);
  useEffect(() => {
    if (visible) edit.current!.view.focus();
  }, [visible, tab.id]);
  const error = result?.error instanceof ApiError ? result.error : undefined;
  useEffect(() => edit.current!.mark(error && result?.sql === tab.sql ? error.message : "", error?.line, error?.column), [result?.error, tab.id]);

  // Completion knows all tables, and the columns of those that the statement names.
  function complete() {
    const names: Record<string, string[] | Record<string, string[]>> = {};
    for (const bucket of app.tree?.buckets ?? []) {
      const list = Object.fromEntries(bucket.tables.map((t) => [t.name, columns.current.get(`${bucket.name}/${t.name}`) ?? []]));
      names[bucketName(bucket.name)] = list;
      if (bucket.name === tab.bucket) Object.assign(names, list);
    }
    // A new schema closes the list of completions: it is set only where it differs.
    const key = JSON.stringify(names);
    if (key !== known.current) edit.current!.schema(names);
    known.current = key;
  }
  useEffect(() => {
    if (!visible) return;
    complete();
    const later = setTimeout(async () => {
      for (const bucket of app.tree?.buckets ?? []) {
        for (const t of bucket.tables) {
          const key = `${bucket.name}/${t.name}`;
          if (!tab.sql.includes(t.name) || columns.current.has(key) || columns.current.size >= mostDescribed) continue;
          columns.current.set(key, []);
          const table = await get<Table>("table", { bucket: bucket.name, table: t.name }).catch(() => null);
          columns.current.set(key, table?.columns.map((c) => c.name) ?? []);
          complete();
        }
      }
    }, 300);
    return () => clearTimeout(later);
  }, [tab.sql, tab.bucket, app.tree, visible]);

  async function share() {
    const url = location.href.replace(/#.*/, "") + href("sql", { bucket: tab.bucket, q: tab.sql });
    const copied = await navigator.clipboard?.writeText(url).then(() => true, () => false);
    setNote(copied ? "the link is in the clipboard" : url);
  }
  const title = (sql: string) => sql.replace(/\s+/g, " ").trim().slice(0, 28) || "New query";
  const seconds = result && `${(result.took / 1000).toFixed(2)} s`;
  return (
    <section class="view" aria-label="SQL" hidden={!visible}>
      <div class="tabs" role="tablist" aria-label="queries">
        {tabs.map((t) => (
          <span key={t.id} class={t.id === tab.id ? "tab on" : "tab"} role="presentation">
            <button role="tab" aria-selected={t.id === tab.id} onClick={() => setCurrent(t.id)}><bdi>{title(t.sql)}</bdi></button>
            <button class="quiet" aria-label={`close ${title(t.sql)}`} onClick={() => remove(t.id)}>✕</button>
          </span>
        ))}
        <button class="quiet" aria-label="new query" title="New query" onClick={() => add()}>+</button>
      </div>
      <div class="editor" ref={host} />
      <div class="bar">
        {result?.running ? <button class="main stop" onClick={() => result.cancel()}>Cancel</button> : <button class="main" onClick={run} disabled={!tab.sql.trim()}>Run</button>}
        <label>Bucket
          <select value={tab.bucket} onChange={(e) => change({ bucket: e.currentTarget.value })}>
            {[...new Set(["", tab.bucket, ...(app.tree?.buckets.map((b) => b.name) ?? [])])].map((b) => <option value={b}>{bucketName(b).slice(0, 60)}</option>)}
          </select>
        </label>
        <button aria-pressed={showPast} onClick={() => setShowPast(!showPast)}>History</button>
        <button onClick={share}>Copy link</button>
        <span class="space" />
        {result && !result.error && (
          <>
            <span class="joined" role="group" aria-label="show as">
              <button aria-pressed={!chart} onClick={() => setChart(false)}>Grid</button>
              <button aria-pressed={chart} onClick={() => setChart(true)}>Chart</button>
            </span>
            <Downloads args={{ sql: result.sql, bucket: result.bucket }} />
          </>
        )}
      </div>
      {showPast && (
        <ol class="history" aria-label="history">
          {past.map((p) => <li><button class="quiet" onClick={() => (add(p.sql, p.bucket), setShowPast(false))}><code>{p.sql.replace(/\s+/g, " ").slice(0, 160)}</code><small>{bucketName(p.bucket)}</small></button></li>)}
          {!past.length && <li class="faint">Queries that you run are kept here, in this browser.</li>}
        </ol>
      )}
      <div class="split">
        <div class="fill">
          {result?.error ? (
            <p class="error" role="alert">{error?.line ? <b>Line {error.line}, column {error.column}: </b> : null}{result.error.message}</p>
          ) : !result ? (
            <p class="empty">Write a SELECT and run it: <kbd>Ctrl</kbd> <kbd>Enter</kbd>. Names complete as you type, or by <kbd>Ctrl</kbd> <kbd>Space</kbd>.</p>
          ) : chart ? (
            <Chart key={`${tab.id} ${result.id} ${result.fields.length}`} rows={result} />
          ) : (
            <Grid key={`${tab.id} ${result.id}`} rows={result} label="result" busy={result.running} />
          )}
        </div>
      </div>
      <div class="status" role="status">
        {result && !result.error && (result.running ? `Running… ${count(result.count)} rows` : result.cut ? <b>Cut: {result.cut} are here. A download has them all.</b> : `${count(result.count)} rows in ${seconds}`)}
        {note && <span class="note">{note}</span>}
      </div>
    </section>
  );
}
