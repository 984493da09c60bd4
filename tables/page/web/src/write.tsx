// Runs statements that write, after the user has confirmed them.
import { useEffect, useRef, useState } from "preact/hooks";
import { post, type Written } from "./api";
import { bucketName, rowsOf, shorten } from "./common";
import { Dialog } from "./forms";
import type { Statement } from "./rows";

// summarize describes what a statement has done.
export const summarize = (w: Written) => `${w.verb}: ${rowsOf(w.rows)} changed`;

// WriteDialog says how many rows a statement changes and runs it on request. It calls close with the result, with an
// error if the statement is wrong or its outcome is unknown, or without an argument if the user closes the dialog
// before that.
export function WriteDialog({ statement, close }: { statement: Statement; close: (outcome?: Written | Error) => void }) {
  const [dryRun, setDryRun] = useState<{ result: Written; command: string }>();
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const isDone = useRef(false);
  const isSent = useRef(false);
  const id = useRef(crypto.randomUUID()); // a second click, after a lost answer, changes nothing
  const exec = (more: object, signal?: AbortSignal) => post<{ result: Written; command: string }>("action", { action: "exec", sql: statement.sql, bucket: statement.bucket, ...more }, signal);
  function end(outcome?: Written | Error) {
    if (!isDone.current) close(outcome);
    isDone.current = true;
  }

  useEffect(() => {
    const closed = new AbortController(); // stops the dry run
    exec({ dry_run: true }, closed.signal).then(setDryRun, (err: Error) => closed.signal.aborted || end(err));
    return () => closed.abort();
  }, []);
  async function submit() {
    setBusy(true);
    setError("");
    isSent.current = true;
    await exec({ id: id.current }).then((reply) => end(reply.result), (err: Error) => setError(err.message));
    setBusy(false);
  }
  const change = dryRun && (
    <>
      <b>{dryRun.result.verb}</b> changes {rowsOf(dryRun.result.rows)}
      {dryRun.result.table && <> of <bdi>{shorten(dryRun.result.table, 60)}</bdi></>} in {shorten(bucketName(dryRun.result.bucket), 60)}
      {dryRun.result.replaced ? `, and removes the ${rowsOf(dryRun.result.replaced)} that the table has` : ""}.
    </>
  );
  return (
    <Dialog title="Run a statement that writes" button="Run it" bad command={dryRun?.command ?? " "} error={error} busy={busy || !dryRun} cancels={!dryRun} submit={submit} close={() => end(isSent.current ? new Error(error || "The statement may have changed the table: the dialog was closed before the server answered. Look at the table's versions.") : undefined)}>
      <p>{change ?? "Counting the rows…"}</p>
    </Dialog>
  );
}
