// Shows rows as a grid. The document contains only the visible rows and columns. Scrolling works for
// any number of rows, even if their total height exceeds the browser's limit.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { markInvisible } from "./common";
import type { Rows } from "./rows";
import type { Sort } from "./state";
import { type Cell, cell, isNumber, typeName } from "./values";
import { cellWidth, initialWidths, gutterWidth, mustShowWhole } from "./widths";

const rowHeight = 26;
const headHeight = 42;
const maxCopied = 200_000; // cells
const maxHeight = 8_000_000; // pixels; browsers limit the height of an element
const minColumnWidth = 56;
const settleTime = 250; // milliseconds between the last scroll event and the correction of the scroll bar

interface Props {
  rows: Rows;
  label: string;
  busy: boolean;
  sort?: Sort | null;
  onSort?: (column: string) => void;
  onColumn?: (column: string) => void; // shows or hides a column's profile
  say?: (text: string) => void;
}

function px(lengths: Record<string, number>): Record<string, string> {
  return Object.fromEntries(Object.entries(lengths).map(([name, n]) => [name, `${n}px`]));
}

export function Grid({ rows, label, busy, sort, onSort, onColumn, say }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ height: 400, width: 800, left: 0 });
  const [top, setTop] = useState(0);
  const [active, setActive] = useState({ row: -1, column: 0 });
  const [corner, setCorner] = useState<{ row: number; column: number } | null>(null); // the corner of the selected range opposite the active cell
  const [open, setOpen] = useState(false);
  const [widths, setWidths] = useState<number[]>([]);
  const lastScrollTop = useRef(0); // the last known position of the scroll bar, in pixels
  const shownTop = useRef(0); // the value of top when the grid was last rendered, for settleTimer
  shownTop.current = top;
  const settleTimer = useRef(0); // the timer that corrects the scroll bar after scrolling stops
  const dragged = useRef(new Set<number>()); // the columns whose width the user has set

  const names = rows.fields.map((f) => f.name).join("\0");
  const hasRows = rows.count > 0;
  useEffect(() => {
    dragged.current.clear();
    setWidths(initialWidths(rows));
  }, [names, hasRows]);
  useEffect(() => {
    const element = scroller.current!;
    const observer = new ResizeObserver(() => {
      setView((v) => ({ ...v, height: element.clientHeight, width: element.clientWidth }));
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const columnWidths = rows.fields.map((_, i) => widths[i] ?? 120);
  const gutter = gutterWidth(rows);
  const offsets = [gutter];
  for (const width of columnWidths) offsets.push(offsets[offsets.length - 1] + width);
  const total = offsets[offsets.length - 1];
  const bodyHeight = Math.max(0, view.height - headHeight);
  const fit = bodyHeight / rowHeight;
  const height = Math.min(rows.count * rowHeight, maxHeight);
  const maxTop = Math.max(0, rows.count - fit);
  const maxScroll = Math.max(0, height + headHeight - view.height);
  const first = Math.max(0, Math.min(Math.floor(top), rows.count - 1));
  const end = Math.min(rows.count, Math.ceil(top + fit) + 1);

  useEffect(() => rows.want(first, Math.max(first, end - 1)), [rows, first, end]);
  useLayoutEffect(() => {
    setTop(0);
    setCorner(null);
    place(0);
  }, [rows]);
  useLayoutEffect(() => {
    if (top > maxTop) setTop(maxTop);
  }, [maxTop, top]);

  // place moves the scroll bar to a row. If the rows together are taller than maxHeight, one pixel of the bar stands
  // for many rows. After a small step of the bar, onScroll then scrolls the rows by as many pixels as the bar moved.
  // A large step instead jumps to the row at the same fraction of the table as the bar. Once scrolling stops, place
  // corrects the bar.
  function place(row: number) {
    const element = scroller.current!;
    lastScrollTop.current = Math.round(maxTop ? (row / maxTop) * maxScroll : 0);
    element.scrollTop = lastScrollTop.current;
  }
  function onScroll() {
    const element = scroller.current!;
    setView((v) => (v.left === element.scrollLeft ? v : { ...v, left: element.scrollLeft }));
    const scrollTop = element.scrollTop;
    const step = scrollTop - lastScrollTop.current;
    if (Math.abs(step) < 1) return;
    lastScrollTop.current = scrollTop;
    const fraction = maxScroll ? scrollTop / maxScroll : 0;
    const scaled = rows.count * rowHeight > maxHeight;
    const atEdge = scrollTop <= 0 || scrollTop >= maxScroll - 1;
    const isSmallStep = scaled && !atEdge && Math.abs(step) < bodyHeight;
    const newTop = isSmallStep ? top + step / rowHeight : fraction * maxTop;
    setTop(Math.max(0, Math.min(maxTop, newTop)));
    clearTimeout(settleTimer.current);
    if (scaled) settleTimer.current = window.setTimeout(() => place(shownTop.current), settleTime);
  }

  function move(row: number, column: number, extend = false) {
    setCorner(extend ? (corner ?? { ...active, row: Math.max(0, active.row) }) : null);
    const target = { row: Math.max(-1, Math.min(rows.count - 1, row)), column: Math.max(0, Math.min(columnWidths.length - 1, column)) };
    setActive(target);
    if (target.row >= 0 && (target.row < top || target.row > top + fit - 1)) {
      const start = Math.max(0, Math.min(maxTop, target.row < top ? target.row : target.row - fit + 1));
      setTop(start);
      place(start);
    }
    const element = scroller.current!;
    if (offsets[target.column] < element.scrollLeft + gutter) element.scrollLeft = offsets[target.column] - gutter;
    else if (offsets[target.column + 1] > element.scrollLeft + view.width) element.scrollLeft = offsets[target.column + 1] - view.width;
  }

  function onKey(event: KeyboardEvent) {
    const page = Math.max(1, Math.floor(fit) - 1);
    const { row, column } = active;
    const withCtrl = event.ctrlKey || event.metaKey;
    const moves: Record<string, [number, number]> = {
      ArrowDown: [row + 1, column],
      ArrowUp: [row - 1, column],
      ArrowRight: [row, column + 1],
      ArrowLeft: [row, column - 1],
      PageDown: [row + page, column],
      PageUp: [Math.max(0, row - page), column],
      Home: [withCtrl ? 0 : row, 0],
      End: [withCtrl ? rows.count - 1 : row, columnWidths.length - 1],
    };
    const name = rows.fields[column]?.name;
    if (event.key === "a" && withCtrl) {
      setCorner({ row: 0, column: 0 });
      setActive({ row: rows.count - 1, column: columnWidths.length - 1 });
    } else if (event.key === "Enter" && row < 0 && name !== undefined) onSort?.(name);
    else if (event.key === "Enter" && row >= 0) setOpen(true);
    else if (event.key === "p" && !withCtrl && name !== undefined && onColumn) onColumn(name);
    else if (event.key === "c" && withCtrl) copy();
    else if (event.key === "Escape" && (open || corner)) {
      setOpen(false);
      setCorner(null);
    } else if (moves[event.key]) move(...moves[event.key], event.shiftKey);
    else return;
    event.preventDefault();
  }

  function activeText(): string {
    const position = active.row >= 0 ? rows.at(active.row) : undefined;
    if (!position) return "";
    const { text, cut, null: isNull } = cell(position.batch, position.index, active.column, 20_000);
    if (isNull) return "null";
    return cut ? `${text}…` : text;
  }

  const range = {
    first: corner ? Math.min(corner.row, active.row) : active.row,
    last: corner ? Math.max(corner.row, active.row) : active.row,
    left: corner ? Math.min(corner.column, active.column) : active.column,
    right: corner ? Math.max(corner.column, active.column) : active.column,
  };
  const isSelected = (row: number, column: number) => row >= range.first && row <= range.last && column >= range.left && column <= range.right;

  // copy copies a cell as text, or a range as tab-separated values for a spreadsheet.
  function copy() {
    if (!corner) return void navigator.clipboard?.writeText(activeText());
    const first = Math.max(0, range.first);
    const [rowCount, columnCount] = [range.last - first + 1, range.right - range.left + 1];
    if (rowCount * columnCount > maxCopied) return say?.(`at most ${maxCopied.toLocaleString("en")} cells can be copied: download the rows`);
    const lines: string[] = [];
    for (let row = first; row <= range.last; row++) {
      const position = rows.at(row);
      if (!position) return say?.(`row ${(row + 1).toLocaleString("en")} is no longer loaded: copy fewer rows, or download them`);
      const cells: string[] = [];
      for (let column = range.left; column <= range.right; column++) {
        const { text, cut } = cell(position.batch, position.index, column, 20_000);
        if (cut) return say?.(`a cell in row ${(row + 1).toLocaleString("en")} is too long to copy: download the rows`);
        cells.push(/[\t\r\n"]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
      }
      lines.push(cells.join("\t"));
    }
    navigator.clipboard?.writeText(lines.join("\n")).then(
      () => say?.(`${rowCount.toLocaleString("en")} rows of ${columnCount} columns were copied`),
      () => say?.("the browser does not allow copying"),
    );
  }

  function drag(column: number, event: PointerEvent) {
    const handle = event.currentTarget as HTMLElement;
    const leftEdge = event.clientX - columnWidths[column];
    dragged.current.add(column);
    handle.setPointerCapture(event.pointerId);
    handle.onpointermove = (e) => setWidths(columnWidths.map((w, i) => (i === column ? Math.max(minColumnWidth, e.clientX - leftEdge) : w)));
    handle.onpointerup = () => (handle.onpointermove = null);
    event.preventDefault();
  }

  const visibleColumns: number[] = [];
  for (let i = 0; i < columnWidths.length; i++) {
    if (offsets[i + 1] >= view.left && offsets[i] <= view.left + view.width) visibleColumns.push(i);
  }
  const lines: number[] = [];
  for (let row = first; row < end; row++) lines.push(row);
  const cellId = (row: number, column: number) => `c${row}_${column}`;
  // A column of numbers grows with the visible values. If the user has set its width, the grid hides numbers that are
  // too wide, because a truncated number would mislead.
  const grownWidths = [...columnWidths];
  function text(column: number, { text, cut }: Cell): string {
    const neededWidth = mustShowWhole(rows, column) ? cellWidth(text) : 0;
    if (neededWidth <= columnWidths[column]) return markInvisible(text) + (cut ? "…" : "");
    if (dragged.current.has(column)) return "#".repeat(Math.max(3, Math.floor(columnWidths[column] / 9) - 2));
    grownWidths[column] = Math.max(grownWidths[column], neededWidth);
    return text;
  }
  useLayoutEffect(() => {
    if (grownWidths.some((width, i) => width > columnWidths[i])) setWidths(grownWidths);
  });

  return (
    <div class="gridbox">
      <div
        class="grid"
        ref={scroller}
        role="grid"
        tabIndex={0}
        aria-label={label}
        aria-rowcount={rows.count + 1}
        aria-colcount={columnWidths.length}
        aria-multiselectable
        aria-busy={busy}
        aria-activedescendant={visibleColumns.includes(active.column) && (active.row < 0 || (active.row >= first && active.row < end)) ? cellId(active.row, active.column) : undefined}
        onScroll={onScroll}
        onKeyDown={onKey}
      >
        <div class="canvas" role="presentation" style={px({ height: height + headHeight, width: total })}>
          <div class="pane" role="presentation" style={px({ height: Math.min(view.height, height + headHeight) })}>
            {lines.map((row) => {
              const position = rows.at(row);
              return (
                <div class={`row${row % 2 ? " odd" : ""}`} role="row" key={row} aria-rowindex={row + 2} style={px({ top: headHeight + (row - top) * rowHeight })}>
                  <span class="gutter" role="rowheader" style={px({ left: view.left, width: gutter })}>
                    {(row + 1).toLocaleString("en")}
                  </span>
                  {visibleColumns.map((i) => {
                    const value = position && cell(position.batch, position.index, i, 200);
                    const isActive = active.row === row && active.column === i;
                    return (
                      <span
                        key={i}
                        id={cellId(row, i)}
                        role="gridcell"
                        aria-colindex={i + 1}
                        aria-selected={isSelected(row, i)}
                        class={`cell${isNumber(rows.fields[i].type) ? " num" : ""}${isActive ? " active" : ""}${corner && isSelected(row, i) ? " picked" : ""}`}
                        style={px({ left: offsets[i], width: columnWidths[i] })}
                        onPointerDown={(e) => (setCorner(e.shiftKey ? (corner ?? active) : null), setActive({ row, column: i }))}
                        onPointerEnter={(e) => e.buttons === 1 && !isActive && (setCorner(corner ?? active), setActive({ row, column: i }))}
                        onDblClick={() => setOpen(true)}
                      >
                        {!value ? <i class="wait" /> : value.null ? <i class="null">null</i> : <bdi>{text(i, value).replace(/\r?\n|\r/g, "↵")}</bdi>}
                      </span>
                    );
                  })}
                </div>
              );
            })}
            <div class="row head" role="row" aria-rowindex={1}>
              <span class="gutter" role="columnheader" aria-label="row" style={px({ left: view.left, width: gutter })}>#</span>
              {visibleColumns.map((i) => {
                const { name, type } = rows.fields[i];
                const order = sort?.column === name ? (sort.descending ? "descending" : "ascending") : "none";
                return (
                  <span
                    key={i}
                    id={cellId(-1, i)}
                    role="columnheader"
                    aria-colindex={i + 1}
                    aria-sort={onSort && order}
                    title={`${name.slice(0, 300)}\n${typeName(type)}`}
                    class={`cell${isNumber(type) ? " num" : ""}${active.row === -1 && active.column === i ? " active" : ""}`}
                    style={px({ left: offsets[i], width: columnWidths[i] })}
                    onClick={() => (setActive({ row: -1, column: i }), onSort?.(name))}
                  >
                    <span class="name"><bdi>{markInvisible(name.slice(0, 200))}</bdi><small>{typeName(type)}</small></span>
                    {order !== "none" && <b aria-hidden="true">{order === "ascending" ? "↑" : "↓"}</b>}
                    {onColumn && (
                      <button class="stat" tabIndex={-1} aria-label={`profile of ${name.slice(0, 200)}`} title="Profile of this column (p)" onClick={(e) => (e.stopPropagation(), onColumn(name))} />
                    )}
                    <i class="resize" onPointerDown={(e) => drag(i, e)} onClick={(e) => e.stopPropagation()} />
                  </span>
                );
              })}
            </div>
          </div>
        </div>
      </div>
      {open && active.row >= 0 && (
        <div class="detail" role="region" aria-label="cell">
          <header>
            <bdi>{markInvisible(rows.fields[active.column]?.name.slice(0, 200) ?? "")}</bdi> <small>row {(active.row + 1).toLocaleString("en")}</small>
            <button class="quiet" aria-label="close the cell" onClick={() => setOpen(false)}>✕</button>
          </header>
          <pre dir="auto">{markInvisible(activeText())}</pre>
        </div>
      )}
    </div>
  );
}
