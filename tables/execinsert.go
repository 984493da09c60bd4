package tables

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
)

func (x *execution) insert(ctx context.Context) error {
	if applied, err := x.wasApplied(ctx); applied || err != nil {
		return err
	}
	query, err := x.insertQuery(ctx, x.statement, 0, 1)
	if err != nil {
		return err
	}
	rows, err := x.insertedRows(ctx, query)
	if err != nil {
		return err
	}
	rows = castRows(rows, x.logical)
	defer rows.Release()
	return x.put(ctx, rows, PutAppend, &PutOptions{MustExist: true})
}

// castRows converts a query's rows to the types of a table's columns. Releasing the returned reader releases rows.
func castRows(rows array.RecordReader, columns *arrow.Schema) array.RecordReader {
	to := schema.FromSQL(rows.Schema(), columns)
	return batches.Reader(to, batches.Each(rows, func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return schema.CastSQL(b, to) }), rows.Release)
}

// insertQuery returns the query for an INSERT's rows. It repeats VALUES numSets times, with setSize parameters each.
func (x *execution) insertQuery(ctx context.Context, st *sqlwrite.Statement, setSize, numSets int) (string, error) {
	columns, err := x.columns(ctx)
	if err != nil {
		return "", err
	}
	var names []string
	if st.Query != "" {
		names, err = x.resultNames(ctx, st.Query)
		if err != nil {
			return "", err
		}
	}
	return st.InsertQuery(columns, names, setSize, numSets)
}

func (x *execution) resultNames(ctx context.Context, query string) (names []string, err error) {
	d, err := x.describe(ctx, query)
	if err != nil {
		return nil, err
	}
	// DuckDB describes a query with an untyped parameter only as one column, unknown.
	if d.Result.NumFields() == 1 && d.Result.Field(0).Name == "unknown" && x.statement.HasParameters {
		d, err = x.describe(ctx, sqlwrite.NullParameters(query))
		if err != nil {
			return nil, err
		}
	}
	return schema.Names(d.Result), nil
}

// Limits on each query of an INSERT … VALUES that needs several queries.
const (
	maxQueryBytes      = 64 << 10 // approximate length, in bytes
	maxQueryParameters = 4096     // number of parameters
)

// needsParts reports whether query, the query of an INSERT, is too long and must be split. Only a query without
// parameters can be split, because the parts could not share them.
func (x *execution) needsParts(query string) bool {
	return x.statement.Values != nil && !x.statement.HasParameters && len(query) > sqlwrite.MaxSQL
}

// partQuery returns a query for rows [from, to) of VALUES: step rows, or fewer if the query would be too long.
func (x *execution) partQuery(ctx context.Context, from, step int64) (query string, to int64, err error) {
	part := *x.statement
	for to = min(from+step, int64(len(x.statement.Values))); ; to = from + (to-from)/2 {
		part.Values = x.statement.Values[from:to]
		query, err = x.insertQuery(ctx, &part, 0, 1)
		if err != nil || len(query) <= sqlwrite.MaxSQL || to-from == 1 {
			return query, to, err
		}
	}
}

// insertedRows returns an INSERT's rows. query is for one row of parameters. The caller must release the reader.
func (x *execution) insertedRows(ctx context.Context, query string) (array.RecordReader, error) {
	parameters, total := x.options.Parameters, int64(len(x.statement.Values))
	options := x.queryOptions()
	options.KeepsNanoseconds = slices.ContainsFunc(x.logical.Fields(), func(f arrow.Field) bool {
		isAssigned := x.statement.Columns == nil || slices.ContainsFunc(x.statement.Columns, func(name string) bool { return strings.EqualFold(name, f.Name) })
		return isAssigned && schema.ContainsType(f.Type, schema.IsZonedNanos)
	})
	hasParameterRows := x.statement.Query == "" && parameters != nil && parameters.NumRows() > 1
	if hasParameterRows {
		total = parameters.NumRows()
	} else if !x.needsParts(query) {
		return x.query(ctx, query, options)
	}
	openPart := func(from int64) (r array.RecordReader, to int64, err error) {
		o := *options
		var q string
		if hasParameterRows {
			setSize := int(parameters.NumCols())
			to = min(from+int64(max(1, min(maxQueryBytes/len(query), maxQueryParameters/max(1, setSize)))), total)
			o.Parameters = joinSets(parameters.NewSlice(from, to))
			defer o.Parameters.Release()
			q, err = x.insertQuery(ctx, x.statement, setSize, int(to-from))
		} else {
			q, to, err = x.partQuery(ctx, from, max(1, total*maxQueryBytes/int64(len(query))))
		}
		if err != nil {
			return r, to, err
		}
		r, err = x.query(ctx, q, &o)
		return r, to, err
	}
	r, next, err := openPart(0)
	if err != nil {
		return nil, err
	}
	columns := r.Schema()
	return batches.Reader(columns, func(yield func(arrow.RecordBatch, error) bool) {
		for {
			for b, err := range batches.Of(r) {
				if err == nil && !b.Schema().Equal(columns) {
					b.Release()
					err = errors.New("the rows have values of different types: cast them")
				}
				if err != nil {
					yield(nil, withoutPosition(err))
					return
				}
				if !yield(b, nil) {
					return
				}
			}
			r.Release()
			r = nil
			if next == total {
				return
			}
			r, next, err = openPart(next)
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}, func() {
		if r != nil {
			r.Release()
		}
	}), nil
}

// joinSets returns a single row that contains the values of all rows of sets, row by row. It releases sets.
func joinSets(sets arrow.RecordBatch) arrow.RecordBatch {
	defer sets.Release()
	var fields []arrow.Field
	var columns []arrow.Array
	for row := range sets.NumRows() {
		for i, f := range sets.Schema().Fields() {
			if sets.NumRows() > 1 {
				f.Name = sqlwrite.RepeatedName(f.Name, int(sets.NumCols()), int(row))
			}
			fields = append(fields, f)
			columns = append(columns, array.NewSlice(sets.Column(i), row, row+1))
		}
	}
	defer func() { take.Release(columns) }()
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, 1)
}

// put puts the rows of an INSERT or a CREATE TABLE, unless the statement is a dry run.
func (x *execution) put(ctx context.Context, rows array.RecordReader, m PutMode, o *PutOptions) (err error) {
	counted := &batches.Counted{RecordReader: rows}
	if x.options.DryRun {
		for counted.Next() {
		}
		err = counted.Err()
	} else {
		o.ID = x.options.ID
		if o.ID != "" && x.statement.Values == nil {
			o.rows, o.checksum = &counted.Rows, x.checksum()
		}
		x.result.Version, err = x.table.Put(ctx, counted, m, o)
	}
	if err != nil {
		return withoutPosition(err)
	}
	x.result.Rows = counted.Rows
	if !x.options.DryRun {
		x.exists = true
		_, err = x.wasApplied(ctx) // sets the result if a concurrent statement with the same ID was applied first
	}
	return err
}

func (x *execution) create(ctx context.Context) error {
	if applied, err := x.wasApplied(ctx); applied || err != nil {
		return err
	}
	mode := PutError
	switch {
	case x.statement.OrReplace:
		mode = PutReplace
	case x.exists && x.statement.IfNotExists:
		return nil
	case x.exists:
		return fmt.Errorf("%w: use CREATE OR REPLACE TABLE, or IF NOT EXISTS", ErrExists)
	}
	o := &PutOptions{Settings: &Settings{}}
	switch {
	case x.exists && x.options.DryRun:
		info, err := x.table.Info(ctx)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		x.result.Replaced = info.Rows
	case x.exists && x.statement.Query != "":
		var err error
		o.basis, err = x.foldTarget(ctx)
		if err != nil {
			return err
		}
	}
	rows, err := x.createdRows(ctx)
	if err != nil {
		return err
	}
	defer rows.Release()
	err = x.put(ctx, rows, mode, o)
	if errors.Is(err, ErrExists) && x.statement.IfNotExists { // the table was created concurrently
		x.result.Rows, err = 0, nil
	}
	return err
}

// foldTarget folds the tail of the statement's table and returns the table, or nil if it is missing or damaged.
func (x *execution) foldTarget(ctx context.Context) (*table.Table, error) {
	e, release, err := x.table.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := e.LockCommits(ctx); err != nil {
		return nil, err
	}
	defer e.Commits.Unlock()
	t, err := e.FoldAll(ctx)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
		return nil, nil
	}
	return t, err
}

func (x *execution) createdRows(ctx context.Context) (array.RecordReader, error) {
	if x.statement.Query != "" {
		return x.query(ctx, x.statement.Query, x.queryOptions())
	}
	columns, err := x.listedColumns(ctx)
	if err != nil {
		return nil, err
	}
	return batches.Reader(columns, func(func(arrow.RecordBatch, error) bool) {}, func() {}), nil
}

// listedColumns returns the columns that the statement lists. It returns an error if SQL would show other types for the
// table's columns than those listed, because such columns would accept other values.
func (x *execution) listedColumns(ctx context.Context) (*arrow.Schema, error) {
	d, err := x.describe(ctx, x.statement.TypesQuery())
	if err != nil {
		return nil, err
	}
	declaredTypes, err := x.typeNames(ctx, x.statement)
	if err != nil {
		return nil, err
	}
	fields := d.Result.Fields()
	for i, name := range declaredTypes {
		if name == "UUID" { // in results, UUIDs are strings
			fields[i].Type = extensions.NewUUIDType()
		}
	}
	columns := arrow.NewSchema(fields, nil)
	storedSchema, err := schema.Stored(columns)
	if err != nil {
		return nil, err
	}
	types, err := x.typeNames(ctx, &sqlwrite.Statement{NewColumns: x.store.sqlColumns(schema.WithoutEncodings(columns), storedSchema)})
	for i, name := range types {
		if arrayLength.ReplaceAllString(declaredTypes[i], "[]") != arrayLength.ReplaceAllString(name, "[]") {
			return nil, schema.Errorf(fields[i].Name, "tables have no type %s: use another type, such as %s", declaredTypes[i], name)
		}
	}
	return columns, err
}

var arrayLength = regexp.MustCompile(`\[\d+\]`) // the length of a fixed-size array, which a stored column may lack

// typeNames returns DuckDB's names for the column types that a statement lists.
func (x *execution) typeNames(ctx context.Context, st *sqlwrite.Statement) (names []string, err error) {
	r, err := x.query(ctx, "DESCRIBE "+st.TypesQuery(), &QueryOptions{Bucket: x.options.Bucket})
	if err != nil {
		return nil, err
	}
	defer r.Release()
	for r.Next() {
		for i := range int(r.RecordBatch().NumRows()) {
			names = append(names, strings.Clone(r.RecordBatch().Column(1).ValueStr(i)))
		}
	}
	return names, r.Err()
}
