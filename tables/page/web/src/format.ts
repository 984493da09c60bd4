// The part of the formatter that the page needs, loaded on demand.
export { duckdb, formatDialect } from "sql-formatter";
