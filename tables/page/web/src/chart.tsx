// Draws charts. The server reduces any number of rows to the points that are drawn: for a line chart with more rows than
// pixels, the minimum and the maximum of each pixel; for a scatter chart, one point for each area of the size of a dot.
import { barY, dot, lineY, plot, rectY, ruleY } from "@observablehq/plot";
import { useEffect, useRef, useState } from "preact/hooks";
import { query } from "./api";
import { Clock } from "./clock";
import { formatCount, quoteName } from "./common";
import { type Rows, narrow, stateOf, type Statement } from "./rows";
import { type Change, type ChartArgs, kinds, type Look } from "./state";
import { isNumber, isTime } from "./values";

const maxSeries = 10;
const maxBars = 60;
const maxDots = 20_000;
const bins = 40;
const dotSize = 3;

interface Point {
  s: string;
  x: number | Date | string;
  x2?: number | Date;
  y: number;
}
interface ChartData {
  chart: ChartArgs;
  points: Point[];
  // How many rows, series and bars the source has. The chart may show fewer.
  rows: number;
  series: number;
  bars: number;
  repeats: boolean; // whether several rows of a line chart have the same x (an estimate, if not all rows are drawn)
}

const quoteText = (value: string) => `'${value.replaceAll("'", "''")}'`;

// samplingQuery returns the statement that computes the points to draw from the rows of sql. time is set if x is a column
// of times. width and height are the chart's size in pixels.
function samplingQuery(sql: string, { kind, x, y, by }: ChartArgs, time: boolean, xIsCategory: boolean, width: number, height: number): string {
  const xExpression = xIsCategory ? "0.0::DOUBLE" : time ? `CASE WHEN isfinite(${quoteName(x)}) THEN epoch_us(${quoteName(x)}::TIMESTAMP) / 1000.0::DOUBLE END` : `${quoteName(x)}::DOUBLE`;
  const group = by ? `coalesce(${quoteName(by)}::VARCHAR, 'null')` : "";
  const values = (kind === "histogram" ? [""] : y).map((name) => {
    const label = group && y.length > 1 && name ? `${group} || ${quoteText(` · ${name}`)}` : group || quoteText(name);
    return `{'s': left(${label}, 60), 'y': ${name ? `${quoteName(name)}::DOUBLE` : "1::DOUBLE"}}`;
  });
  // In prefix, the condition abs(x) <= 8.64e15 keeps times within the range of JavaScript's Date.
  const label = kind === "bar" ? `coalesce(left(${quoteName(x)}::VARCHAR, 60), 'null') AS label, ` : "";
  const prefix = `WITH d AS (SELECT ${xExpression} AS x, ${label}unnest([${values.join(", ")}], recursive := true) FROM (\n${sql}\n)),
c AS MATERIALIZED (SELECT * FROM d WHERE isfinite(x) AND isfinite(y)${time ? " AND abs(x) <= 8.64e15" : ""}),
r AS (SELECT min(x) AS lo, max(x) AS hi, min(y) AS low, max(y) AS high, count(*) // ${values.length} AS n FROM c),
g AS MATERIALIZED (SELECT s, count(*) AS many FROM c GROUP BY s),
top AS (SELECT s FROM g ORDER BY many DESC, s LIMIT ${maxSeries}),
p AS (SELECT c.* FROM c WHERE s IN (FROM top))`;
  const pixel = (value: string, low: string, high: string, steps: number) => `least(floor((${value} - ${low}) / nullif(${high} - ${low}, 0) * ${steps}), ${steps - 1})`;
  const facts = "(SELECT n FROM r) AS n, (SELECT count(*) FROM g) AS series";
  switch (kind) {
    case "line":
      return `${prefix}, e AS (SELECT s, ${pixel("x", "lo", "hi", width)} AS b, arg_min(x, y) AS x1, min(y) AS y1, arg_max(x, y) AS x2, max(y) AS y2 FROM p, r WHERE n > ${width} GROUP BY ALL),
l AS (SELECT DISTINCT s, unnest([x1, x2]) AS x, unnest([y1, y2]) AS y FROM e UNION ALL SELECT s, x, y FROM p, r WHERE n <= ${width})
SELECT *, ${facts},
coalesce((SELECT approx_count_distinct(x) < 0.75 * min(n) FROM c, r WHERE n > ${width}), (SELECT count(DISTINCT x) < min(n) FROM c, r WHERE n <= ${width})) AS repeats FROM l ORDER BY x`;
    case "scatter":
      return `${prefix} SELECT s, any_value(x) AS x, any_value(y) AS y, ${facts} FROM p, r
GROUP BY s, ${pixel("x", "lo", "hi", Math.ceil(width / dotSize))}, ${pixel("y", "low", "high", Math.ceil(height / dotSize))} LIMIT ${maxDots}`;
    case "bar":
      return `${prefix}, b AS MATERIALIZED (SELECT label, ${xIsCategory ? "-sum(y)" : "min(x)"} AS rank FROM p GROUP BY label), l AS (FROM b ORDER BY rank, label LIMIT ${maxBars})
SELECT s, label, sum(y) AS y, ${facts}, (SELECT count(*) FROM b) AS bars FROM p JOIN l USING (label) GROUP BY s, label, rank ORDER BY rank, label`;
    case "histogram":
      return `${prefix}, h AS (SELECT s, coalesce(${pixel("x", "lo", "hi", bins)}, 0) AS b, count(*) AS y FROM p, r GROUP BY ALL), w AS (SELECT coalesce(nullif(hi - lo, 0) / ${bins}, 1) AS wide FROM r)
SELECT s, lo + b * wide AS x, lo + (b + 1) * wide AS x2, y, ${facts} FROM h, r, w`;
  }
}

async function computePoints(source: Statement, chart: ChartArgs, sql: string, time: boolean, signal: AbortSignal): Promise<ChartData> {
  const response = await query({ id: crypto.randomUUID(), sql, bucket: source.bucket, ...stateOf(source.at) }, signal);
  const drawn: ChartData = { chart, points: [], rows: 0, series: 0, bars: 0, repeats: false };
  const toX = (value: unknown) => (time ? new Date(Number(value)) : Number(value));
  for await (const batch of response.batches) {
    for (const row of batch) {
      const { s, label, x, x2, y, n, series, bars, repeats } = row as unknown as Record<string, unknown>;
      drawn.points.push({ s: String(s), x: label === undefined ? toX(x) : String(label), x2: x2 === undefined ? undefined : toX(x2), y: Number(y) });
      Object.assign(drawn, { rows: Number(n), series: Number(series), bars: Number(bars ?? 0), repeats: repeats === true });
    }
  }
  return drawn;
}

function drawPlot({ points, chart: { kind, x, y, by } }: ChartData, width: number, height: number, accent: string): SVGSVGElement {
  const names = [...new Set(points.map((p) => p.s))].sort();
  const colour = names.length > 1 ? "s" : accent;
  const labels = kind === "bar" ? [...new Set(points.map((p) => String(p.x)))] : [];
  const labelRoom = (width - 90) / labels.length; // in pixels
  const slanted = labels.length > 12 || Math.max(0, ...labels.map((label) => Math.min(label.length, 18))) * 7 + 6 > labelRoom;
  const everyLabel = Math.ceil(14 / labelRoom); // 1 if each bar has a label, 2 if every second bar has one, and so on
  const title = kind === "histogram" ? "rows" : `${kind === "bar" ? "sum of " : ""}${y.join(", ")}`;
  const common = { x: "x", y: "y", tip: true };
  const marks = {
    line: () => lineY(points, { ...common, stroke: colour, z: "s", marker: points.length <= 60 ? "dot" : undefined }),
    scatter: () => dot(points, { ...common, r: dotSize / 2 + 0.5, fill: colour, stroke: "none" }),
    bar: () => barY(points, { ...common, fill: colour }),
    histogram: () => rectY(points, { ...common, x: undefined, x1: "x", x2: "x2", fill: colour, insetLeft: 1 }),
  };
  const legend = names.length > 1 ? placeLegend(names, width) : [];
  const svg = plot({
    width,
    height,
    marginTop: (legend.at(-1)?.top ?? 12) + 14,
    marginLeft: 70,
    marginBottom: slanted ? 110 : 42,
    style: { background: "transparent", fontSize: "11px", overflow: "visible" },
    color: { domain: names, scheme: "observable10", label: by || "value" },
    x: { label: x, ...(kind === "bar" && { type: "band", domain: labels, ticks: labels.filter((_, i) => i % everyLabel === 0), tickRotate: slanted ? -45 : 0, tickFormat: (t: string) => (t.length > 18 ? `${t.slice(0, 17)}…` : t) }) },
    y: { label: title, grid: true },
    marks: [kind === "bar" || kind === "histogram" ? ruleY([0]) : null, marks[kind]()],
  }) as SVGSVGElement;
  // The page does not need Plot's style sheet, and the page's Content-Security-Policy would block it.
  for (const style of svg.querySelectorAll("style")) style.remove();
  svg.setAttribute("aria-hidden", "true"); // the parent element has a label
  const scale = (svg as unknown as { scale: (name: string) => { apply: (name: string) => string } | undefined }).scale("color");
  for (const { name, left, top } of legend) {
    svg.append(shape("rect", { x: left, y: top - 9, width: 10, height: 10, rx: 2, fill: scale?.apply(name) ?? accent }), shape("text", { x: left + 15, y: top, "text-anchor": "start" }, name));
  }
  return svg;
}

// placeLegend returns the positions of the legend's entries, in lines of at most width pixels, below the title of the y
// axis, which Plot writes at the top.
function placeLegend(names: string[], width: number): { name: string; left: number; top: number }[] {
  let [left, top] = [70, 32];
  return names.map((name) => {
    const entryWidth = name.length * 7 + 28;
    if (left + entryWidth > width && left > 70) [left, top] = [70, top + 18];
    left += entryWidth;
    return { name, left: left - entryWidth, top };
  });
}

function shape(name: string, attributes: Record<string, string | number>, content = ""): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.textContent = content;
  return element;
}

async function save(svg: SVGSVGElement, kind: "svg" | "png", name: string) {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  copy.style.color = getComputedStyle(svg).color;
  copy.removeAttribute("aria-hidden");
  copy.style.background = getComputedStyle(document.body).backgroundColor;
  const source = new XMLSerializer().serializeToString(copy);
  let file = new Blob([source], { type: "image/svg+xml" });
  if (kind === "png") {
    const image = new Image();
    image.src = `data:image/svg+xml,${encodeURIComponent(source)}`;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [2 * svg.clientWidth, 2 * svg.clientHeight];
    canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
    file = await new Promise((done) => canvas.toBlob((blob) => done(blob!), "image/png"));
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = `${name.replace(/[^\w-]+/g, "_").slice(0, 60) || "chart"}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function Chart({ rows, source, look, set }: { rows: Rows; source: Statement; look: Look; set: (change: Change) => void }) {
  const columns = rows.fields.map((f) => f.name);
  const numbers = rows.fields.filter((f) => isNumber(f.type)).map((f) => f.name);
  const times = rows.fields.filter((f) => isTime(f.type)).map((f) => f.name);
  const requested = look.chart!;
  const kind = requested.x === "" && requested.kind === "line" && !times.length && !numbers.includes(columns[0]) ? "bar" : requested.kind;
  const xColumns = kind === "histogram" ? [...numbers, ...times] : columns;
  const x = xColumns.includes(requested.x) ? requested.x : ((kind === "histogram" ? undefined : times[0]) ?? xColumns[0]);
  const requestedY = requested.y.filter((name) => numbers.includes(name));
  const y = requestedY.length ? requestedY : numbers.filter((name) => name !== x).slice(0, 1).concat(numbers).slice(0, 1);
  const chart: ChartArgs = { kind, x, y, by: columns.includes(requested.by) ? requested.by : "" };
  const time = times.includes(x);
  const xIsCategory = !time && !numbers.includes(x);
  const drawable = x !== undefined && (kind === "histogram" || y.length > 0);

  const host = useRef<HTMLDivElement>(null);
  const [drawn, setDrawn] = useState<ChartData>();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const [redraws, setRedraws] = useState(0);
  const key = JSON.stringify([source, look.filter, chart, drawable]);
  useEffect(() => {
    if (!drawable) return;
    const abort = new AbortController();
    const sql = samplingQuery(narrow(source.sql, look.filter, null), chart, time, xIsCategory, Math.max(200, Math.min(2000, host.current!.clientWidth - 90)), 400);
    setBusy(true);
    computePoints(source, chart, sql, time, abort.signal).then((d) => (setDrawn(d), setError("")), (err: Error) => abort.signal.aborted || setError(err.message)).then(() => abort.signal.aborted || setBusy(false));
    return () => abort.abort();
  }, [key]);
  useEffect(() => {
    const redraw = () => setRedraws((n) => n + 1);
    const observer = new ResizeObserver(redraw);
    if (host.current) observer.observe(host.current);
    addEventListener("scheme", redraw);
    return () => (observer.disconnect(), removeEventListener("scheme", redraw));
  }, [drawable]);
  useEffect(() => {
    const element = host.current;
    if (!element || !drawn) return;
    element.style.color = "var(--accent)";
    const accent = getComputedStyle(element).color;
    element.style.color = "";
    element.replaceChildren(drawPlot(drawn, Math.max(240, element.clientWidth), Math.max(200, element.clientHeight), accent));
  }, [drawn, redraws]);

  const change = (part: Partial<ChartArgs>) => set({ chart: { ...chart, ...part } });
  const choose = (label: string, value: string, names: string[], none: string | null, chosen: (name: string) => void) => (
    <label>
      {label}
      <select value={value} onChange={(e) => chosen(e.currentTarget.value)}>
        {none !== null && <option value="">{none}</option>}
        {names.map((name) => <option value={name}>{name.slice(0, 60)}</option>)}
      </select>
    </label>
  );
  const limits = drawn && [
    drawn.series > maxSeries && `${maxSeries} of ${formatCount(drawn.series)} series`,
    drawn.points.length >= maxDots && `${formatCount(maxDots)} points`,
    kind === "bar" && drawn.bars > maxBars && `${maxBars} of ${formatCount(drawn.bars)} bars`,
  ].filter(Boolean).join(" and ");
  const repeats = drawn?.repeats && !busy && !drawn.chart.by;
  const colours = columns.filter((name) => name !== x && !y.includes(name) && !times.includes(name));
  const colour = colours.find((name) => !numbers.includes(name)) ?? colours[0];
  const description = kind === "histogram" ? `histogram of ${x}` : `${kind} chart of ${y.join(", ")} by ${x}`;
  return (
    <div class="chart">
      <div class="bar">
        {choose("Chart", kind, [...kinds], null, (k) => change({ kind: k as ChartArgs["kind"] }))}
        {choose(kind === "histogram" ? "Column" : "X", x, xColumns, null, (name) => change({ x: name }))}
        {kind !== "histogram" && y.map((one, i) => choose(i ? "and" : "Y", one, numbers, y.length > 1 ? "–" : null, (name) => change({ y: y.map((v, j) => (j === i ? name : v)).filter(Boolean) })))}
        {kind !== "histogram" && y.length < Math.min(6, numbers.length) && choose("and", "", numbers.filter((n) => !y.includes(n)), "–", (name) => name && change({ y: [...y, name] }))}
        {choose("Colour", chart.by, columns, "–", (name) => change({ by: name }))}
        {repeats && <small>{x.slice(0, 60)} repeats{colour && <>: <button onClick={() => change({ by: colour })}>Colour by {colour.slice(0, 60)}</button></>}</small>}
        <span class="space" />
        {busy && <><progress aria-label="computing the chart" /> <small role="status">Computing… <Clock key={key} /></small></>}
        {drawn && !busy && <small>{formatCount(drawn.rows)} rows{limits && `, ${limits} are drawn`}</small>}
        {drawn && (["svg", "png"] as const).map((k) => <button onClick={() => save(host.current!.querySelector("svg")!, k, description)}>{k.toUpperCase()}</button>)}
      </div>
      {error && <p class="error" role="alert">{error}</p>}
      {drawable ? <div class="plot" ref={host} role="img" aria-label={description} aria-busy={busy} /> : <p class="empty">A chart needs rows and a column of numbers.</p>}
    </div>
  );
}
