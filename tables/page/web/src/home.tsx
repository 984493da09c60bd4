// Shows the page's first view: recently changed tables, examples, and an area for dropping files.
import { useState } from "preact/hooks";
import { type App, bucketName, href, quoteName, rowsOf, shorten, formatTime } from "./common";

const maxRecent = 8;

export function HomePage({ app }: { app: App }) {
  const [isDragOver, setDragOver] = useState(false);
  const admin = app.session.rights === "admin";
  const all = app.tree?.buckets.flatMap((b) => b.tables.map((t) => ({ ...t, bucket: b.name }))) ?? [];
  const recent = all.sort((a, b) => b.updated.localeCompare(a.updated)).slice(0, maxRecent);
  const [newest] = recent;
  // The name includes its bucket, so that the statement also works after it is copied to another tab.
  const name = newest && (newest.bucket ? `${quoteName(newest.bucket)}.` : "") + quoteName(newest.name);
  const examples: [string, string][] = [
    newest ? [`The first rows of ${shorten(newest.name, 40)}`, `SELECT *\nFROM ${name}\nLIMIT 100`] : ["Numbers and their squares", "SELECT i, i * i AS square\nFROM range(100) t(i)"],
    newest ? [`The row count of ${shorten(newest.name, 40)}`, `SELECT count(*) AS rows\nFROM ${name}`] : ["The days of a month", "SELECT day::DATE AS day, dayname(day) AS name\nFROM range(DATE '2024-02-01', DATE '2024-03-01', INTERVAL 1 DAY) t(day)"],
    ["A curve to draw as a chart", "SELECT i AS x, sin(i / 20.0) AS wave\nFROM range(400) t(i)"],
  ];
  const put = (files?: File[]) => app.dialog("put", { bucket: "", files });
  return (
    <section class="view home" aria-label="home">
      <h1>Tables</h1>
      {all.length > 0 && (
        <>
          <h2>Recently changed</h2>
          <ul class="cards">
            {recent.map((t) => (
              <li key={`${t.bucket}/${t.name}`}>
                <a href={href("table", { bucket: t.bucket, table: t.name })}><bdi>{shorten(t.name)}</bdi></a>
                <small><bdi>{shorten(bucketName(t.bucket))}</bdi> · {t.rows_exact === false ? "at most " : ""}{rowsOf(t.rows)} · {formatTime(t.updated)}</small>
              </li>
            ))}
          </ul>
        </>
      )}
      <h2>Try</h2>
      <ul class="cards">
        {examples.map(([title, q]) => (
          <li key={title}><a href={href("sql", { bucket: newest?.bucket, q })}><bdi>{title}</bdi></a><code>{q.replaceAll("\n", " ")}</code></li>
        ))}
      </ul>
      {admin && (
        <>
          <h2>Add a table</h2>
          <div class={isDragOver ? "drop over" : "drop"} onDragOver={(e) => (e.preventDefault(), setDragOver(true))} onDragLeave={() => setDragOver(false)} onDrop={(e) => {
            e.preventDefault();
            setDragOver(false);
            if (e.dataTransfer?.files.length) put([...e.dataTransfer.files]);
          }}>
            <p>Drop a file here: CSV, Parquet, JSON lines or Arrow.</p>
            <button class="main" onClick={() => put()}>Put a file…</button> <button onClick={() => app.dialog("bucket", { bucket: "" })}>Create a bucket…</button>
          </div>
        </>
      )}
    </section>
  );
}
