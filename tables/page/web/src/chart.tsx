// Charts of a result: what is drawn is chosen from its columns, no code is written.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import type { Rows } from "./rows";
import { cell, instant, isNumber, isTime, number } from "./values";

const kinds = ["line", "bar", "scatter", "histogram"] as const;
type Kind = (typeof kinds)[number];
const mostPoints = 50_000;
const bins = 40;

interface Points {
  x: number[];
  y: (number | null)[];
  labels?: string[];
  time: boolean;
}

function points(rows: Rows, kind: Kind, x: number, y: number): Points {
  const type = rows.fields[x].type;
  const time = isTime(type);
  const named = !time && !isNumber(type);
  const step = Math.max(1, Math.ceil(rows.count / mostPoints));
  const found: { x: number; y: number | null; label: string }[] = [];
  for (let row = 0; row < rows.count; row += step) {
    const at = rows.at(row);
    if (!at) continue;
    const value = named ? found.length : number(at.batch, at.index, x);
    if (value === null) continue;
    const label = named ? cell(at.batch, at.index, x, 24).text : "";
    found.push({ x: time ? value / 1000 : value, y: number(at.batch, at.index, y), label });
  }
  if (kind === "histogram") return histogram(found.map((p) => p.x), time);
  found.sort((a, b) => a.x - b.x);
  return { x: found.map((p) => p.x), y: found.map((p) => p.y), labels: named ? found.map((p) => p.label) : undefined, time };
}

function histogram(values: number[], time: boolean): Points {
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const width = (high - low) / bins || 1;
  const counts = new Array<number>(high > low ? bins : 1).fill(0);
  for (const value of values) counts[Math.min(counts.length - 1, Math.floor((value - low) / width))]++;
  return { x: counts.map((_, i) => low + (i + 0.5) * width), y: counts, time };
}

export function Chart({ rows }: { rows: Rows }) {
  const numbers = rows.fields.map((_, i) => i).filter((i) => isNumber(rows.fields[i].type));
  const times = rows.fields.findIndex((f) => isTime(f.type));
  const [kind, setKind] = useState<Kind>(times < 0 ? "bar" : "line");
  const [x, setX] = useState(Math.max(0, times));
  const [y, setY] = useState(numbers.find((i) => i !== Math.max(0, times)) ?? numbers[0] ?? 0);
  const [scheme, setScheme] = useState(0);
  const host = useRef<HTMLDivElement>(null);
  const drawable = rows.count > 0 && x < rows.fields.length && y < rows.fields.length && numbers.length > 0;

  useEffect(() => {
    const again = () => setScheme((n) => n + 1);
    addEventListener("scheme", again);
    return () => removeEventListener("scheme", again);
  }, []);
  useEffect(() => {
    if (!drawable) return;
    const element = host.current!;
    const colour = (name: string) => {
      element.style.color = `var(${name})`;
      return getComputedStyle(element).color;
    };
    const { x: xs, y: ys, labels, time } = points(rows, kind, x, y);
    const bars = kind === "bar" || kind === "histogram";
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    const size = () => ({ width: Math.max(200, element.clientWidth), height: Math.max(160, element.clientHeight) });
    const plot = new uPlot(
      {
        ...size(),
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        scales: { x: { time, range: bars ? (_, low, high) => padded(xs, low, high) : undefined } },
        axes: [{ ...axis, space: time || labels ? 100 : 50, values: labels ? (_, at) => at.map((i) => labels[i] ?? "") : time ? moments : undefined }, { ...axis, size: 72 }],
        series: [
          { label: rows.fields[x].name, value: labels ? (_, i) => labels[i] ?? "" : time ? "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" : undefined },
          {
            label: kind === "histogram" ? "rows" : rows.fields[y].name,
            stroke: colour("--accent"),
            fill: bars ? colour("--accent") : undefined,
            width: kind === "line" ? 1.5 : 0,
            paths: bars ? uPlot.paths.bars!({ size: [0.85, 80] }) : kind === "scatter" ? () => null : undefined,
            points: { show: kind === "scatter", size: 5, fill: colour("--accent") },
          },
        ],
      },
      [xs, ys],
      element,
    );
    const seen = new ResizeObserver(() => plot.setSize({ width: size().width, height: size().height - 34 }));
    seen.observe(element);
    return () => (seen.disconnect(), plot.destroy());
  }, [rows, rows.count, kind, x, y, scheme, drawable]);

  const choose = (label: string, value: number, set: (n: number) => void, which: number[]) => (
    <label>
      {label}
      <select value={value} onChange={(e) => set(Number(e.currentTarget.value))}>
        {which.map((i) => <option value={i}>{rows.fields[i].name.slice(0, 60)}</option>)}
      </select>
    </label>
  );
  const every = rows.fields.map((_, i) => i);
  const measured = every.filter((i) => isNumber(rows.fields[i].type) || isTime(rows.fields[i].type));
  const said = kind === "histogram" ? `histogram of ${rows.fields[x]?.name}` : `${kind} chart of ${rows.fields[y]?.name} by ${rows.fields[x]?.name}`;
  return (
    <div class="chart">
      <div class="bar">
        <label>
          Chart
          <select
            value={kind}
            onChange={(e) => {
              const next = e.currentTarget.value as Kind;
              setKind(next);
              if (next === "histogram" && !measured.includes(x) && measured.length) setX(measured[0]);
            }}
          >
            {kinds.map((k) => <option>{k}</option>)}
          </select>
        </label>
        {choose(kind === "histogram" ? "Column" : "Across", x, setX, kind === "histogram" ? measured : every)}
        {kind !== "histogram" && choose("Up", y, setY, numbers)}
        {rows.count > mostPoints && <small>{mostPoints.toLocaleString("en")} of {rows.count.toLocaleString("en")} rows are drawn</small>}
      </div>
      {drawable ? <div class="plot" ref={host} role="img" aria-label={said} /> : <p class="empty">A chart needs rows and a column of numbers.</p>}
    </div>
  );
}

// moments are the ends of times that change from one place of the axis to the next.
function moments(_: uPlot, at: number[], __: number, ___: number, step: number): string[] {
  return at.map((seconds) => {
    const text = instant(seconds * 1000);
    const [date, time] = text.split("T");
    if (step >= 86400 * 28) return date.slice(0, -3);
    if (step >= 86400 || seconds % 86400 === 0) return date;
    return time.slice(0, step >= 60 ? 5 : step >= 1 ? 8 : 12);
  });
}

function padded(xs: number[], low: number, high: number): [number, number] {
  const half = xs.length > 1 ? (xs[xs.length - 1] - xs[0]) / (xs.length - 1) / 2 : 0.5;
  return [low - half, high + half];
}
