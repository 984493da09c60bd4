// The look of rows: a filter, an order, a profile and a chart. It is stored in the address.
export interface Sort {
  column: string;
  descending: boolean;
}
export const kinds = ["line", "bar", "scatter", "histogram"] as const;
export interface ChartArgs {
  kind: (typeof kinds)[number];
  x: string;
  y: string[];
  by: string; // the column whose values divide the rows into series; "" for none
}
export interface Look {
  filter: string;
  sort: Sort | null;
  profile: string | null;
  chart: ChartArgs | null;
}

// Change is a change of the look. If it depends on the current look, it is a function, because the look from the last
// rendering may be outdated: fast key presses can cause several changes between two renderings.
export type Change = Partial<Look> | ((now: Look) => Partial<Look>);
export const applyChange = (now: Look, change: Change): Look => ({ ...now, ...(typeof change === "function" ? change(now) : change) });

export function readLook(args: URLSearchParams): Look {
  const sort = args.get("sort");
  const kind = kinds.find((k) => k === args.get("chart"));
  return {
    filter: args.get("filter") ?? "",
    sort: sort ? { column: sort.replace(/^[-+]/, ""), descending: sort[0] === "-" } : null,
    profile: args.get("profile"),
    chart: kind ? { kind, x: args.get("x") ?? "", y: args.getAll("y"), by: args.get("by") ?? "" } : null,
  };
}

export function writeLook({ filter, sort, profile, chart }: Look): Record<string, string | string[] | undefined> {
  const order = sort ? (sort.descending ? "-" : "+") + sort.column : undefined;
  return { filter, sort: order, profile: profile ?? undefined, chart: chart?.kind, x: chart?.x, y: chart?.y, by: chart?.by };
}

export function toggleSort(sort: Sort | null, column: string): Sort | null {
  return sort?.column !== column ? { column, descending: false } : sort.descending ? null : { column, descending: true };
}

// indexOfPosition converts a position that the server reports to an index in text. The server counts
// characters; JavaScript counts UTF-16 units.
export function indexOfPosition(text: string, line: number, column: number): number {
  const lines = text.split("\n").slice(0, line);
  const linePart = [...(lines[line - 1] ?? "")].slice(0, column - 1).join("");
  return [...lines.slice(0, line - 1), linePart].join("\n").length;
}
