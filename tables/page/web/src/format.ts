// The parts of sql-formatter that the page needs, loaded on demand.
export { duckdb, formatDialect } from "sql-formatter";
