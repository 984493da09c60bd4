// Widths of the grid's columns, in pixels, measured with the browser's own text rendering.
import type { Rows } from "./rows";
import { cell, isNumber, isTime, typeName } from "./values";

const maxTextWidth = 360;
const minWidth = 72;
const padding = 22;
const headPadding = 50; // includes room for the sort arrow and the profile button
const contexts = new Map<string, CanvasRenderingContext2D>();

export function textWidth(text: string, style = "13px"): number {
  let context = contexts.get(style);
  if (!context) {
    context = document.createElement("canvas").getContext("2d")!;
    context.font = `${style} ${getComputedStyle(document.body).fontFamily}`;
    contexts.set(style, context);
  }
  // All digits have the same width.
  return Math.ceil(context.measureText(text.replace(/\d/g, "0")).width);
}

// mustShowWhole reports whether truncated values of a column would mislead, as numbers and times do.
export function mustShowWhole(rows: Rows, column: number): boolean {
  const { type } = rows.fields[column];
  return isNumber(type) || isTime(type);
}

export const cellWidth = (text: string) => textWidth(text) + padding;
export const gutterWidth = (rows: Rows) => Math.max(40, textWidth(rows.count.toLocaleString("en"), "11px") + 18);

// initialWidths returns widths that fit each column's name and the cells of the first rows.
export function initialWidths(rows: Rows): number[] {
  return rows.fields.map((field, column) => {
    const head = Math.max(textWidth(field.name.slice(0, 100), "600 13px"), textWidth(typeName(field.type).slice(0, 100), "11.5px"));
    let width = Math.min(maxTextWidth, head + headPadding);
    for (let row = 0; row < Math.min(rows.count, 30); row++) {
      const position = rows.at(row);
      if (!position) continue;
      const needed = cellWidth(cell(position.batch, position.index, column, 64).text);
      width = Math.max(width, mustShowWhole(rows, column) ? needed : Math.min(maxTextWidth, needed));
    }
    return Math.max(minWidth, width);
  });
}
