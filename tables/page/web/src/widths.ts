// How wide the grid's columns have to be, measured as the browser draws its texts.
import type { Rows } from "./rows";
import { cell, isNumber, isTime } from "./values";

const most = 360; // of a text
const least = 72;
const padding = 22;
const headPadding = 50; // with the mark of the order and the button of the profile
const contexts = new Map<string, CanvasRenderingContext2D>();

export function measured(text: string, style = "13px"): number {
  let context = contexts.get(style);
  if (!context) {
    context = document.createElement("canvas").getContext("2d")!;
    context.font = `${style} ${getComputedStyle(document.body).fontFamily}`;
    contexts.set(style, context);
  }
  // All digits are as wide as each other.
  return Math.ceil(context.measureText(text.replace(/\d/g, "0")).width);
}

// isWhole tells of columns whose values mean something else when they are cut.
export function isWhole(rows: Rows, column: number): boolean {
  const { type } = rows.fields[column];
  return isNumber(type) || isTime(type);
}

export const cellWidth = (text: string) => measured(text) + padding;
export const gutterWidth = (rows: Rows) => Math.max(40, measured(rows.count.toLocaleString("en"), "11px") + 18);

// A name and the cells of the first rows say how wide a column is.
export function firstWidths(rows: Rows): number[] {
  return rows.fields.map((field, column) => {
    let width = Math.min(most, measured(field.name.slice(0, 100), "600 13px") + headPadding);
    for (let row = 0; row < Math.min(rows.count, 30); row++) {
      const at = rows.at(row);
      if (!at) continue;
      const needs = cellWidth(cell(at.batch, at.index, column, 64).text);
      width = Math.max(width, isWhole(rows, column) ? needs : Math.min(most, needs));
    }
    return Math.max(least, width);
  });
}
