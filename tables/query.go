package tables

import (
	"context"
	"fmt"
	"io/fs"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
)

// Engine runs SQL queries over the tables of a Store. Package duck implements it.
type Engine interface {
	// Query runs one SELECT statement and streams its result. The statement sees all rows acknowledged before the call,
	// including those in the tail. The caller must release the reader, but need not read it to the end.
	Query(ctx context.Context, s *Store, sql string, o *QueryOptions) (array.RecordReader, error)

	// Describe returns the parameters and columns of a statement without reading rows.
	Describe(ctx context.Context, s *Store, sql string, o *QueryOptions) (*QueryDescription, error)

	// ColumnTypes returns the SQL types of a table's columns, in order. logical has the column types that readers see,
	// and stored the column types in files.
	ColumnTypes(logical, stored *arrow.Schema) []string
}

// QueryOptions configures a query. Nil or the zero value selects the defaults.
type QueryOptions struct {
	// Bucket contains the tables that the query names without a bucket; other tables are written "bucket"."table".
	Bucket string

	At At // the state of the tables to read; nil means the current state

	// Before is an earlier state that a statement can compare with the state At. The table "before"."bucket"."table"
	// has the rows of the earlier state. The table "changes"."bucket"."table" has the result of Table.Changes since
	// that state. If Before is nil, statements that use such names fail.
	Before At

	// Parameters contains one row, with a column for each of the statement's parameters. ? and $1 refer to columns by
	// position, and $name by name. Nil means no parameters.
	Parameters arrow.RecordBatch

	// Nanoseconds makes the query read nanosecond timestamps with a time zone as TIMESTAMP_NS in UTC, which requires a
	// copy of the table's rows. If it is false, the query truncates such timestamps to microseconds.
	Nanoseconds bool

	// KeepsNanoseconds makes the query fail if it would truncate a timestamp in a column that it names, because the
	// timestamp is not a whole number of microseconds. Only Exec sets it.
	KeepsNanoseconds bool

	// Recycle allows the engine to reuse the memory of released batches, as in ScanOptions. If it is false, values of
	// released batches stay valid.
	Recycle bool

	// Target is the table that the statement passed to Exec changes. Only Exec sets it.
	Target *Target

	// Memory limits the query's memory, in bytes. 0 means the engine's own limit, which is also the maximum. Operations
	// that need more memory use temporary files where possible.
	Memory int64
}

// Target is the table that the statement passed to Exec changes. Exec runs a query to find the rows to change. In this
// query, the table is in the SQL schema TargetSchema and has two additional columns; see [FileColumn].
type Target struct {
	Bucket, Table string
	Alias         string // the query's name for the table

	// Plan returns the table's state. The engine calls Plan at most once, after it has waited for other queries, and
	// closes the result. If the statement also reads the table, the engine uses the same state.
	Plan func(ctx context.Context) (*ScanPlan, error)
}

// Names that a query with a Target uses. The column FileColumn contains the index of the row's file in ScanPlan.Files,
// and the column RowColumn contains the row's number in this file, counted from 0. If ScanPlan.NeedsScan is true,
// FileColumn is 0, and RowColumn is the row's number in the result of ScanPlan.Rows.
const (
	TargetSchema = sqlwrite.TargetSchema
	FileColumn   = sqlwrite.FileColumn
	RowColumn    = sqlwrite.RowColumn
)

// QueryDescription describes a statement's parameters and result.
type QueryDescription struct {
	Result     *arrow.Schema
	Parameters *arrow.Schema // one field per parameter; the type null means that the parameter accepts any type
}

type allowedBucketsKey struct{}

// WithBuckets returns a context that restricts SQL statements, including statements of package transform, to the tables
// of the given buckets. It does not restrict functions that take a bucket's name as an argument.
func WithBuckets(ctx context.Context, buckets []string) context.Context {
	return context.WithValue(ctx, allowedBucketsKey{}, buckets)
}

// CheckAccess returns an error that wraps fs.ErrPermission if WithBuckets excluded the bucket. An Engine must call it
// for each bucket that a statement uses.
func CheckAccess(ctx context.Context, bucket string) error {
	if allowed, ok := ctx.Value(allowedBucketsKey{}).([]string); ok && !slices.Contains(allowed, bucket) {
		return fmt.Errorf("SQL statements cannot access tables of bucket %q here: %w", bucket, fs.ErrPermission)
	}
	return nil
}

// ExecOptions configures Exec. Nil or the zero value selects the defaults.
type ExecOptions struct {
	// Bucket contains the tables that the statement names without a bucket.
	Bucket string

	// Parameters contains the statement's parameters, like QueryOptions.Parameters, but can have any number of rows.
	// INSERT … VALUES puts the rows for all parameter rows in one commit. Every other statement runs and commits once
	// per parameter row; if a run fails, the error says how many parameter rows were applied. If there are no parameter
	// rows, Exec does nothing.
	Parameters arrow.RecordBatch

	// ID makes INSERT, UPDATE, DELETE, MERGE, TRUNCATE and CREATE TABLE idempotent: if a statement with this ID was
	// already applied to the table, Exec changes nothing and returns the same number of rows. See PutOptions.ID. If the
	// ID belongs to a different statement, Exec returns an ArgumentError; it does not compare the rows of INSERT …
	// VALUES. Other statements ignore the ID, so a second DROP TABLE, for example, fails. If the statement runs once
	// per parameter row, "#" and the row's number are appended to the ID and count towards its maximum length.
	ID string

	// Memory limits the memory of the statement's query; see QueryOptions.Memory.
	Memory int64

	// DryRun makes Exec change nothing and return the number of rows that the statement would change.
	DryRun bool

	// Authorize is called with the statement's verb, bucket and table before the statement runs. It is not called for
	// tables that the statement only reads. If it returns an error, Exec returns an error that wraps it. Nil allows all
	// statements. [CheckAccess] applies in any case.
	Authorize func(ExecResult) error
}

// ExecResult is the result of Exec.
type ExecResult struct {
	Rows    int64   `json:"rows"`    // number of rows that the statement inserted, updated or deleted
	Version Version `json:"version"` // as returned by Put; 0 after a dry run, DROP, ALTER or CREATE SCHEMA
	Verb    string  `json:"verb"`    // such as INSERT or CREATE TABLE
	Bucket  string  `json:"bucket"`
	Table   string  `json:"table"` // "" for CREATE SCHEMA and DROP SCHEMA

	// Replaced is the number of rows that CREATE OR REPLACE TABLE would remove; Rows does not include them. It is 0
	// unless ExecOptions.DryRun was set.
	Replaced int64 `json:"replaced,omitempty"`
}

// IsWrite reports whether a statement must be passed to Exec rather than to Query. IsWrite looks only at the
// statement's verb, so it also returns true for statements that Exec rejects, such as CREATE VIEW or COMMIT.
func IsWrite(sql string) bool { return sqlwrite.IsWrite(sql) }
