//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/database"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sqlwrite"
)

// maxSelectRows limits the rows of files that selectRows examines, unless the caller reads all of them. DuckDB examines
// more rows faster, in a process that yields to other statements.
const maxSelectRows = 2 * rowGroupRows

// findStatement returns the cached statement with the given SQL, or with the same template if it is a Selection. Otherwise,
// found is false, and the result contains only the key under which addNames caches the statement.
func (q *query) findStatement(key statement) (st prepared, found bool) {
	if st, found = q.e.statements.find(key); found {
		return st, true
	}
	template := key
	if template.sql, q.literals = sqlwrite.CutLiterals(key.sql); q.literals == nil {
		return st, false
	}
	if st, found = q.e.statements.find(template); !found {
		st.statement = key
	}
	return st, found
}

// addNames caches a parsed statement: a Selection with its template, because only literals in its conditions can differ
// between statements of this template.
func (q *query) addNames(st *prepared, names []database.Name) {
	st.names = names
	if s := st.selection(); s != nil && len(s.Literals())+len(q.literals) > 0 {
		if slices.Equal(s.Literals(), q.literals) {
			st.sql, _ = sqlwrite.CutLiterals(st.sql)
		} else {
			names[0].Selection = nil
		}
	}
	q.e.statements.add(*st)
}

// selection returns the Selection of a statement, or nil. Its literals can be those of another statement.
func (p *prepared) selection() *database.Selection {
	if len(p.names) == 0 {
		return nil
	}
	return p.names[0].Selection
}

// addResult caches the columns of a Selection's result, with which selectRows can run the statement.
func (q *query) addResult(st prepared, result *arrow.Schema) {
	if shape := shapeOf(q.tables); st.selection() != nil && (st.result == nil || st.shape != shape) {
		st.shape, st.result, st.description = shape, result, nil
		q.e.statements.add(st)
	}
}

// selectRows runs a statement without DuckDB. It returns nil if the statement is no Selection, if DuckDB has not yet
// described its result, or if DuckDB may be faster or may compare or return values in another way.
func (q *query) selectRows(ctx context.Context, st prepared) (array.RecordReader, error) {
	s := st.selection()
	if s == nil || st.result == nil || st.shape != shapeOf(q.tables) || q.o.Target != nil || q.o.Memory != 0 || q.e.isClosed() {
		return nil, nil
	}
	t := q.tables[0]
	if t.catalog == database.Changes || t.copied || t.plan.OnlyDeletes || t.plan.KeyColumns != nil { // the last two have another order in DuckDB
		return nil, nil
	}
	where, ok := q.condition(s)
	if !ok {
		return nil, nil
	}
	if s.CountsAll {
		if t.plan.NeedsScan {
			return nil, nil
		}
		return q.counted(st.result), nil
	}
	var names []string // without duplicates
	var indices []int  // of the result's columns in names
	for i, f := range st.result.Fields() {
		column := i
		if s.Columns != nil {
			column = t.columnIndex(s.Columns[i])
		}
		if column < 0 || !t.isReadAs(column, f.Type) {
			return nil, nil
		}
		name := t.columns[column].name
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		indices = append(indices, slices.Index(names, name))
	}
	maxRows := int64(maxSelectRows)
	if t.plan.NeedsScan || where == nil && q.o.Recycle { // DuckDB would read a copy of all rows, or all rows are sent
		maxRows = 0
	}
	rows, err := t.plan.Select(ctx, names, where, maxRows, q.o.Recycle)
	if rows == nil || err != nil {
		return nil, err
	}
	batches := arrowsafe.Each(rows, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		columns := make([]arrow.Array, len(indices))
		for i, index := range indices {
			columns[i] = b.Column(index)
			if err := schema.CheckArray(columns[i]); err != nil { // DuckDB returns errors for such values, too
				return nil, err
			}
		}
		return array.NewRecordBatch(st.result, columns, b.NumRows()), nil
	})
	return arrowsafe.Reader(st.result, func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range batches {
			if !yield(b, q.wrapError(ctx, "query", err)) {
				return
			}
		}
	}, func() {
		rows.Release()
		q.close()
	}), nil
}

// counted returns the number of all rows as the result of a statement.
func (q *query) counted(result *arrow.Schema) array.RecordReader {
	plan := q.tables[0].plan
	count := int64(0)
	for _, f := range plan.Files {
		if count += f.Rows; f.Rows < 0 || count < 0 {
			return nil // a manifest from another program can contain any count
		}
	}
	for _, b := range plan.Tail {
		count += b.NumRows()
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, result)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).Append(count)
	batch := b.NewRecordBatch()
	return arrowsafe.Reader(result, func(yield func(arrow.RecordBatch, error) bool) { yield(batch, nil) }, q.close)
}

// columnIndex returns the index of the column with the given name in any case, or -1.
func (t *boundTable) columnIndex(name string) int {
	name = strings.ToLower(name)
	return slices.IndexFunc(t.columns, func(c column) bool { return strings.ToLower(c.name) == name })
}

// isReadAs reports whether a scan returns the same values of a column as DuckDB, which returns the type described.
func (t *boundTable) isReadAs(column int, described arrow.DataType) bool {
	typ, stored := t.plan.Schema.Field(column).Type, t.plan.Stored.Field(column).Type
	if arrow.IsNested(typ.ID()) || typ.ID() == arrow.EXTENSION || !arrow.TypeEqual(typ, described) {
		return false
	}
	return arrow.TypeEqual(typ, stored) || arrow.IsSignedInteger(typ.ID())
}

// condition returns the condition of a Selection, with the literals and parameters of the query. ok is false unless each
// of them is a whole number or a text that is a possible value of its column.
func (q *query) condition(s *database.Selection) (where *filter.Expr, ok bool) {
	literals, parameter := q.literals, 0
	parameterCount := len(s.Where) - len(s.Literals())
	if p := q.o.Parameters; p != nil && (p.NumRows() != 1 || int(p.NumCols()) != parameterCount) || p == nil && parameterCount > 0 {
		return nil, false
	}
	var all []*filter.Expr
	for _, e := range s.Where {
		var l sqlwrite.Literal
		if e.IsParameter {
			if l, ok = literalOf(q.o.Parameters.Column(parameter)); !ok {
				return nil, false
			}
			parameter++
		} else {
			l, literals = literals[0], literals[1:]
		}
		i := q.tables[0].columnIndex(e.Column)
		if i < 0 {
			return nil, false
		}
		f := q.tables[0].plan.Schema.Field(i)
		if l.IsText {
			ok = f.Type.ID() == arrow.STRING && utf8.ValidString(l.Value) && !strings.Contains(l.Value, "\x00")
		} else {
			ok = arrow.IsSignedInteger(f.Type.ID()) && fits(l.Value, f.Type.(arrow.FixedWidthDataType).BitWidth())
		}
		if !ok {
			return nil, false
		}
		equal, err := filter.Compare(f, "=", l.Value)
		if err != nil {
			return nil, false
		}
		all = append(all, equal)
	}
	return filter.And(all...), true
}

func fits(number string, bits int) bool {
	_, err := strconv.ParseInt(number, 10, bits)
	return err == nil
}

// literalOf returns the first value of an array. ok is false unless it is a whole number or a text.
func literalOf(a arrow.Array) (l sqlwrite.Literal, ok bool) {
	if a.IsNull(0) {
		return l, false
	}
	if _, l.IsText = a.(array.StringLike); !l.IsText && !arrow.IsInteger(a.DataType().ID()) {
		return l, false
	}
	l.Value = a.ValueStr(0)
	return l, true
}
