// Shows the views of a table and of a bucket.
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { address, get, type Profile, type Table, type Tree } from "./api";
import { type App, bucketName, formatCount, tableCount, csvField, href, quoteName, readRoute, shorten, formatBytes, useLoaded, formatTime } from "./common";
import { difference } from "./duckdb";
import { Explore, Filter, notApplied, Switch } from "./explore";
import { TableRows } from "./rows";
import { applyChange, type Change, readLook, writeLook } from "./state";
import { instant } from "./values";

export function TablePage({ app, args }: { app: App; args: URLSearchParams }) {
  const name = {
    bucket: args.get("bucket") ?? "",
    table: args.get("table") ?? "",
    version: args.get("version") ?? undefined,
    snapshot: args.get("snapshot") ?? undefined,
  };
  const key = JSON.stringify([name, app.reloadCount]);
  const look = readLook(args);
  const { filter, sort } = look;
  const set = (change: Change) => void (location.hash = href("table", { ...name, ...writeLook(applyChange(readLook(readRoute().args), change)) }));
  const [note, setNote] = useState("");
  const [, changed] = useReducer((n: number) => n + 1, 0);

  const table = useLoaded(key, (signal) => get<Table>("table", name, signal));
  const order = sort ? csvField((sort.descending ? "-" : /^[-+]/.test(sort.column) ? "+" : "") + sort.column) : undefined;
  const params = { ...name, sort: order, filter };
  const rows = useMemo(() => new TableRows(params, () => changed(0)), [key, order, filter]);
  useEffect(() => () => rows.close(), [rows]);
  const [last, show] = useState({ key, rows });
  // The old rows stay visible until the first page of the new rows is loaded. They also stay if a filter is invalid.
  const isReady = rows.ready || (rows.error && last.key !== key);
  useEffect(() => {
    if (isReady) show({ key, rows });
  }, [isReady, rows]);
  const visible = isReady ? rows : last.rows;
  const isOld = !!(name.version || name.snapshot);

  // compare opens the SQL view with a statement that returns the differences from another state of the table.
  async function compare(to: string) {
    const before = to.startsWith("version ") ? { version: to.slice(8) } : { snapshot: to.slice(9) };
    const other = await get<Table>("table", { bucket: name.bucket, table: name.table, ...before }).catch((err: Error) => setNote(err.message));
    if (!other) return;
    const at = { version: name.version, snapshot: name.snapshot, before_version: before.version, before_snapshot: before.snapshot };
    location.hash = href("sql", { q: difference(name.bucket, name.table, table.value!.columns, other.columns), bucket: name.bucket, ...at });
  }
  const userMetadata = Object.entries(table.value?.metadata ?? {}).filter(([k]) => !k.startsWith("_"));
  const filtered = filter && !table.error ? rows.error : undefined;
  const failed = table.error ?? (filtered ? undefined : rows.error);
  const statement = `SELECT *\nFROM ${quoteName(name.table)}${filter ? `\nWHERE ${filter}` : ""}${sort ? `\nORDER BY ${quoteName(sort.column)}${sort.descending ? " DESC" : ""}` : ""}\nLIMIT 1000`;
  const at = { ...(name.version && { version: name.version }), ...(name.snapshot && { snapshot: name.snapshot }) };
  const source = { sql: `SELECT * FROM ${quoteName(name.table)}`, from: 0, bucket: name.bucket, at };
  return (
    <section class="view" aria-label={`table ${name.table.slice(0, 100)}`}>
      <div class="title">
        <h1>
          <a href={href("bucket", { bucket: name.bucket })}><bdi>{shorten(bucketName(name.bucket))}</bdi></a> / <bdi>{shorten(name.table)}</bdi>
        </h1>
        {table.value && (
          <select aria-label="compare with" value="" onChange={(e) => void compare(e.currentTarget.value)}>
            <option value="">Compare with…</option>
            {table.value.versions.filter((v) => String(v.version) !== name.version).reverse().map((v) => <option value={`version ${v.version}`}>version {v.version} · {v.operation} · {formatTime(v.time)}</option>)}
            {table.value.snapshots?.filter((s) => s.name !== name.snapshot).map((s) => <option value={`snapshot ${s.name}`}>snapshot {s.name.slice(0, 60)}</option>)}
          </select>
        )}
        {isOld && <span class="chip">{name.version ? `version ${name.version}` : `snapshot ${name.snapshot}`} <a href={href("table", { bucket: name.bucket, table: name.table })}>newest</a></span>}
        <small>{table.value ? `${tableCount(table.value)} rows · ${formatBytes(table.value.bytes)} · version ${table.value.version} · ${formatTime(table.value.updated)}` : " "}</small>
        {table.value?.maintenance && <Maintenance state={table.value.maintenance} />}
      </div>
      <div class="bar">
        <Filter value={filter} error={filtered} set={set} />
        <Switch look={look} set={set} />
        <a class="button" href={href("sql", { ...name, table: undefined, q: statement })}>Query</a>
        <Downloads args={params} />
        {app.session.rights === "admin" && !isOld && (
          <>
            <button type="button" onClick={() => app.dialog("resample", name)}>Resample…</button>
            <button type="button" onClick={() => app.dialog("combine", name)}>Combine…</button>
            <button type="button" class="bad" onClick={() => app.dialog("delete", name)}>Delete…</button>
          </>
        )}
      </div>
      {failed && <p class="error" role="alert">{failed.message}</p>}
      <Explore
        rows={visible}
        label={`rows of ${name.table.slice(0, 100)}`}
        busy={visible !== rows && !rows.error}
        source={source}
        look={look}
        set={set}
        say={setNote}
        profile={(column) => <ProfilePane key={column} args={{ ...name, filter, column }} close={() => set({ profile: null })} />}
      >
        {visible.ready && !visible.count && <p class="empty over">{filter ? "No row matches the filter." : "The table has no rows. To add rows, drop a file on its bucket."}</p>}
      </Explore>
      <div class="status" role="status">
        {filtered ? notApplied : visible !== rows && !rows.error ? "Loading…" : visible.ready ? `${formatCount(visible.count)} rows${filter ? " match" : ""}` : rows.error ? "" : "Loading…"}
        {note && <span class="note">{note}</span>}
        {userMetadata.length > 0 && <bdi class="meta">{userMetadata.map(([k, v]) => `${k}=${typeof v === "string" ? v : JSON.stringify(v)}`).join("  ").slice(0, 300)}</bdi>}
      </div>
    </section>
  );
}

// Maintenance shows the state of a table's maintenance. Its summary says so if the server cannot maintain the table
// now.
function Maintenance({ state: m }: { state: NonNullable<Table["maintenance"]> }) {
  const facts = [`${formatCount(m.files)} files, ${formatCount(m.small_files)} of them small`, `${formatCount(m.versions)} versions, ${formatBytes(m.metadata_bytes)} of metadata`];
  if (m.unused_bytes) facts.push(`${formatBytes(m.unused_bytes)} in files that nothing needs`);
  facts.push(m.last ? `maintained ${formatTime(m.last)}` : "not yet maintained by this server");
  if (m.reason) facts.push(`not maintained now: ${m.reason}`);
  if (m.next) facts.push(`next attempt ${formatTime(m.next)}`);
  return (
    <details class={m.reason ? "care bad" : "care"}>
      <summary>{m.reason ? "Not maintained" : "Maintenance"}</summary>
      <ul aria-label="maintenance">{facts.map((fact) => <li>{fact}</li>)}</ul>
    </details>
  );
}

export function Downloads({ args }: { args: Record<string, string | number | undefined> }) {
  return (
    <span class="joined">
      <a class="button" download href={address("download", { ...args, format: "csv" })}>CSV</a>
      <a class="button" download href={address("download", { ...args, format: "parquet" })}>Parquet</a>
    </span>
  );
}

export function ProfilePane({ args, close }: { args: Record<string, string | undefined>; close: () => void }) {
  const pane = useRef<HTMLElement>(null);
  useEffect(() => {
    const escape = (e: KeyboardEvent) => e.key === "Escape" && !e.defaultPrevented && pane.current?.offsetParent && !document.querySelector("dialog[open]") && close();
    addEventListener("keydown", escape);
    return () => removeEventListener("keydown", escape);
  }, [close]);
  const { value: p, error } = useLoaded(JSON.stringify(args), (signal) => get<Profile>("profile", args, signal));
  const bars = p?.histogram?.map((b) => b.count) ?? p?.top?.map((t) => t.count) ?? [];
  const maxCount = Math.max(1, ...bars);
  const time = p && /^(timestamp|date)/.test(p.type);
  const edge = (n: number) => (time ? instant(n).replace(/:[^:]*$/, "") : String(Number(n.toPrecision(6))));
  return (
    <aside class="profile" ref={pane} aria-label="profile of a column">
      <header><bdi>{shorten(args.column ?? "")}</bdi><button class="quiet" aria-label="close the profile" onClick={close}>✕</button></header>
      {error && <p class="error" role="alert">{error.message}</p>}
      {args.filter && <p class="faint">Only rows that match the filter are counted.</p>}
      {!p && !error && <p class="faint">Counting…</p>}
      {p && (
        <>
          <dl>
            <dt>Type</dt><dd>{p.type}</dd>
            <dt>Rows</dt><dd>{formatCount(p.rows)}</dd>
            <dt>Nulls</dt><dd>{formatCount(p.nulls)} <small>{p.rows ? `${((100 * p.nulls) / p.rows).toFixed(1)} %` : ""}</small></dd>
            <dt>Distinct</dt><dd>{p.exact ? "" : "≈ "}{formatCount(p.distinct)}</dd>
            <dt>Smallest</dt><dd><bdi>{shorten(p.min ?? "–")}</bdi></dd>
            <dt>Largest</dt><dd><bdi>{shorten(p.max ?? "–")}</bdi></dd>
          </dl>
          {p.histogram && p.histogram.length > 0 && (
            <>
              <svg class="histogram" viewBox={`0 0 ${bars.length * 10} 60`} preserveAspectRatio="none" role="img" aria-label={`histogram of ${bars.length} bins, the fullest with ${maxCount} rows`}>
                {p.histogram.map((b, i) => (
                  <rect x={i * 10 + 0.5} width={9} y={60 - (b.count / maxCount) * 58} height={(b.count / maxCount) * 58}><title>{`${edge(b.from)} to ${edge(b.to)}: ${formatCount(b.count)}`}</title></rect>
                ))}
              </svg>
              <div class="ends"><small>{edge(p.histogram[0].from)}</small><small>{edge(p.histogram[p.histogram.length - 1].to)}</small></div>
            </>
          )}
          {p.top && (
            <ol class="top">
              {p.top.map((t) => (
                <li><bdi>{shorten(t.value, 100)}</bdi><small>{formatCount(t.count)}</small><progress max={maxCount} value={t.count} aria-hidden="true" /></li>
              ))}
            </ol>
          )}
        </>
      )}
    </aside>
  );
}

export function BucketPage({ app, args }: { app: App; args: URLSearchParams }) {
  const bucket = args.get("bucket") ?? "";
  const snapshot = args.get("snapshot") ?? undefined;
  const admin = app.session.rights === "admin";
  // app.tree may contain only search results, so the bucket's tables are requested separately.
  const { value: tree, error } = useLoaded(JSON.stringify([bucket, snapshot, app.reloadCount]), (signal) => get<Tree>("tree", { bucket: bucket || null, snapshot, limit: 10000 }, signal));
  const found = tree?.buckets[0];
  const form = { bucket, snapshot };
  return (
    <section class="view" aria-label={`bucket ${bucketName(bucket)}`} onDragOver={(e) => e.preventDefault()} onDrop={(e) => {
      e.preventDefault();
      const files = [...(e.dataTransfer?.files ?? [])];
      if (files.length && admin) app.dialog("put", { bucket, files });
    }}>
      <div class="title"><h1><bdi>{shorten(bucketName(bucket))}</bdi></h1>{snapshot && <span class="chip">snapshot <bdi>{shorten(snapshot)}</bdi> <a href={href("bucket", { bucket })}>now</a></span>}</div>
      {admin && (
        <div class="bar">
          {snapshot ? (
            <>
              <button onClick={() => app.dialog("restore", form)}>Restore…</button>
              <button class="bad" onClick={() => app.dialog("delete-snapshot", form)}>Delete snapshot…</button>
            </>
          ) : (
            <>
              <button onClick={() => app.dialog("put", form)}>Put a file…</button>
              <button onClick={() => app.dialog("combine", form)}>Combine…</button>
              <button onClick={() => app.dialog("snapshot", form)}>Snapshot…</button>
            </>
          )}
        </div>
      )}
      {error && <p class="error" role="alert">{error.message}</p>}
      {tree && !found?.tables.length && <p class="empty">{snapshot ? "The snapshot has no tables." : `The bucket has no tables.${admin ? " Drop a CSV or Parquet file here." : ""}`}</p>}
      {tree?.next && <p class="empty">Only the first {formatCount(found!.tables.length)} tables are shown. Search to find others.</p>}
      {!!found?.tables.length && (
        <div class="scroll">
          <table>
            <thead><tr><th>Table</th><th class="num">Rows</th><th class="num">Size</th><th class="num">Version</th><th>Updated</th></tr></thead>
            <tbody>
              {found.tables.map((t) => (
                <tr key={t.name}>
                  <td><a href={href("table", { bucket, table: t.name, snapshot })}><bdi>{shorten(t.name)}</bdi></a></td>
                  <td class="num">{tableCount(t)}</td><td class="num">{formatBytes(t.bytes)}</td><td class="num">{t.version}</td><td class="faint">{formatTime(t.updated)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
