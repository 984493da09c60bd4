package rules

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// uniqueKeys finds rows that are equal in some columns. It sorts their keys, in files if they do
// not fit in memory.
type uniqueKeys struct {
	table   Table // compare the rows of the put also with these; nil: do not
	inTable bool
	columns []string
	first   arrow.Field // the first key column
	sorter  *extsort.Sorter
	in      *extsort.Writer
	buf     []byte

	low, high       []byte       // bounds of the put's keys in the first column
	atLeast, atMost *filter.Expr // conditions for the column's bounds; nil if no condition can express them
}

func newUniqueKeys(ctx context.Context, o Options, r Rule, stored *arrow.Schema) (u *uniqueKeys, err error) {
	for _, name := range r.Columns {
		if t := stored.Field(stored.FieldIndices(name)[0]).Type; arrow.IsNested(t.ID()) {
			return nil, schema.Errorf(name, "it has type %s, which cannot be unique", t)
		}
	}
	u = &uniqueKeys{inTable: r.InTable, columns: r.Columns, first: stored.Field(stored.FieldIndices(r.Columns[0])[0])}
	if r.InTable {
		u.table = o.Table
	}
	if u.sorter, err = extsort.New(ctx, &extsort.Options{Memory: max(o.Memory, extsort.MinMemory), Threads: 1, KeepKeys: true}); err != nil {
		return nil, err
	}
	if u.in, err = u.sorter.Writer(); err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

func (u *uniqueKeys) close() {
	if u.sorter != nil {
		_ = u.sorter.Close() // removes only temporary files, which the next run would remove otherwise
		u.sorter = nil
	}
}

// add adds the keys of a batch of stored rows. first is the number of the batch's first row in the
// put, and negative for rows of the table.
func (u *uniqueKeys) add(b arrow.RecordBatch, first int64) error {
	var columns []arrow.Array
	for _, name := range u.columns {
		columns = append(columns, b.Column(b.Schema().FieldIndices(name)[0]))
	}
	var record []byte
	lowest, highest := -1, -1 // rows with new bounds of the first column
rows:
	for i := range int(b.NumRows()) {
		u.buf, record = u.buf[:0], record[:0]
		texts := make([]string, 0, len(columns))
		for at, c := range columns {
			if c.IsNull(i) {
				continue rows
			}
			u.buf = sorted.AppendKey(u.buf, c, i)
			if at == 0 && first >= 0 && u.table != nil {
				if u.low == nil || string(u.buf) < string(u.low) {
					u.low, lowest = append(u.low[:0], u.buf...), i
				}
				if u.high == nil || string(u.buf) > string(u.high) {
					u.high, highest = append(u.high[:0], u.buf...), i
				}
			}
			if first >= 0 {
				texts = append(texts, u.columns[at]+"="+shortened(c.ValueStr(i)))
			}
		}
		row := int64(-1)
		if first >= 0 {
			row = first + int64(i)
		}
		record = append(binary.BigEndian.AppendUint64(record, uint64(row)), strings.Join(texts, ", ")...)
		if err := u.in.Add(u.buf, record); err != nil {
			return err
		}
	}
	if lowest >= 0 {
		u.atLeast, _ = bounds(u.columns[0], columns[0], lowest)
	}
	if highest >= 0 {
		_, u.atMost = bounds(u.columns[0], columns[0], highest)
	}
	return nil
}

// bounds returns the conditions that a column is at least, and at most, a value of an array. It
// returns nil for types whose keys do not sort like values.
func bounds(column string, a arrow.Array, i int) (atLeast, atMost *filter.Expr) {
	switch a := a.(type) {
	case *array.Int32:
		return both(column, a.Value(i))
	case *array.Int64:
		return both(column, a.Value(i))
	case *array.Float32:
		return both(column, a.Value(i))
	case *array.Float64:
		return both(column, a.Value(i))
	case *array.String:
		return both(column, strings.Clone(a.Value(i))) // cloned, because the rows are released first
	case *array.Date32:
		return both(column, a.Value(i).ToTime())
	case *array.Timestamp:
		return both(column, a.Value(i).ToTime(a.DataType().(*arrow.TimestampType).Unit))
	case *array.Time64:
		return both(column, a.Value(i).FormattedString(a.DataType().(*arrow.Time64Type).Unit))
	}
	return nil, nil
}

func both[V filter.Value](column string, v V) (atLeast, atMost *filter.Expr) {
	return filter.Ge(column, v), filter.Le(column, v)
}

// end finds the put's rows whose keys occur in earlier rows or in the table.
func (u *uniqueKeys) end(ctx context.Context, r *ruleCheck) error {
	if u.table != nil && u.low != nil { // only between the smallest and the largest value of the put
		between := filter.And(u.atLeast, u.atMost)
		if _, err := between.Bind(arrow.NewSchema([]arrow.Field{u.first}, nil)); err != nil {
			between = nil // for example, for a NaN or a year that text cannot express; then all rows are compared
		}
		err := u.table(ctx, u.columns, between, func(b arrow.RecordBatch) error { return u.add(b, math.MinInt64) })
		if err != nil {
			return err
		}
	}
	if err := u.in.Close(); err != nil {
		return err
	}
	bad := func(record []byte) {
		r.Count++
		r.Rows = append(r.Rows, BadRow{int64(binary.BigEndian.Uint64(record)) + 1, string(record[8:])})
		if len(r.Rows) >= 2*maxBadRows {
			firstRows(r)
		}
	}
	var first []byte // the first row of the put with the current key, until it is counted as bad
	for block, err := range u.sorter.Sorted() {
		if err != nil {
			return err
		}
		for i := range block.Len() {
			record := block.Record(i)
			ofTable := int64(binary.BigEndian.Uint64(record)) < 0
			switch {
			case !block.SameKey(i) && !ofTable:
				first = append(first[:0], record...)
			case !block.SameKey(i):
				first = first[:0]
			case !ofTable:
				bad(record)
			case len(first) > 0:
				bad(first)
				first = first[:0]
			}
		}
	}
	firstRows(r)
	return nil
}

// firstRows keeps only the first of the bad rows.
func firstRows(r *ruleCheck) {
	slices.SortFunc(r.Rows, func(a, b BadRow) int { return int(a.Row - b.Row) })
	r.Rows = r.Rows[:min(len(r.Rows), maxBadRows)]
}
