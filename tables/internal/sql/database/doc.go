// Package database runs individual SQL statements in DuckDB, in this process or in a separate one.
//
// Package database does not depend on package tables: the caller asks for the names in a statement and defines views
// for them. A separate process therefore starts quickly, without initializing package tables and its dependencies; see
// [worker.Handle].
package database
