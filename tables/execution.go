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
)

// execution is a running statement.
type execution struct {
	store     *Store
	sql       string
	statement *sqlwrite.Statement
	options   ExecOptions
	result    ExecResult
	table     *Table
	exists    bool // whether the table or bucket exists

	logical *arrow.Schema // the table's columns in the types that readers see; set by columns

	attempts int // number of calls of change
}

// rowID returns the ID for one row of a statement's parameters. Rows are counted from 1.
func rowID(id string, row int64) string { return id + "#" + strconv.FormatInt(row, 10) }

// isPerRow reports whether the statement runs once for each row of parameters.
func (x *execution) isPerRow() bool {
	return x.options.Parameters != nil && x.options.Parameters.NumRows() > 1 && x.statement.Values == nil
}

// locate finds the statement's bucket and table. If no table has exactly this name, but exactly one table's name
// differs only in case, locate chooses that table.
func (x *execution) locate(ctx context.Context) (err error) {
	st := x.statement
	x.result = ExecResult{Verb: st.Verb, Bucket: cmp.Or(st.Schema, x.options.Bucket), Table: st.Table}
	// As in a query, the schema default is the default bucket, unless a bucket called default has the table.
	if st.Schema == "default" && st.Table != "" {
		if exists, err := x.hasTable(ctx, "default", st.Table); err != nil {
			return err
		} else if !exists {
			x.result.Bucket = ""
		}
	}
	b := x.store.Bucket(x.result.Bucket)
	if err := CheckAccess(ctx, b.Name()); err != nil {
		return err
	}
	if st.Table == "" {
		x.exists, err = b.Exists(ctx)
		return err
	}
	x.exists, err = x.hasTable(ctx, b.Name(), st.Table)
	if err != nil {
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

func (x *execution) hasTable(ctx context.Context, bucket, table string) (bool, error) {
	_, err := x.store.Bucket(bucket).Table(table).Info(ctx)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if errors.Is(err, ErrDamaged) { // DROP TABLE works anyway, and other statements find the damage later
		err = nil
	}
	return err == nil, err
}

// wasApplied reports whether the statement was already applied to the table, judging by its ID. If so, wasApplied sets
// the result. If the ID belongs to another statement or put, wasApplied returns an error.
func (x *execution) wasApplied(ctx context.Context) (bool, error) {
	if x.options.ID == "" || !x.exists {
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
	applied, err := e.Applied(ctx, t, x.options.ID)
	if err != nil || !applied {
		return false, err
	}
	x.result.Version = versionOf(t.Metadata())
	checksum, rows, err := e.Statement(ctx, t, x.options.ID)
	switch {
	case err != nil:
		return false, err
	case checksum == "" && x.statement.Values != nil: // INSERT … VALUES records only the ID, because its rows can go to the tail
		rows = int64(len(x.statement.Values)) * x.parameterRows()
	case x.statement.Values != nil || checksum != x.checksum():
		return false, &ArgumentError{Err: fmt.Errorf("the ID %q belongs to another statement or put, which was applied to this table: use a new ID", x.options.ID)}
	}
	x.result.Rows = rows
	return true, nil
}

// checksum returns a hash of the statement and its parameters, or "" if the statement has no ID.
func (x *execution) checksum() string {
	if x.options.ID == "" {
		return ""
	}
	h := sha256.New()
	_, _ = io.WriteString(h, x.sql) // a hash accepts all writes
	if x.options.Parameters != nil {
		// If JSON cannot represent the parameters, the hash omits them.
		if values, err := x.options.Parameters.MarshalJSON(); err == nil {
			_, _ = h.Write(values)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func (x *execution) parameterRows() int64 {
	if x.options.Parameters == nil {
		return 1
	}
	return x.options.Parameters.NumRows()
}

// columns returns the table's columns with their SQL types. It also sets x.logical.
func (x *execution) columns(ctx context.Context) ([]sqlwrite.Column, error) {
	return withView(ctx, x.table.reader(), "exec", func(v *view) ([]sqlwrite.Column, error) {
		x.logical = v.def.Logical
		return x.store.sqlColumns(v.def.Logical, v.def.Stored), nil
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
	return &QueryOptions{Bucket: x.options.Bucket, Parameters: x.options.Parameters, Memory: x.options.Memory}
}

// query runs a query for the statement. Its errors have no position, because the user did not write the query.
func (x *execution) query(ctx context.Context, sql string, o *QueryOptions) (array.RecordReader, error) {
	r, err := x.store.opts.Engine.Query(ctx, x.store, sql, o)
	return r, withoutPosition(err)
}

func (x *execution) describe(ctx context.Context, sql string) (*QueryDescription, error) {
	d, err := x.store.opts.Engine.Describe(ctx, x.store, sql, x.queryOptions())
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
