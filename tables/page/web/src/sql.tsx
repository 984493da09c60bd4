// Shows the SQL view: tabs, each with an editor and the results of its statements. The address contains
// the last statement that ran and the view of its rows, so that Back and links restore both.
import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";
import { Clock } from "./clock";
import { type App, bucketName, formatCount, href, useStored } from "./common";
import { useCompletion } from "./complete";
import { editor, type Editor } from "./editor";
import { Explore, Filter, notApplied, Switch } from "./explore";
import { ResultRows, standsAlone, type Statement } from "./rows";
import { applyChange, type Change, readLook, writeLook } from "./state";
import { Downloads, ProfilePane } from "./table";
import { summarize, WriteDialog } from "./write";

type TablesState = Record<string, string>;
interface Tab {
  id: number;
  sql: string;
  bucket: string;
  at?: TablesState; // the state of the tables, as request parameters
  look?: string; // view of the rows, as in the address
}
// Run contains the results of a tab's statements that have run or are running.
interface Run {
  started: number;
  all: ResultRows[];
  shown: number; // index in all
  next?: ResultRows; // the result with a new filter or order, which replaces the shown one when it is complete
  stopped?: boolean;
}
const maxTabs = 8;
const maxHistory = 100;
const maxStatements = 10;
const maxAddressLength = 16_000;
const states = ["version", "snapshot", "before_version", "before_snapshot"]; // parameters that select the tables' state

const lookOf = (tab: Tab) => readLook(new URLSearchParams(tab.look));
const addressOf = (tab: Tab) => {
  const full = href("sql", { q: tab.sql, bucket: tab.bucket, ...tab.at, ...writeLook(lookOf(tab)) });
  return tab.sql.trim() && full.length <= maxAddressLength ? full : href("sql");
};
const isSameQuery = (a: Tab, b: Tab) => a.sql === b.sql && a.bucket === b.bucket && states.every((key) => a.at?.[key] === b.at?.[key]);

export function SqlPage({ app, args, visible }: { app: App; args: URLSearchParams; visible: boolean }) {
  const [tabs, setTabs] = useStored<Tab[]>("partd.tabs", [{ id: 1, sql: "", bucket: "" }]);
  const [current, setCurrent] = useStored("partd.tab", tabs[0].id);
  const [pastQueries, setPastQueries] = useStored<Tab[]>("partd.history", []);
  const [showPast, setShowPast] = useState(false);
  const [, changed] = useReducer((n: number) => n + 1, 0);
  const [note, setNote] = useState("");
  const [write, setWrite] = useState<{ rows: ResultRows; onDone: () => void }>(); // the write that the user must confirm
  const runs = useRef(new Map<number, Run>());
  const host = useRef<HTMLDivElement>(null);
  const editorRef = useRef<Editor | null>(null);
  const tab = tabs.find((t) => t.id === current) ?? tabs[0];
  const look = lookOf(tab);
  const activeRun = runs.current.get(tab.id);
  const result = activeRun?.all[activeRun.shown];
  const running = activeRun?.all.find((r) => r.running) ?? (activeRun?.next?.running ? activeRun.next : undefined);
  const alone = !!result && (!!result.written || standsAlone(result.statement.sql));
  // The editor's callbacks run after this rendering and must see the newest state.
  const newest = useRef({ tab, tabs, run });
  newest.current = { tab, tabs, run };

  function setAllTabs(list: Tab[]) {
    newest.current.tabs = list;
    newest.current.tab = list.find((t) => t.id === newest.current.tab.id) ?? newest.current.tab;
    setTabs(list);
  }
  function change(part: Partial<Tab>, id = newest.current.tab.id) {
    setAllTabs(newest.current.tabs.map((t) => (t.id === id ? { ...t, ...part } : t)));
  }
  function onTyped(sql: string) {
    change({ sql });
    // Remove the statement from the address, because it is no longer in the editor.
    if (readQuery() !== null && readQuery() !== sql) location.hash = href("sql");
  }
  // open selects the tab of a statement, or fills a tab with the statement. It does not run the statement.
  function open(wanted: Omit<Tab, "id">) {
    const { tab, tabs } = newest.current;
    const found = [tab, ...tabs].find((t) => isSameQuery(t, { ...wanted, id: 0 }));
    const id = Math.max(...tabs.map((t) => t.id)) + 1;
    if (found) {
      change({ look: wanted.look }, found.id);
      setCurrent(found.id);
    } else if (!tab.sql.trim() && wanted.sql) {
      change(wanted);
      showInEditor(wanted.sql); // now, not at the next render, so that Ctrl+Enter already runs this statement
    } else if (tabs.length >= maxTabs) setNote(`at most ${maxTabs} tabs: close one first`);
    else {
      setAllTabs([...tabs, { ...wanted, id }]);
      setCurrent(id);
    }
  }
  function showInEditor(sql: string) {
    const { view } = editorRef.current!;
    const text = view.state.doc.toString();
    if (text !== sql) view.dispatch({ changes: { from: 0, to: text.length, insert: sql } });
  }
  function choose(chosen: Tab) {
    setCurrent(chosen.id);
    history.pushState(null, "", runs.current.has(chosen.id) ? addressOf(chosen) : href("sql"));
    dispatchEvent(new HashChangeEvent("hashchange"));
  }
  function remove(id: number) {
    stop(id);
    runs.current.delete(id);
    const rest = tabs.filter((t) => t.id !== id);
    setAllTabs(rest.length ? rest : [{ id: id + 1, sql: "", bucket: "" }]);
    if (id === tab.id) choose(newest.current.tabs[0]);
  }
  function stop(id = newest.current.tab.id) {
    const run = runs.current.get(id);
    if (!run) return;
    run.stopped = true;
    for (const r of [...run.all, run.next]) if (r?.running) r.cancel();
  }
  async function run() {
    const { tab } = newest.current;
    const statements = editorRef.current!.statements();
    if (!statements.length) return;
    stop();
    setNote(statements.length > maxStatements ? `at most ${maxStatements} statements can run at once: select fewer` : "");
    if (statements.length > maxStatements) return;
    editorRef.current!.mark("");
    const whole = { ...tab, look: href("", writeLook({ ...lookOf(tab), filter: "", sort: null, profile: null })).split("?")[1] };
    change({ look: whole.look });
    const run: Run = { started: performance.now(), all: [], shown: 0 };
    runs.current.set(tab.id, run);
    setPastQueries([whole, ...pastQueries.filter((p) => !isSameQuery(p, tab))].slice(0, maxHistory));
    goTo(addressOf(whole));
    for (const statement of statements) {
      const r = new ResultRows({ ...statement, bucket: tab.bucket, at: tab.at ?? {} }, "", null, statements.length, () => changed(0));
      run.shown = run.all.push(r) - 1;
      changed(0);
      await r.done;
      if (r.error instanceof ApiError && r.error.writes) await new Promise<void>((done) => setWrite({ rows: r, onDone: done }));
      if (r.error || r.cancelled || run.stopped) break;
    }
  }
  function set(part: Change) {
    const { tab, tabs } = newest.current;
    const previous = tabs.find((t) => t.id === tab.id)!;
    const next = { ...previous, look: href("", writeLook(applyChange(lookOf(previous), part))).split("?")[1] ?? "" };
    change({ look: next.look });
    location.hash = addressOf(next);
  }

  useEffect(() => {
    editorRef.current = editor(host.current!, tab.sql, onTyped, () => void newest.current.run());
    return () => {
      editorRef.current!.view.destroy();
      for (const id of runs.current.keys()) stop(id);
    };
  }, []);
  useEffect(() => {
    showInEditor(tab.sql);
    // tab.sql is not a dependency, because it comes from the editor, which may already contain newer text.
  }, [tab.id]);
  const link = visible && args.get("q") !== null ? args.toString() : null;
  useEffect(() => {
    if (link === null) return;
    const at = Object.fromEntries(states.flatMap((key) => (args.get(key) ? [[key, args.get(key)!]] : [])));
    open({ sql: args.get("q")!, bucket: args.get("bucket") ?? "", at, look: href("", writeLook(readLook(args))).split("?")[1] ?? "" });
  }, [link]);
  useEffect(() => {
    if (visible && !look.filter && !look.chart) editorRef.current!.view.focus();
  }, [visible, tab.id]);
  // If the filter or the order changed, run the statement with them.
  useEffect(() => {
    if (!activeRun || !result || result.running || result.error || alone) return;
    const wanted = JSON.stringify([look.filter, look.sort]);
    const matches = (rows?: ResultRows) => rows && wanted === JSON.stringify([rows.filter, rows.sort]);
    if (matches(activeRun.next)) return;
    activeRun.next?.cancel();
    activeRun.next = undefined;
    if (matches(result)) return;
    const { shown } = activeRun;
    const next = (activeRun.next = new ResultRows(result.statement, look.filter, look.sort, activeRun.all.length, () => changed(0)));
    void next.done.then(() => {
      if (activeRun.next !== next || next.error || next.cancelled) return;
      activeRun.all[shown] = next;
      activeRun.next = undefined;
      changed(0);
    });
  }, [tab.id, look.filter, JSON.stringify(look.sort), result?.running, activeRun?.shown]);
  const error = result?.error instanceof ApiError ? result.error : undefined;
  useEffect(() => {
    const { sql, from } = result?.statement ?? { sql: "", from: 0 };
    const isMarked = error?.line && tab.sql.startsWith(sql, from);
    editorRef.current!.mark(error?.message ?? "", isMarked ? { text: sql, from, line: error.line!, column: error.column ?? 1 } : undefined);
  }, [result?.error, tab.id]);

  useCompletion(editorRef, app, tab, visible);

  async function share() {
    const url = location.href.replace(/#.*/, "") + addressOf(tab);
    const copied = await navigator.clipboard?.writeText(url).then(() => true, () => false);
    setNote(copied ? "the link was copied" : url);
  }
  function format() {
    editorRef.current!.format().then(() => setNote(""), (err: Error) => setNote(`the statement cannot be formatted: ${err.message.split("\n")[0]}`));
  }
  const title = (sql: string) => sql.replace(/\s+/g, " ").trim().slice(0, 28) || "New query";
  const source: Statement = result?.statement ?? { sql: "", from: 0, bucket: "", at: {} };
  const downloadArgs = { sql: source.sql, bucket: source.bucket, ...source.at };
  const failed = activeRun?.next?.error;
  return (
    <section class="view" aria-label="SQL" hidden={!visible} onKeyDown={(e) => e.key === "Escape" && running && !e.defaultPrevented && stop()}>
      <h1 class="unseen">SQL</h1>
      <div class="tabs">
        <div role="tablist" aria-label="queries">
          {tabs.map((t) => (
            <span key={t.id} class={t.id === tab.id ? "tab on" : "tab"} role="presentation">
              <button role="tab" aria-selected={t.id === tab.id} aria-keyshortcuts="Delete" onClick={() => choose(t)} onKeyDown={(e) => e.key === "Delete" && remove(t.id)}><bdi>{title(t.sql)}</bdi></button>
              <button class="quiet" aria-hidden="true" tabIndex={-1} title="Close (Delete)" onClick={() => remove(t.id)}>✕</button>
            </span>
          ))}
        </div>
        <button class="quiet" aria-label="new query" title="New query" onClick={() => (location.hash = href("sql"), open({ sql: "", bucket: tab.bucket }))}>+</button>
      </div>
      <div class="editor" ref={host} />
      <div class="bar">
        {running ? <button class="main stop" title="Cancel (Esc)" onClick={() => stop()}>Cancel</button> : <button class="main" title="Run all statements, or the selection (Ctrl+Enter)" onClick={run} disabled={!tab.sql.trim()}>Run</button>}
        <label>Bucket
          <select value={tab.bucket} onChange={(e) => change({ bucket: e.currentTarget.value })}>
            {[...new Set(["", tab.bucket, ...(app.tree?.buckets.map((b) => b.name) ?? [])])].map((b) => <option value={b}>{bucketName(b).slice(0, 60)}</option>)}
          </select>
        </label>
        {Object.entries(tab.at ?? {}).map(([key, value]) => (
          <span class="chip" key={key}>{key.replace("_", " ")} <bdi>{value.slice(0, 60)}</bdi> <button class="quiet" aria-label={`remove the ${key.replace("_", " ")}`} onClick={() => change({ at: Object.fromEntries(Object.entries(tab.at!).filter(([k]) => k !== key)) })}>✕</button></span>
        ))}
        <button aria-pressed={showPast} onClick={() => setShowPast(!showPast)}>History</button>
        <button title="Format all statements, or the selection (Shift+Alt+F)" onClick={format} disabled={!tab.sql.trim()}>Format</button>
        <button onClick={share}>Copy link</button>
        <span class="space" />
        {result && !result.error && !alone && (
          <>
            <Switch look={look} set={set} />
            <Downloads args={downloadArgs} />
          </>
        )}
      </div>
      {showPast && (
        <ol class="history" aria-label="history">
          {pastQueries.map((p) => <li><button class="quiet" onClick={() => (open(p), setShowPast(false))}><code>{p.sql.replace(/\s+/g, " ").slice(0, 160)}</code><small>{bucketName(p.bucket)}</small></button></li>)}
          {!pastQueries.length && <li class="faint">This browser stores the queries that you run here.</li>}
        </ol>
      )}
      {activeRun && activeRun.all.length > 1 && (
        <div class="bar" role="group" aria-label="results">
          {activeRun.all.map((r, i) => <button aria-pressed={i === activeRun.shown} onClick={() => ((activeRun.shown = i), changed(0))}>{i + 1} <bdi>{title(r.statement.sql)}</bdi></button>)}
        </div>
      )}
      {result && !result.error && !result.running && !alone && <div class="bar"><Filter value={look.filter} error={failed} set={set} /></div>}
      {write ? (
        <p class="empty">The statement waits for your confirmation.</p>
      ) : result?.error ? (
        <div class="split"><p class="error" role="alert">{error?.line ? <b>Line {error.line}, column {error.column}: </b> : null}{result.error.message}</p></div>
      ) : !result ? (
        <p class="empty">Write a SELECT and run it<span class="keys">: <kbd>Ctrl</kbd> <kbd>Enter</kbd></span>. Names are completed as you type<span class="keys">; <kbd>Ctrl</kbd> <kbd>Space</kbd> shows the choices</span>.</p>
      ) : result.written ? (
        <p class="empty">{summarize(result.written)}</p>
      ) : result.fields[0]?.name === "explain_key" ? (
        <div class="split"><pre class="plan" tabIndex={0} aria-label="plan">{plan(result)}</pre></div>
      ) : (
        <Explore
          key={`${tab.id} ${activeRun!.started} ${activeRun!.shown}`}
          rows={result}
          label="result"
          busy={!!running}
          source={source}
          alone={alone}
          look={look}
          set={set}
          say={setNote}
          profile={(column) => <ProfilePane key={column} args={{ ...downloadArgs, filter: look.filter, column }} close={() => set({ profile: null })} />}
        >
          {result.cancelled && !result.count && <p class="empty over">{result.declined ? "Nothing was changed." : "Cancelled."}</p>}
        </Explore>
      )}
      <div class="status" role="status">
        {running ? <>Running… <Clock since={running.started} />{formatCount(running.count)} rows</> : !result || result.error || result.written ? "" : failed ? notApplied : result.declined ? "The statement was not run." : result.cancelled ? `Cancelled after ${seconds(result.elapsed)}. ${formatCount(result.count)} rows were received.` : result.cut ? <b>Only {result.cut} are shown. Download the result to get all rows.</b> : `${formatCount(result.count)} rows in ${seconds(result.elapsed)}`}
        {note && <span class="note">{note}</span>}
      </div>
      {write && (
        <WriteDialog
          statement={write.rows.statement}
          close={(outcome) => {
            setWrite(undefined);
            write.rows.close(outcome);
            app.reload();
            write.onDone();
          }}
        />
      )}
    </section>
  );
}

// goTo changes the address. If the old address names no statement, goTo replaces it, so that Back does not return to
// it.
function goTo(address: string) {
  if (location.hash !== href("sql")) return void (location.hash = address);
  history.replaceState(null, "", address);
  dispatchEvent(new HashChangeEvent("hashchange"));
}
const readQuery = () => new URLSearchParams(location.hash.split("?")[1]).get("q");
const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;

function plan(rows: ResultRows): string {
  const parts: string[] = [];
  for (let i = 0; i < rows.count; i++) {
    const at = rows.at(i)!;
    parts.push(String(at.batch.getChildAt(1)?.get(at.index)));
  }
  return parts.join("\n");
}
