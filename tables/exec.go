package tables

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// ExecOptions configures Exec. Nil or the zero value selects the defaults.
type ExecOptions struct {
	// Bucket is where table names without a bucket are looked up.
	Bucket string

	// Parameters contains the statement's parameters, as QueryOptions.Parameters does, but can have any number of rows.
	// INSERT … VALUES puts the rows of all parameters in one commit. Every other statement runs and commits once for
	// each row of the parameters. If it fails, the error says how many of these rows were applied. Without rows, Exec
	// does nothing.
	Parameters arrow.RecordBatch

	// ID makes INSERT, UPDATE, DELETE, MERGE, TRUNCATE and CREATE TABLE idempotent: if a statement with this ID was
	// already applied to the table, Exec changes nothing and returns the same number of rows. See PutOptions.ID. If the
	// ID belongs to a different statement, Exec returns an ArgumentError; it does not compare the rows of INSERT …
	// VALUES. Other statements ignore ID, so a second DROP TABLE fails, for example. If the statement runs once for
	// each row of the parameters, "#" and the number of the row are appended to ID, and count as part of its length.
	ID string

	// Memory limits the memory of the statement's query; see QueryOptions.Memory.
	Memory int64

	// DryRun makes Exec change nothing, and return the number of rows that the statement would change.
	DryRun bool

	// Authorize is called with the statement's verb, bucket and table before the statement runs. It is not called for
	// tables that the statement only reads. If it returns an error, Exec returns an error that wraps it. Nil means that
	// all statements are allowed. [CheckAccess] applies in any case.
	Authorize func(ExecResult) error
}

// ExecResult is the result of Exec.
type ExecResult struct {
	Rows    int64   `json:"rows"`    // number of rows that the statement inserted, updated or deleted
	Version Version `json:"version"` // as returned by Put; 0 after a dry run, DROP, ALTER or CREATE SCHEMA
	Verb    string  `json:"verb"`    // such as INSERT or CREATE TABLE
	Bucket  string  `json:"bucket"`
	Table   string  `json:"table"` // "" for CREATE SCHEMA and DROP SCHEMA

	// Replaced is the number of rows that CREATE OR REPLACE TABLE would remove, after a dry run. Rows does not include
	// them.
	Replaced int64 `json:"replaced,omitempty"`
}

// IsWrite reports whether a statement is for Exec, rather than for Query. It only looks at the statement's verb, so it
// is also true for statements that Exec refuses, such as CREATE VIEW or COMMIT.
func IsWrite(sql string) bool { return sqlwrite.IsWrite(sql) }

// Exec runs an SQL statement that changes a table or a bucket, in one commit: INSERT, UPDATE, DELETE, MERGE, TRUNCATE,
// CREATE, DROP or ALTER TABLE, and CREATE or DROP SCHEMA, whose schema is a bucket. Queries in the statement can use
// whatever a Query can. If a concurrent change to the table conflicts with the statement, Exec runs the statement
// again. After too many conflicts, the error wraps ErrConflict. Without Options.Engine, it wraps errors.ErrUnsupported.
// See docs/write.md.
func (s *Store) Exec(ctx context.Context, sql string, o *ExecOptions) (result ExecResult, err error) {
	s = s.orUnopened()
	if s.opts.Engine == nil {
		return result, noEngine("exec")
	}
	x := &execution{s: s, sql: sql, o: *cmp.Or(o, new(ExecOptions))}
	ctx, end := s.opts.begin(ctx, "exec", x.o.Bucket, "")
	defer func() { end(Outcome{Rows: result.Rows, Err: err}) }()
	defer func() { wrapError(&err, "exec", x.result.Bucket, x.result.Table) }()
	if x.st, err = sqlwrite.Parse(sql); err != nil {
		return result, err
	}
	longest := x.o.ID
	if longest != "" && x.runsEach() {
		longest = rowID(longest, x.o.Parameters.NumRows())
	}
	if len(longest) > MaxName {
		return result, &ArgumentError{Err: fmt.Errorf("option ID, with the number of each row of the parameters, is up to %d bytes long: the limit is %d", len(longest), MaxName)}
	}
	if err := x.locate(ctx); err != nil {
		return result, err
	}
	if x.o.Authorize != nil {
		if err := x.o.Authorize(x.result); err != nil {
			return result, err
		}
	}
	if s.opts.ReadOnly {
		return result, ErrReadOnly
	}
	if x.o.Parameters != nil && x.o.Parameters.NumRows() == 0 {
		return x.result, nil
	}
	if !x.runsEach() {
		if err = commit.RetryStale(maxRewrites, func() error { return x.run(ctx) }); err != nil {
			x.result.Rows = 0
		}
		return x.result, err
	}
	return x.runEach(ctx)
}

// execution is a running statement.
type execution struct {
	s      *Store
	sql    string
	st     *sqlwrite.Statement
	o      ExecOptions
	result ExecResult
	table  *Table
	exists bool // whether the table or bucket exists

	logical *arrow.Schema // the table's columns, set by columns

	attempts int // number of calls of change
}

// runsEach reports whether the statement runs once for each row of parameters.
func (x *execution) runsEach() bool {
	return x.o.Parameters != nil && x.o.Parameters.NumRows() > 1 && x.st.Values == nil
}

// rowID returns the ID of the statement for a row of the parameters. Rows count from 1.
func rowID(id string, row int64) string { return id + "#" + strconv.FormatInt(row, 10) }

// runEach runs the statement once for each row of parameters.
func (x *execution) runEach(ctx context.Context) (total ExecResult, err error) {
	all, id := x.o.Parameters, x.o.ID
	total = x.result
	for i := range all.NumRows() {
		x.o.Parameters = all.NewSlice(i, i+1)
		if id != "" {
			x.o.ID = rowID(id, i+1)
		}
		x.result.Rows, x.attempts = 0, 0
		err = commit.RetryStale(maxRewrites, func() error { return x.run(ctx) })
		x.o.Parameters.Release()
		if err != nil {
			return total, fmt.Errorf("row %d of the parameters, after %d rows were applied: %w", i+1, i, err)
		}
		total.Rows += x.result.Rows
		total.Version = x.result.Version
	}
	return total, nil
}

// locate finds the statement's table. If no table has exactly this name, but a single name differs only in case, locate
// chooses that table.
func (x *execution) locate(ctx context.Context) (err error) {
	st := x.st
	x.result = ExecResult{Verb: st.Verb, Bucket: cmp.Or(st.Schema, x.o.Bucket), Table: st.Table}
	// As in a query, default is the default bucket, unless a bucket called default has the table.
	if st.Schema == "default" && st.Table != "" {
		if exists, err := x.s.has(ctx, "default", st.Table); err != nil {
			return err
		} else if !exists {
			x.result.Bucket = ""
		}
	}
	b := x.s.Bucket(x.result.Bucket)
	if err := CheckAccess(ctx, b.Name()); err != nil {
		return err
	}
	if st.Table == "" {
		x.exists, err = b.Exists(ctx)
		return err
	}
	if x.exists, err = x.s.has(ctx, b.Name(), st.Table); err != nil {
		return err
	}
	if !x.exists {
		var names []string
		for info, err := range b.Tables(ctx, nil) {
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			if err == nil && strings.EqualFold(info.Name, st.Table) {
				names = append(names, info.Name)
			}
		}
		if len(names) > 1 {
			return fmt.Errorf("tables %q and %q differ only in case: write the name exactly", names[0], names[1])
		}
		x.exists = len(names) == 1
		if x.exists {
			x.result.Table = names[0]
		}
	}
	x.table = b.Table(x.result.Table)
	return nil
}

func (s *Store) has(ctx context.Context, bucket, table string) (bool, error) {
	_, err := s.Bucket(bucket).Table(table).Info(ctx)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if errors.Is(err, ErrDamaged) { // DROP TABLE works, and other statements find the damage later
		err = nil
	}
	return err == nil, err
}

// run runs the statement once. It returns commit.ErrStale if it must run again.
func (x *execution) run(ctx context.Context) error {
	switch x.st.Verb {
	case sqlwrite.CreateTable, sqlwrite.CreateBucket:
	default:
		if !x.exists {
			if x.st.IfExists {
				return nil
			}
			return missingTable(ctx, x.s.cat, tableName{Namespace: namespaceOf(x.result.Bucket), Name: x.result.Table})
		}
	}
	switch x.st.Verb {
	case sqlwrite.Insert:
		return x.insert(ctx)
	case sqlwrite.CreateTable:
		return x.create(ctx)
	case sqlwrite.Update, sqlwrite.Delete, sqlwrite.Merge, sqlwrite.Truncate:
		return x.change(ctx)
	}
	return x.define(ctx)
}

// applied reports whether the statement was already applied to the table, according to its ID. If so, applied sets the
// result. If the ID belongs to another statement or put, applied returns an error.
func (x *execution) applied(ctx context.Context) (bool, error) {
	if x.o.ID == "" || !x.exists {
		return false, nil
	}
	e, release, err := x.table.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	t, err := e.Current(ctx)
	if err != nil || t == nil {
		return false, err
	}
	applied, err := e.Applied(ctx, t, x.o.ID)
	if err != nil || !applied {
		return false, err
	}
	x.result.Version = versionOf(t.Metadata())
	checksum, rows, err := e.Statement(ctx, t, x.o.ID)
	switch {
	case err != nil:
		return false, err
	case checksum == "" && x.st.Values != nil: // only the ID is recorded, because the rows of VALUES can go to the tail
		rows = int64(len(x.st.Values)) * x.parameterRows()
	case x.st.Values != nil || checksum != x.checksum():
		return false, &ArgumentError{Err: fmt.Errorf("the ID %q belongs to another statement or put, which was applied to this table: use a new ID", x.o.ID)}
	}
	x.result.Rows = rows
	return true, nil
}

// checksum identifies the statement and the values of its parameters. It is "" if the statement has no ID.
func (x *execution) checksum() string {
	if x.o.ID == "" {
		return ""
	}
	h := sha256.New()
	_, _ = io.WriteString(h, x.sql)
	if x.o.Parameters != nil {
		// parameters that JSON cannot represent are not compared
		if values, err := x.o.Parameters.MarshalJSON(); err == nil {
			_, _ = h.Write(values)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (x *execution) parameterRows() int64 {
	if x.o.Parameters == nil {
		return 1
	}
	return x.o.Parameters.NumRows()
}

// columns returns the table's columns with their SQL types.
func (x *execution) columns(ctx context.Context) ([]sqlwrite.Column, error) {
	return withView(ctx, x.table.reader(), "exec", func(v *view) ([]sqlwrite.Column, error) {
		x.logical = v.def.Logical
		return x.s.sqlColumns(v.def.Logical, v.def.Stored), nil
	})
}

func (s *core) sqlColumns(logical, stored *arrow.Schema) (columns []sqlwrite.Column) {
	for i, typ := range s.opts.Engine.ColumnTypes(logical, stored) {
		f := logical.Field(i)
		if f.Type.ID() == arrow.NULL { // the column will take the type of its first value
			typ = ""
		}
		columns = append(columns, sqlwrite.Column{Name: f.Name, Type: typ})
	}
	return columns
}

func (x *execution) queryOptions() *QueryOptions {
	return &QueryOptions{Bucket: x.o.Bucket, Parameters: x.o.Parameters, Memory: x.o.Memory}
}

// query runs a query for the statement. Its errors have no position, because the user did not write the query's text.
func (x *execution) query(ctx context.Context, sql string, o *QueryOptions) (array.RecordReader, error) {
	r, err := x.s.opts.Engine.Query(ctx, x.s, sql, o)
	return r, withoutPosition(err)
}

func (x *execution) describe(ctx context.Context, sql string) (*QueryDescription, error) {
	d, err := x.s.opts.Engine.Describe(ctx, x.s, sql, x.queryOptions())
	return d, withoutPosition(err)
}

func withoutPosition(err error) error {
	if op, ok := errors.AsType[*OpError](err); ok {
		err = op.Err
	}
	switch e := err.(type) { // not errors.As: a wrapper can contain another cause, such as a canceled context
	case *sqltext.Error:
		return &SQLError{Err: e.Err}
	case *SQLError:
		return &SQLError{Err: e.Err}
	}
	return err
}

// describeWrite is Describe for a statement of Exec.
func (s *Store) describeWrite(ctx context.Context, sql string, o *QueryOptions) (_ *QueryDescription, err error) {
	x := &execution{s: s, o: ExecOptions{Bucket: o.Bucket}}
	defer func() { wrapError(&err, "describe", x.result.Bucket, x.result.Table) }()
	if x.st, err = sqlwrite.Parse(sql); err != nil {
		return nil, err
	}
	if err := x.locate(ctx); err != nil {
		return nil, err
	}
	d := &QueryDescription{Parameters: arrow.NewSchema(nil, nil)}
	switch x.st.Verb {
	case sqlwrite.CreateTable:
		if x.st.Query != "" {
			d, err = x.describe(ctx, x.st.Query)
		}
	case sqlwrite.Insert:
		var query string
		if query, err = x.insertQuery(ctx, x.st, 0, 1); err == nil && !x.needsParts(query) {
			d, err = x.describe(ctx, query)
		}
	case sqlwrite.Update, sqlwrite.Delete, sqlwrite.Merge:
		d, err = x.describeChange(ctx)
	}
	if err != nil {
		return nil, err
	}
	d.Result = arrow.NewSchema([]arrow.Field{{Name: "rows", Type: arrow.PrimitiveTypes.Int64}}, nil)
	return d, nil
}
