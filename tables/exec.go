package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// Exec runs an SQL statement that changes a table or a bucket, in one commit: INSERT, UPDATE, DELETE, MERGE, TRUNCATE,
// CREATE, DROP or ALTER TABLE, and CREATE or DROP SCHEMA (a schema is a bucket). Queries in the statement can do
// whatever a Query can. If a concurrent change to the table conflicts with the statement, Exec runs the statement
// again. After too many conflicts, the error wraps ErrConflict. Without Options.Engine, the error wraps
// errors.ErrUnsupported. See docs/write.md.
func (s *Store) Exec(ctx context.Context, sql string, o *ExecOptions) (result ExecResult, err error) {
	s = s.orUnopened()
	if s.opts.Engine == nil {
		return result, noEngine("exec")
	}
	x := &execution{store: s, sql: sql, options: *cmp.Or(o, new(ExecOptions))}
	ctx, end := s.opts.begin(ctx, "exec", x.options.Bucket, "")
	defer func() { end(Outcome{Rows: result.Rows, Err: err}) }()
	defer func() { wrapError(&err, "exec", x.result.Bucket, x.result.Table) }()
	x.statement, err = sqlwrite.Parse(sql)
	if err != nil {
		return result, err
	}
	longestID := x.options.ID
	if longestID != "" && x.isPerRow() {
		longestID = rowID(longestID, x.options.Parameters.NumRows())
	}
	if len(longestID) > MaxName {
		return result, &ArgumentError{Err: fmt.Errorf("option ID, with any row number that is appended to it, is %d bytes long: the limit is %d", len(longestID), MaxName)}
	}
	if err := x.locate(ctx); err != nil {
		return result, err
	}
	if x.options.Authorize != nil {
		if err := x.options.Authorize(x.result); err != nil {
			return result, err
		}
	}
	if s.opts.ReadOnly {
		return result, ErrReadOnly
	}
	if x.options.Parameters != nil && x.options.Parameters.NumRows() == 0 {
		return x.result, nil
	}
	if !x.isPerRow() {
		err = commit.RetryStale(maxRewrites, func() error { return x.run(ctx) })
		if err != nil {
			x.result.Rows = 0
		}
		return x.result, err
	}
	return x.runPerRow(ctx)
}

// runPerRow runs the statement once for each row of parameters.
func (x *execution) runPerRow(ctx context.Context) (total ExecResult, err error) {
	parameters, id := x.options.Parameters, x.options.ID
	total = x.result
	for i := range parameters.NumRows() {
		x.options.Parameters = parameters.NewSlice(i, i+1)
		if id != "" {
			x.options.ID = rowID(id, i+1)
		}
		x.result.Rows, x.attempts = 0, 0
		err = commit.RetryStale(maxRewrites, func() error { return x.run(ctx) })
		x.options.Parameters.Release()
		if err != nil {
			return total, fmt.Errorf("row %d of the parameters failed, after %d rows were applied: %w", i+1, i, err)
		}
		total.Rows += x.result.Rows
		total.Version = x.result.Version
	}
	return total, nil
}

// run runs the statement once. It returns commit.ErrStale if the statement must run again.
func (x *execution) run(ctx context.Context) error {
	if !x.exists && x.statement.Verb != sqlwrite.CreateTable && x.statement.Verb != sqlwrite.CreateBucket {
		if x.statement.IfExists {
			return nil
		}
		return missingTable(ctx, x.store.cat, tableName{Namespace: namespaceOf(x.result.Bucket), Name: x.result.Table})
	}
	switch x.statement.Verb {
	case sqlwrite.Insert:
		return x.insert(ctx)
	case sqlwrite.CreateTable:
		return x.create(ctx)
	case sqlwrite.Update, sqlwrite.Delete, sqlwrite.Merge, sqlwrite.Truncate:
		return x.change(ctx)
	}
	return x.define(ctx)
}

// describeWrite implements Describe for statements that Exec runs.
func (s *Store) describeWrite(ctx context.Context, sql string, o *QueryOptions) (_ *QueryDescription, err error) {
	x := &execution{store: s, options: ExecOptions{Bucket: o.Bucket}}
	defer func() { wrapError(&err, "describe", x.result.Bucket, x.result.Table) }()
	x.statement, err = sqlwrite.Parse(sql)
	if err != nil {
		return nil, err
	}
	if err := x.locate(ctx); err != nil {
		return nil, err
	}
	d := &QueryDescription{Parameters: arrow.NewSchema(nil, nil)}
	switch x.statement.Verb {
	case sqlwrite.CreateTable:
		if x.statement.Query != "" {
			d, err = x.describe(ctx, x.statement.Query)
		}
	case sqlwrite.Insert:
		var query string
		query, err = x.insertQuery(ctx, x.statement, 0, 1)
		if err == nil && !x.needsParts(query) {
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

// Query runs one SELECT statement over the store's tables with Options.Engine and streams its result; see [Engine].
// Without an Engine, the error wraps errors.ErrUnsupported.
func (s *Store) Query(ctx context.Context, sql string, o *QueryOptions) (array.RecordReader, error) {
	s = s.orUnopened()
	if s.opts.Engine == nil {
		return nil, noEngine("query")
	}
	ctx, end := s.opts.begin(ctx, "query", cmp.Or(o, new(QueryOptions)).Bucket, "")
	r, err := s.opts.Engine.Query(ctx, s, sql, o)
	return s.opts.observe(r, err, end)
}

// Describe returns the parameters and columns of a statement; see [Engine]. For a statement that Exec runs, the only
// column is rows, the number of changed rows.
func (s *Store) Describe(ctx context.Context, sql string, o *QueryOptions) (*QueryDescription, error) {
	s = s.orUnopened()
	if s.opts.Engine == nil {
		return nil, noEngine("describe")
	}
	if IsWrite(sql) {
		return s.describeWrite(ctx, sql, cmp.Or(o, new(QueryOptions)))
	}
	return s.opts.Engine.Describe(ctx, s, sql, o)
}

func noEngine(op string) error {
	return &OpError{Op: op, Err: fmt.Errorf("%w: the store was opened without Options.Engine", errors.ErrUnsupported)}
}
