// Package database runs single statements of SQL in DuckDB, in this process or in one
// of its own.
//
// It does not know the tables: who runs a statement asks for the names in it, and says
// what views they are. So a process of its own begins at once, without what tables need;
// see [worker.Handle].
package database
