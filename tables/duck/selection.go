//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
)

// maxSelectRows is the maximum number of rows in files that selectRows examines, unless the caller reads all rows.
// DuckDB is faster for more rows, and its process yields to other statements.
const maxSelectRows = 2 * rowGroupRows

// addResult caches the result columns of a Selection, which selectRows needs to run the statement.
func (q *query) addResult(st prepared, result *arrow.Schema) {
	if shape := shapeOf(q.tables); st.selection != nil && (st.result == nil || st.shape != shape) {
		st.shape, st.result, st.description = shape, result, nil
		q.e.statements.add(st)
	}
}

// selectRows runs a statement without DuckDB. It returns nil if the statement is not a Selection, if DuckDB has not yet
// described its result, or if DuckDB may be faster or may compare or return values in another way.
func (q *query) selectRows(ctx context.Context, st prepared) (array.RecordReader, error) {
	s := st.selection
	if s == nil || st.result == nil || st.shape != shapeOf(q.tables) || q.o.Target != nil || q.o.Memory != 0 || q.e.pool.isClosed() {
		return nil, nil
	}
	t := q.tables[0]
	if t.catalog == database.Changes || t.copied || t.plan.KeyColumns != nil {
		return nil, nil
	}
	indices := make(map[string]int, len(t.columns)) // by name in lower case
	for i, c := range t.columns {
		indices[strings.ToLower(c.name)] = i
	}
	where, ok := q.condition(s, indices)
	switch {
	case !ok:
		return nil, nil
	case s.CountsAll:
		return q.countResult(ctx, st.result)
	case t.plan.OnlyDeletes: // DuckDB returns the rows in another order, as with KeyColumns
		return nil, nil
	}
	selected := s.Columns
	if selected == nil {
		selected = schema.Names(t.plan.Schema)
	}
	names := make([]string, len(selected))
	if len(names) != st.result.NumFields() {
		return nil, nil
	}
	for i, name := range selected {
		name = strings.ToLower(name)
		column, exists := indices[name]
		if !exists || !t.isReadAs(column, st.result.Field(i).Type) {
			return nil, nil
		}
		delete(indices, name) // a scan returns each column once
		names[i] = t.columns[column].name
	}
	maxRows := int64(maxSelectRows)
	switch {
	case t.plan.NeedsScan: // DuckDB would read a copy of all rows
		maxRows = 0
	case where == nil && q.o.Recycle: // all rows are sent
		maxRows = math.MaxInt64
	}
	rows, err := t.plan.Select(ctx, names, where, maxRows, q.o.Recycle)
	if rows == nil || err != nil {
		return nil, err
	}
	next := func() (arrow.RecordBatch, error) {
		if !rows.Next() {
			return nil, q.wrapError(ctx, "query", rows.Err())
		}
		b := rows.RecordBatch()
		for _, c := range b.Columns() {
			if err := schema.CheckArray(c); err != nil { // DuckDB returns errors for such values
				return nil, q.wrapError(ctx, "query", err)
			}
		}
		return array.NewRecordBatch(st.result, b.Columns(), b.NumRows()), nil
	}
	return batches.Reader(st.result, batches.Until(next), func() {
		rows.Release()
		q.close()
	}), nil
}

// countResult returns the number of all rows as the result of a statement, or nil if the plan does not contain this
// number.
func (q *query) countResult(ctx context.Context, result *arrow.Schema) (array.RecordReader, error) {
	plan := q.tables[0].plan
	if plan.NeedsScan && !plan.OnlyDeletes || result.NumFields() != 1 || result.Field(0).Type.ID() != arrow.INT64 {
		return nil, nil
	}
	count := int64(0)
	for _, f := range plan.Files {
		count += f.Rows
		if f.Rows < 0 || count < 0 {
			return nil, nil // a manifest from another program can contain any count
		}
	}
	if plan.OnlyDeletes {
		deleted, err := q.e.scratch.deletedRows(ctx, plan, q.e.opts.Memory/4)
		if err != nil {
			return nil, q.wrapError(ctx, "query", err)
		}
		defer deleted.release()
		if deleted.bitmaps == nil || deleted.rows > count {
			return nil, nil
		}
		count -= deleted.rows
	}
	for _, b := range plan.Tail {
		count += b.NumRows()
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Append(count)
	batch := array.NewRecordBatch(result, []arrow.Array{b.NewArray()}, 1)
	return batches.Reader(result, func(yield func(arrow.RecordBatch, error) bool) { yield(batch, nil) }, q.close), nil
}

// isReadAs reports whether a scan returns the same values of a column as DuckDB, which returns the type described.
func (t *boundTable) isReadAs(column int, described arrow.DataType) bool {
	typ, stored := t.plan.Schema.Field(column).Type, t.plan.Stored.Field(column).Type
	if arrow.IsNested(typ.ID()) || typ.ID() == arrow.EXTENSION || !arrow.TypeEqual(typ, described) {
		return false
	}
	return arrow.TypeEqual(typ, stored) || arrow.IsSignedInteger(typ.ID())
}

// condition returns the condition of a Selection, with the literals and parameters of the query. ok is false unless
// each of them is a whole number or a text that is a possible value of its column. indices contains the index of each
// column, by its name in lower case.
func (q *query) condition(s *database.Selection, indices map[string]int) (where *filter.Expr, ok bool) {
	literals, parameters := q.literals, []arrow.Array{}
	if q.o.Parameters != nil {
		parameters = q.o.Parameters.Columns()
	}
	if len(s.Where) != len(literals)+len(parameters) || q.o.Parameters != nil && q.o.Parameters.NumRows() != 1 {
		return nil, false
	}
	for _, e := range s.Where {
		var l sqlwrite.Literal
		if e.IsParameter {
			l, parameters = literalOf(parameters[0]), parameters[1:]
		} else {
			l, literals = literals[0], literals[1:]
		}
		i, exists := indices[strings.ToLower(e.Column)]
		if !exists {
			return nil, false
		}
		f := q.tables[0].plan.Schema.Field(i)
		switch row := arrowtype.Of(f.Type); {
		case l.IsText:
			ok = f.Type.ID() == arrow.STRING && utf8.ValidString(l.Value) && !strings.Contains(l.Value, "\x00")
		case row.Kind == arrowtype.Integer && !row.IsUnsigned():
			_, err := strconv.ParseInt(l.Value, 10, f.Type.(arrow.FixedWidthDataType).BitWidth())
			ok = err == nil
		default:
			ok = false
		}
		if !ok {
			return nil, false
		}
		equal, err := filter.Compare(f, "=", l.Value)
		if err != nil {
			return nil, false
		}
		where = filter.And(where, equal)
	}
	return where, true
}

// literalOf returns the first value of an array if it is a whole number or a text. Otherwise, its Value is not a
// number.
func literalOf(a arrow.Array) (l sqlwrite.Literal) {
	_, l.IsText = a.(array.StringLike)
	if l.IsText || arrow.IsInteger(a.DataType().ID()) {
		l.Value, l.IsText = a.ValueStr(0), l.IsText && a.IsValid(0)
	}
	return l
}
