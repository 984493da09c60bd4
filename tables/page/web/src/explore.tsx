// Shows the rows of a table or a result as a grid or a chart, with a filter.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";
import { Grid } from "./grid";
import type { Rows, Statement } from "./rows";
import { type Change, indexOfPosition, type Look, toggleSort } from "./state";

type Set = (change: Change) => void;

export const notApplied = "The filter was not applied.";

export function Filter({ value, error, set }: { value: string; error?: Error; set: Set }) {
  const input = useRef<HTMLInputElement>(null);
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  // words returns the words before and after the place where the parser failed. They may be a column name with a space.
  const words = (at: number) => (at > 0 && /syntax error/i.test(error!.message) ? [/[A-Za-z_]\w* +$/.exec(value.slice(0, at)), /^[A-Za-z_]\w*/.exec(value.slice(at))] : []);
  const at = error instanceof ApiError && error.line ? indexOfPosition(value, error.line, error.column ?? 1) : -1;
  useEffect(() => {
    if (at < 0 || input.current!.value.trim() !== value) return;
    const lead = input.current!.value.indexOf(value);
    const word = /^(\w+|.)?/su.exec(value.slice(at))![0].length;
    input.current!.focus();
    input.current!.setSelectionRange(lead + at, lead + at + word);
  }, [error]);
  return (
    <form class="filter" onSubmit={(e) => (e.preventDefault(), set({ filter: typed.trim() }))}>
      <input ref={input} class="grow mono" type="search" aria-label="Filter: an SQL condition" aria-invalid={!!error} aria-errormessage={error && "filter-error"} placeholder="Filter: price > 100 AND sym = 'A'" value={typed} onInput={(e) => setTyped(e.currentTarget.value)} />
      <button>Filter</button>
      {error && <p class="error" role="alert" id="filter-error">{at >= 0 && <b>At <code>{value.slice(at, at + 40) || "the end"}</code>: </b>}{error.message}{words(at).length && words(at).every(Boolean) ? ` (write a column name with spaces in double quotes: "${words(at).join("")}")` : ""}</p>}
    </form>
  );
}

export function Switch({ look, set }: { look: Look; set: Set }) {
  return (
    <span class="joined" role="group" aria-label="show as">
      <button type="button" aria-pressed={!look.chart} onClick={() => set({ chart: null })}>Grid</button>
      <button type="button" aria-pressed={!!look.chart} onClick={() => set({ chart: look.chart ?? { kind: "line", x: "", y: [], by: "" }, profile: null })}>Chart</button>
    </span>
  );
}

// The code for charts is loaded when the first chart is drawn.
type ChartModule = typeof import("./chart");
function LazyChart(props: { rows: Rows; source: Statement; look: Look; set: Set }) {
  const [loaded, setLoaded] = useState<ChartModule | string>("");
  useEffect(() => void import("./chart").then(setLoaded, () => setLoaded("The code for charts could not be loaded: reload the page.")), []);
  return typeof loaded === "string" ? <p class="empty">{loaded || "Loading…"}</p> : <loaded.Chart {...props} />;
}

interface Props {
  rows: Rows;
  label: string;
  busy: boolean;
  source: Statement;
  alone?: boolean; // whether the result cannot be filtered, sorted or drawn
  look: Look;
  set: Set;
  say: (text: string) => void;
  profile: (column: string) => ComponentChildren;
  children?: ComponentChildren;
}

export function Explore({ rows, label, busy, source, alone, look, set, say, profile, children }: Props) {
  return (
    <div class="split">
      <div class="fill">
        {look.chart && !alone ? (
          <LazyChart rows={rows} source={source} look={look} set={set} />
        ) : (
          <Grid
            rows={rows}
            label={label}
            busy={busy}
            say={say}
            sort={look.sort}
            onSort={alone ? undefined : (column) => set((now) => ({ sort: toggleSort(now.sort, column) }))}
            onColumn={alone ? undefined : (column) => set((now) => ({ profile: column === now.profile ? null : column }))}
          />
        )}
        {children}
      </div>
      {look.profile !== null && !alone && rows.fields.some((f) => f.name === look.profile) && profile(look.profile)}
    </div>
  );
}
