// Forms for what changes something. Each shows the command that does the same.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, post, put, type Table } from "./api";
import { type App, bucketName, count, type FormArgs, type FormName, href } from "./common";

interface Input {
  key: string;
  label: string;
  hint?: string;
  choices?: string[];
  list?: boolean;
  file?: boolean;
}
interface Form {
  title: string;
  button: string;
  bad?: boolean;
  text?: (args: FormArgs) => string;
  inputs: Input[];
  first: (args: FormArgs) => Record<string, string>;
}

const modes = ["error", "append", "replace"];
const mode = { key: "mode", label: "If the table is there", choices: modes };
const forms: Record<FormName, Form> = {
  put: {
    title: "Put a file",
    button: "Put",
    inputs: [
      { key: "file", label: "File", file: true },
      { key: "table", label: "Table" },
      mode,
      { key: "format", label: "Format", choices: ["csv", "parquet", "jsonl", "arrow"] },
    ],
    first: (args) => ({ table: args.table ?? "", mode: "error", format: "csv" }),
  },
  snapshot: {
    title: "Snapshot of the bucket",
    button: "Make the snapshot",
    inputs: [{ key: "name", label: "Name", hint: "the time, if empty" }],
    first: () => ({ name: "" }),
  },
  delete: {
    title: "Delete the table",
    button: "Delete",
    bad: true,
    text: (args) => `${args.table} and all of its versions go. Snapshots that have it keep it.`,
    inputs: [],
    first: () => ({}),
  },
  "delete-snapshot": {
    title: "Delete the snapshot",
    button: "Delete",
    bad: true,
    text: (args) => `${args.snapshot} goes. The tables stay as they are.`,
    inputs: [],
    first: () => ({}),
  },
  restore: {
    title: "Restore the snapshot",
    button: "Restore",
    bad: true,
    text: (args) => `Tables get the rows they had in ${args.snapshot}. Without names, tables made since are deleted.`,
    inputs: [{ key: "tables", label: "Tables", hint: "all, if empty", list: true }],
    first: () => ({ tables: "" }),
  },
  resample: {
    title: "Resample",
    button: "Resample",
    inputs: [
      { key: "source", label: "Source" },
      { key: "target", label: "Target" },
      { key: "rule", label: "Rule", hint: "10s, 5min, D, W, ME" },
      { key: "time", label: "Time column" },
      { key: "functions", label: "Functions", hint: "mean, max, size", list: true },
      { key: "columns", label: "Columns", hint: "all that fit, if empty", list: true },
      mode,
    ],
    first: (args) => ({ source: args.table ?? "", target: "", rule: "1h", time: "", functions: "mean", columns: "", mode: "error" }),
  },
  combine: {
    title: "Combine tables",
    button: "Combine",
    inputs: [
      { key: "sources", label: "Sources", hint: "trades, more", list: true },
      { key: "target", label: "Target" },
      { key: "how", label: "How", choices: ["union", "join"] },
      { key: "on", label: "Join on", hint: "columns of a join", list: true },
      mode,
    ],
    first: (args) => ({ sources: args.table ?? "", target: "", how: "union", on: "", mode: "error" }),
  },
};

const shell = (text: string) => (/^[\w.,:/@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const split = (text: string) => text.split(",").map((s) => s.trim()).filter(Boolean);

export function FormDialog({ app, name, args, close }: { app: App; name: FormName; args: FormArgs; close: () => void }) {
  const form = forms[name];
  const box = useRef<HTMLDialogElement>(null);
  const [values, setValues] = useState(form.first(args));
  const [file, setFile] = useState<File>();
  const [command, setCommand] = useState(" ");
  const [state, setState] = useState<{ busy?: boolean; error?: string }>({});
  const stop = useRef(new AbortController());
  const putId = useRef(crypto.randomUUID());

  useEffect(() => {
    box.current!.showModal();
    if (args.file) take(args.file);
    if (name === "resample") {
      get<Table>("table", { bucket: args.bucket, table: args.table }).then(
        (t) => setValues((v) => ({ ...v, time: v.time || t.settings?.time || t.columns.find((c) => /^(timestamp|date)/.test(c.type))?.name || "" })),
        () => undefined,
      );
    }
    return () => stop.current.abort();
  }, []);

  function take(chosen: File) {
    setFile(chosen);
    const [, stem, ending] = /^(.*?)(?:\.(csv|parquet|jsonl|arrow))?$/is.exec(chosen.name)!;
    setValues((v) => ({ ...v, table: v.table || stem, format: ending?.toLowerCase() ?? v.format }));
  }
  function body(): Record<string, unknown> {
    const lists = Object.fromEntries(form.inputs.map((i) => [i.key, i.list ? split(values[i.key]) : values[i.key]]));
    const fixed = name === "delete" ? { tables: [args.table] } : args.snapshot && name !== "put" ? { name: args.snapshot } : {};
    return { action: name, bucket: args.bucket, ...lists, ...fixed };
  }
  useEffect(() => {
    if (name === "put") {
      const bucket = args.bucket ? ` --bucket ${shell(args.bucket)}` : "";
      setCommand(`partd-tables put ${shell(values.table || "TABLE")} ${shell(file?.name ?? "FILE")} --mode ${values.mode} --format ${values.format}${bucket}`);
      return;
    }
    const later = setTimeout(() => {
      post<{ command: string }>("action?dry=1", body()).then((said) => setCommand(said.command), (err: Error) => setCommand(`# ${err.message}`));
    }, 150);
    return () => clearTimeout(later);
  }, [values, file]);

  async function submit(event: Event) {
    event.preventDefault();
    if (name === "put" && !file) return setState({ error: "choose a file first" });
    setState({ busy: true });
    try {
      if (name === "put") {
        const { table, mode, format } = values;
        await put({ bucket: args.bucket, table, mode, format, id: putId.current }, file!, stop.current.signal);
      } else {
        await post("action", body());
      }
      const made = values.target || (name === "put" && values.table);
      if (made) location.hash = href("table", { bucket: args.bucket, table: made });
      else if (name !== "snapshot") location.hash = href("bucket", { bucket: args.bucket });
      app.reload();
      close();
    } catch (err) {
      setState({ error: (err as Error).message });
    }
  }
  return (
    <dialog ref={box} aria-label={form.title} onClose={close}>
      <form onSubmit={submit}>
        <header><h2>{form.title}</h2><small>in <bdi>{bucketName(args.bucket)}</bdi></small></header>
        {form.text && <p><bdi>{form.text(args).slice(0, 400)}</bdi></p>}
        {form.inputs.map((input) => (
          <label key={input.key}>
            <span>{input.label}</span>
            {input.file ? (
              <span class="file">
                <input type="file" accept=".csv,.parquet,.jsonl,.arrow" onChange={(e) => e.currentTarget.files?.[0] && take(e.currentTarget.files[0])} />
                {file && <small><bdi>{file.name}</bdi> · {count(file.size)} bytes</small>}
              </span>
            ) : input.choices ? (
              <select value={values[input.key]} onChange={(e) => setValues({ ...values, [input.key]: e.currentTarget.value })}>{input.choices.map((c) => <option>{c}</option>)}</select>
            ) : (
              <input value={values[input.key]} placeholder={input.hint} onInput={(e) => setValues({ ...values, [input.key]: e.currentTarget.value })} />
            )}
          </label>
        ))}
        <figure><figcaption>The same as a command</figcaption><pre class="command"><code>{command}</code></pre></figure>
        {state.error && <p class="error" role="alert">{state.error}</p>}
        <footer>
          <button type="button" onClick={() => box.current!.close()}>{state.busy && name === "put" ? "Cancel" : "Close"}</button>
          <button class={form.bad ? "main stop" : "main"} disabled={state.busy}>{state.busy ? "Working…" : form.button}</button>
        </footer>
      </form>
    </dialog>
  );
}
