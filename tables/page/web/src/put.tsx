// The form that puts a file into a table, in an existing or a new bucket.
import { useEffect, useRef, useState } from "preact/hooks";
import { address, ApiError, get, post, put, type Table } from "./api";
import { type App, bucketName, formatCount, csvField, type FormArgs, href, shorten, formatBytes } from "./common";
import { readBeginning, type Beginning, encodings, isCompressed, toPlainText, plainName, separators } from "./files";
import { Dialog, modes, shell, split } from "./forms";

const formats = ["csv", "tsv", "parquet", "jsonl", "arrow"];
const otherEndings: Record<string, string> = { tab: "tsv", json: "jsonl", ndjson: "jsonl", pq: "parquet", feather: "arrow" };

export function PutDialog({ app, args, close }: { app: App; args: FormArgs; close: () => void }) {
  const [[file, ...rest], setFiles] = useState(args.files ?? []);
  const [values, setValues] = useState({ bucket: args.bucket, table: args.table ?? "", mode: "error", format: "csv", encoding: "", sep: "", time: "", keys: "" });
  const [detected, setDetected] = useState<Beginning>();
  const [command, setCommand] = useState(" ");
  const [sentFraction, setSentFraction] = useState<number>();
  const [error, setError] = useState("");
  const stop = useRef(new AbortController());
  const id = useRef(crypto.randomUUID());
  const proposedName = useRef(""); // the table name proposed for the last file
  const set = (part: Partial<typeof values>) => setValues((v) => ({ ...v, ...part }));
  const { table, mode, format } = values;
  const text = format === "csv" || format === "tsv" || format === "jsonl";
  const previewColumns = Math.min(50, Math.max(0, ...(detected?.rows.map((row) => row.length) ?? [])));
  const columns = format === "csv" || format === "tsv" ? (detected?.rows[0] ?? []) : [];
  const encoding = values.encoding || detected?.encoding || "utf-8";
  const sep = values.sep || detected?.sep || ",";
  const buckets = app.tree?.buckets.map((b) => b.name).filter(Boolean) ?? [];
  const bucket = values.bucket === bucketName("") && !buckets.includes(values.bucket) ? "" : values.bucket;
  const params = { bucket, table, mode, format, sep: format === "csv" && sep !== "," ? sep : "", time: values.time, keys: split(values.keys).map(csvField).join(",") };

  useEffect(() => () => stop.current.abort(), []);
  useEffect(() => {
    if (!file) return;
    id.current = crypto.randomUUID(); // the server applies only one put with an id, so another file needs another id
    const [, stem, ending] = /^(.*?)(?:\.(csv|tsv|tab|parquet|pq|jsonl|ndjson|json|arrow|feather))?$/is.exec(plainName(file))!;
    const oldName = proposedName.current;
    proposedName.current = stem;
    setValues((v) => ({ ...v, table: !v.table || v.table === oldName ? stem : v.table, format: ending ? (otherEndings[ending.toLowerCase()] ?? ending.toLowerCase()) : v.format, encoding: "", sep: "" }));
    setError("");
  }, [file]);
  useEffect(() => {
    let stale = false;
    setDetected(undefined);
    if (file) readBeginning(file, format, values.encoding, values.sep).then((b) => stale || setDetected(b), (err: Error) => stale || setError(`${file.name}: ${err.message}`));
    return () => void (stale = true);
  }, [file, format, values.encoding, values.sep]);
  // The shell commands that convert the file before partd-tables reads it.
  const conversions = file && [isCompressed(file) && "gzip -dc", text && encoding !== "utf-8" && `iconv -f ${encoding.toUpperCase()} -t UTF-8`].filter(Boolean) as string[] | undefined;
  useEffect(() => {
    const timer = setTimeout(() => {
      const name = file?.name ?? "FILE";
      post<{ command: string }>(address("put", { ...params, table: table || "TABLE", dry: 1, file: conversions?.length ? "-" : name }).slice(4), {}).then(
        (reply) => setCommand([...(conversions ?? []).map((step, i) => (i ? step : `${step} ${shell(name)}`)), reply.command].join(" | ")),
        (err: Error) => setCommand(`# ${err.message}`),
      );
    }, 150);
    return () => clearTimeout(timer);
  }, [JSON.stringify(params), file, conversions?.join()]);
  // The settings of an existing table are the defaults for its time and key columns.
  useEffect(() => {
    if (mode === "error" || !table) return;
    get<Table>("table", { bucket, table }).then((t) => setValues((v) => ({ ...v, time: v.time || t.settings?.time || "", keys: v.keys || (t.settings?.keys ?? []).join(", ") })), () => undefined);
  }, [mode]);

  async function submit() {
    if (!file) return setError("choose a file first");
    setError("");
    setSentFraction(0);
    try {
      await put({ ...params, id: id.current, file: file.name }, await toPlainText(file, text ? encoding : "utf-8"), stop.current.signal, setSentFraction);
      app.reload();
      if (rest.length) {
        if (mode !== "append") proposedName.current = table; // the next file must not replace this table
        setFiles(rest);
        return setSentFraction(undefined);
      }
      location.hash = href("table", { bucket, table });
      close();
    } catch (err) {
      const exists = err instanceof ApiError && err.status === 409 && mode === "error";
      setError(exists ? "The table already exists: choose append or replace above, or another name." : (err as Error).message);
      setSentFraction(undefined);
    }
  }
  const field = (label: string, key: keyof typeof values, more: object = {}) => (
    <label><span>{label}</span><input value={values[key]} onInput={(e) => set({ [key]: e.currentTarget.value })} {...more} /></label>
  );
  const choice = (label: string, key: keyof typeof values, of: Record<string, string>, value = values[key]) => (
    <label><span>{label}</span><select value={value} onChange={(e) => set({ [key]: e.currentTarget.value })}>{Object.entries(of).map(([v, name]) => <option value={v}>{name}</option>)}</select></label>
  );
  const sameLabels = (all: string[]) => Object.fromEntries(all.map((v) => [v, v]));
  return (
    <Dialog title="Put a file" button="Put" command={command} error={error} busy={sentFraction !== undefined} cancels submit={submit} close={close}>
      <label>
        <span>File</span>
        <span class="file">
          <input type="file" multiple accept=".csv,.tsv,.tab,.parquet,.pq,.jsonl,.ndjson,.json,.arrow,.feather,.gz" onChange={(e) => e.currentTarget.files?.length && setFiles([...e.currentTarget.files])} />
          {file && <small><bdi>{shorten(file.name)}</bdi> · {formatBytes(file.size)}{rest.length > 0 && `, then ${formatCount(rest.length)} more`}</small>}
        </span>
      </label>
      {field("Bucket", "bucket", { list: "buckets", placeholder: `${bucketName("")}; a new name creates a bucket` })}
      <datalist id="buckets">{buckets.map((b) => <option value={b} />)}</datalist>
      {field("Table", "table", { required: true })}
      {choice("If the table exists", "mode", sameLabels(modes))}
      {choice("Format", "format", sameLabels(formats))}
      {text && choice("Encoding", "encoding", encodings, encoding)}
      {format === "csv" && choice("Delimiter", "sep", separators, sep)}
      {columns.length ? choice("Time column", "time", { "": "none", ...sameLabels(columns) }) : field("Time column", "time", { placeholder: "none" })}
      {field("Key columns", "keys", { placeholder: "none" })}
      {!!detected?.rows.length && (
        <div class="preview" tabIndex={0} role="region" aria-label="preview">
          <table>
            {detected.rows.map((row, i) => <tr>{Array.from({ length: previewColumns }, (_, k) => row[k] ?? "").map((c) => (i || format === "jsonl" ? <td><bdi>{shorten(c, 60)}</bdi></td> : <th scope="col"><bdi>{shorten(c, 60)}</bdi></th>))}</tr>)}
          </table>
        </div>
      )}
      {sentFraction !== undefined && <label><span>{sentFraction < 1 ? `${Math.floor(sentFraction * 100)} % sent` : "The server is storing it"}</span><progress value={sentFraction < 1 ? sentFraction : undefined} /></label>}
    </Dialog>
  );
}
