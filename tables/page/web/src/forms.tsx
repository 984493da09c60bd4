// Forms that change tables. Each form shows the equivalent command.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, post, type Table, type Tree, type TreeTable } from "./api";
import { type App, bucketName, formatCount, type FormArgs, type FormName, href, markInvisible, rowsOf, shorten, useLoaded } from "./common";

interface Input {
  key: string;
  label: string;
  hint?: string;
  choices?: string[];
  list?: boolean; // whether the value is a comma-separated list
}
interface Form {
  title: string;
  button: string;
  bad?: boolean; // whether the form deletes data
  text?: (args: FormArgs) => string;
  inputs: Input[];
  first: (args: FormArgs) => Record<string, string>; // the initial values of the inputs
}

export const modes = ["error", "append", "replace"];
const mode = { key: "mode", label: "If the table exists", choices: modes };
const forms: Record<Exclude<FormName, "put">, Form> = {
  bucket: {
    title: "Create a bucket",
    button: "Create",
    inputs: [{ key: "name", label: "Name" }],
    first: () => ({ name: "" }),
  },
  snapshot: {
    title: "Take a snapshot of the bucket",
    button: "Take the snapshot",
    inputs: [{ key: "name", label: "Name", hint: "if empty, the current time" }],
    first: () => ({ name: "" }),
  },
  delete: {
    title: "Delete the table",
    button: "Delete",
    bad: true,
    text: (args) => `${args.table} and all of its versions will be deleted. Snapshots that contain it keep it.`,
    inputs: [],
    first: () => ({}),
  },
  "delete-snapshot": {
    title: "Delete the snapshot",
    button: "Delete",
    bad: true,
    text: (args) => `${args.snapshot} will be deleted. The tables stay unchanged.`,
    inputs: [],
    first: () => ({}),
  },
  restore: {
    title: "Restore the snapshot",
    button: "Restore",
    bad: true,
    text: (args) => `The tables will have the rows that they had in ${args.snapshot}, and keep their versions. If you name no tables, newer tables will be deleted.`,
    inputs: [{ key: "tables", label: "Tables", hint: "if empty, all", list: true }],
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
      { key: "columns", label: "Columns", hint: "if empty, all suitable ones", list: true },
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

export const shell = (text: string) => (/^[\w.,:/@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
export const split = (text: string) => text.split(",").map((s) => s.trim()).filter(Boolean);

interface DialogProps {
  title: string;
  where?: string;
  button: string;
  bad?: boolean;
  command: string;
  error: string;
  busy: boolean;
  cancels?: boolean; // whether closing the form cancels the request that is running
  submit: () => Promise<void>;
  close: () => void;
  children: ComponentChildren;
}

// Dialog is the common frame of all forms. To prevent accidents, a form that deletes data focuses its
// Close button and ignores Enter in a field.
export function Dialog(props: DialogProps) {
  const box = useRef<HTMLDialogElement>(null);
  const closeButton = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    box.current!.showModal();
    if (props.bad) closeButton.current!.focus();
  }, []);
  return (
    <dialog ref={box} aria-label={props.title} onClose={props.close}>
      <form
        onSubmit={(e) => (e.preventDefault(), void props.submit())}
        onKeyDown={(e) => props.bad && e.key === "Enter" && (e.target as HTMLElement).tagName === "INPUT" && e.preventDefault()}
      >
        <header><h2>{props.title}</h2>{props.where !== undefined && <small>in <bdi>{props.where}</bdi></small>}</header>
        {props.children}
        <figure><figcaption>Equivalent command</figcaption><pre class="command"><code>{props.command.split(" ").map((word, i) => <>{i ? " " : ""}<span>{word}</span></>)}</code></pre></figure>
        <footer>
          {props.error && <p class="error" role="alert">{props.error}</p>}
          <button type="button" ref={closeButton} onClick={() => box.current!.close()}>{props.busy && props.cancels ? "Cancel" : "Close"}</button>
          <button class={props.bad ? "main stop" : "main"} disabled={props.busy}>{props.busy ? "Working…" : props.button}</button>
        </footer>
      </form>
    </dialog>
  );
}

export function FormDialog({ app, name, args, close }: { app: App; name: Exclude<FormName, "put">; args: FormArgs; close: () => void }) {
  const form = forms[name];
  const [values, setValues] = useState(form.first(args));
  const [command, setCommand] = useState(" ");
  const [state, setState] = useState<{ busy?: boolean; error?: string }>({});

  useEffect(() => {
    if (name !== "resample") return;
    get<Table>("table", { bucket: args.bucket, table: args.table }).then(
      (t) => setValues((v) => ({ ...v, time: v.time || t.settings?.time || t.columns.find((c) => /^(timestamp|date)/.test(c.type))?.name || "" })),
      () => undefined,
    );
  }, []);

  function body(): Record<string, unknown> {
    if (name === "bucket") return { action: "change_metadata", bucket: values.name.trim() };
    const lists = Object.fromEntries(form.inputs.map((i) => [i.key, i.list ? split(values[i.key]) : values[i.key]]));
    const fixed = name === "delete" ? { tables: [args.table] } : args.snapshot ? { name: args.snapshot } : {};
    return { action: name, bucket: args.bucket, ...lists, ...fixed };
  }
  useEffect(() => {
    const timer = setTimeout(() => {
      post<{ command: string }>("action?dry=1", body()).then((reply) => setCommand(reply.command), (err: Error) => setCommand(`# ${err.message}`));
    }, 150);
    return () => clearTimeout(timer);
  }, [values]);

  async function submit() {
    const bucket = name === "bucket" ? values.name.trim() : args.bucket;
    if (name === "bucket" && (!bucket || app.tree?.buckets.some((b) => bucketName(b.name) === bucket))) {
      return setState({ error: bucket ? "a bucket with this name exists" : "enter a name" });
    }
    setState({ busy: true });
    try {
      await post("action", body());
      if (values.target) location.hash = href("table", { bucket, table: values.target });
      else if (name !== "snapshot") location.hash = href("bucket", { bucket });
      app.reload();
      close();
    } catch (err) {
      setState({ error: (err as Error).message });
    }
  }
  return (
    <Dialog title={form.title} where={name === "bucket" ? undefined : shorten(bucketName(args.bucket))} button={form.button} bad={form.bad} command={command} error={state.error ?? ""} busy={!!state.busy} submit={submit} close={close}>
      {form.text && <p><bdi>{markInvisible(form.text(args).slice(0, 400))}</bdi></p>}
      {name === "restore" && <Plan args={args} names={split(values.tables)} />}
      {form.inputs.map((input) => (
        <label key={input.key}>
          <span>{input.label}</span>
          {input.choices ? (
            <select value={values[input.key]} onChange={(e) => setValues({ ...values, [input.key]: e.currentTarget.value })}>{input.choices.map((c) => <option>{c}</option>)}</select>
          ) : (
            <input value={values[input.key]} placeholder={input.hint} onInput={(e) => setValues({ ...values, [input.key]: e.currentTarget.value })} />
          )}
        </label>
      ))}
    </Dialog>
  );
}

// Plan lists the tables that a restore will create, change and delete.
function Plan({ args, names }: { args: FormArgs; names: string[] }) {
  const list = (snapshot?: string) => async (signal: AbortSignal) => (await get<Tree>("tree", { bucket: args.bucket || null, snapshot, limit: 10000 }, signal)).buckets[0]?.tables ?? [];
  const then = useLoaded("then", list(args.snapshot));
  const now = useLoaded("now", list());
  const error = then.error ?? now.error;
  if (error) return <p class="error" role="alert">{error.message}</p>;
  if (!then.value || !now.value) return <p class="faint">Comparing…</p>;
  const before = new Map(then.value.map((t) => [t.name, t]));
  const current = new Map(now.value.map((t) => [t.name, t]));
  const chosen = (name: string) => !names.length || names.includes(name);
  const created = then.value.filter((t) => !current.has(t.name) && chosen(t.name));
  const differs = (a: TreeTable, b: TreeTable) => a.version !== b.version || a.rows !== b.rows || a.updated !== b.updated;
  const changed = then.value.filter((t) => current.has(t.name) && differs(current.get(t.name)!, t) && chosen(t.name));
  const deleted = names.length ? [] : now.value.filter((t) => !before.has(t.name));
  const part = (label: string, tables: TreeTable[], rows: (t: TreeTable) => string, bad = false) =>
    tables.length > 0 && (
      <li class={bad ? "bad" : ""}>
        <b>{label}</b> {tables.slice(0, 20).map((t, i) => <>{i ? ", " : ""}<bdi>{shorten(t.name, 60)}</bdi> ({rows(t)})</>)}{tables.length > 20 && ` and ${formatCount(tables.length - 20)} more`}
      </li>
    );
  return (
    <ul class="plan" aria-label="changes by the restore">
      {part("Created:", created, (t) => rowsOf(t.rows))}
      {part("Changed:", changed, (t) => `${formatCount(current.get(t.name)!.rows)} → ${rowsOf(t.rows)}`)}
      {part("Deleted:", deleted, (t) => rowsOf(t.rows), true)}
      {!created.length && !changed.length && !deleted.length && <li>No table changes.</li>}
    </ul>
  );
}
