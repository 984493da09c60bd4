package rules

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// uniqueKeys finds rows that are equal in the given columns. It sorts the rows' keys, in temporary files if necessary.
type uniqueKeys struct {
	table      Table // reads the table's rows; nil if only the put's rows are compared
	inTable    bool  // the rule also compares with the table's rows
	columns    []string
	firstField arrow.Field // first of the columns
	sorter     *extsort.Sorter
	writer     *extsort.Writer
	buf        []byte

	lowKey, highKey   []byte // lowest and highest sort key of the put's values in the first column
	lowText, highText string // values that have these two keys, in the form that filter.Compare accepts
}

func newUniqueKeys(ctx context.Context, o Options, r Rule, stored *arrow.Schema) (u *uniqueKeys, err error) {
	for _, name := range r.Columns {
		if t := stored.Field(stored.FieldIndices(name)[0]).Type; arrow.IsNested(t.ID()) {
			return nil, schema.Errorf(name, "it has type %s, which cannot be unique", t)
		}
	}
	u = &uniqueKeys{inTable: r.InTable, columns: r.Columns, firstField: stored.Field(stored.FieldIndices(r.Columns[0])[0])}
	if r.InTable {
		u.table = o.Table
	}
	u.sorter, err = extsort.New(ctx, &extsort.Options{Memory: max(o.Memory, extsort.MinMemory), Threads: 1, KeepKeys: true})
	if err != nil {
		return nil, err
	}
	u.writer, err = u.sorter.Writer()
	if err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

func (u *uniqueKeys) close() {
	if u.sorter != nil {
		_ = u.sorter.Close() // this removes temporary files; if it fails, the next process removes them
		u.sorter = nil
	}
}

// add adds the keys of stored rows. firstRow is the index in the put of the batch's first row, or negative for the
// table's rows.
func (u *uniqueKeys) add(b arrow.RecordBatch, firstRow int64) error {
	columns := schema.Columns(b, u.columns)
	var record []byte
	appenders := make([]func(dst []byte, row int) []byte, len(columns))
	for i, c := range columns {
		appenders[i] = sorted.OrderKeyAppender(c)
	}
	lowest, highest := -1, -1 // rows with new lowest and highest keys; -1 if there are none
rows:
	for i := range int(b.NumRows()) {
		u.buf, record = u.buf[:0], record[:0]
		texts := make([]string, 0, len(columns))
		for columnIndex, c := range columns {
			if c.IsNull(i) {
				continue rows
			}
			u.buf = appenders[columnIndex](u.buf, i)
			if columnIndex == 0 && firstRow >= 0 && u.table != nil {
				if u.lowKey == nil || string(u.buf) < string(u.lowKey) {
					u.lowKey, lowest = append(u.lowKey[:0], u.buf...), i
				}
				if u.highKey == nil || string(u.buf) > string(u.highKey) {
					u.highKey, highest = append(u.highKey[:0], u.buf...), i
				}
			}
			if firstRow >= 0 {
				texts = append(texts, u.columns[columnIndex]+"="+shorten(c.ValueStr(i)))
			}
		}
		row := int64(-1)
		if firstRow >= 0 {
			row = firstRow + int64(i)
		}
		record = append(binary.BigEndian.AppendUint64(record, uint64(row)), strings.Join(texts, ", ")...)
		if err := u.writer.Add(u.buf, record); err != nil {
			return err
		}
	}
	if lowest >= 0 {
		u.lowText = valueText(columns[0], lowest)
	}
	if highest >= 0 {
		u.highText = valueText(columns[0], highest)
	}
	return nil
}

// valueText returns value i of a in the form that filter.Compare accepts.
func valueText(a arrow.Array, i int) string {
	if times, ok := a.(*array.Timestamp); ok {
		return filter.TimeText(times.Value(i).ToTime(a.DataType().(*arrow.TimestampType).Unit))
	}
	return strings.Clone(a.ValueStr(i)) // a clone, because the rows are released before the text is used
}

// tableRange returns a condition for the table's rows between the lowest and the highest key in the put. It returns nil
// if a condition cannot express that, for example because of NaN, or because keys of this type do not sort like the
// values.
func (u *uniqueKeys) tableRange() *filter.Expr {
	if !sorted.KeysInOrder(u.firstField.Type) {
		return nil
	}
	atLeast, err := filter.Compare(u.firstField, ">=", u.lowText)
	atMost, err2 := filter.Compare(u.firstField, "<=", u.highText)
	between := filter.And(atLeast, atMost)
	if errors.Join(err, err2) != nil {
		return nil
	}
	if _, err := between.Bind(arrow.NewSchema([]arrow.Field{u.firstField}, nil)); err != nil {
		return nil
	}
	return between
}

// finish counts the put's rows whose keys also occur in earlier rows of the put or in the table.
func (u *uniqueKeys) finish(ctx context.Context, r *ruleCheck) error {
	if u.table != nil && u.lowKey != nil {
		err := u.table(ctx, u.columns, u.tableRange(), func(b arrow.RecordBatch) error { return u.add(b, math.MinInt64) })
		if err != nil {
			return err
		}
	}
	if err := u.writer.Close(); err != nil {
		return err
	}
	addViolation := func(record []byte) {
		r.Count++
		r.Rows = append(r.Rows, BadRow{int64(binary.BigEndian.Uint64(record)) + 1, string(record[8:])})
		if len(r.Rows) >= 2*maxBadRows {
			trimRows(r)
		}
	}
	var firstRecord []byte // first row of the put with the current key; empty once it is counted
	for block, err := range u.sorter.Sorted() {
		if err != nil {
			return err
		}
		for i := range block.Len() {
			record := block.Record(i)
			inTable := int64(binary.BigEndian.Uint64(record)) < 0
			switch {
			case !block.SameKey(i) && !inTable:
				firstRecord = append(firstRecord[:0], record...)
			case !block.SameKey(i):
				firstRecord = firstRecord[:0]
			case !inTable:
				addViolation(record)
			case len(firstRecord) > 0:
				addViolation(firstRecord)
				firstRecord = firstRecord[:0]
			}
		}
	}
	trimRows(r)
	return nil
}

func trimRows(r *ruleCheck) {
	slices.SortFunc(r.Rows, func(a, b BadRow) int { return int(a.Row - b.Row) })
	r.Rows = r.Rows[:min(len(r.Rows), maxBadRows)]
}
