// Of the formatter only what the page needs: it is loaded when it is used.
export { duckdb, formatDialect } from "sql-formatter";
