package lineprotocol

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
)

const (
	maxAttempts   = 10                    // maximum number of attempts of a Put, if others change the tables' columns at the same time
	conflictDelay = 20 * time.Millisecond // average delay before the second retry; the delays grow with the attempts
)

// Names returns the names of the measurements.
func (p *Points) Names() (names []string) {
	for _, m := range p.measurements {
		names = append(names, m.name)
	}
	return names
}

// Put appends the points to the tables of a bucket that have the names of the measurements, in one commit. A point that
// does not fit its table is an *Error.
func (p *Points) Put(ctx context.Context, store *tables.Store, bucket string) error {
	var last []*arrow.Schema
	for attempt := 1; ; attempt++ {
		stored := make([]*arrow.Schema, len(p.measurements))
		batches := make([]arrow.RecordBatch, len(p.measurements))
		for i, m := range p.measurements {
			var err error
			stored[i], err = columnsOf(ctx, store.Bucket(bucket).Table(m.name))
			if err != nil {
				return err
			}
			batches[i], err = p.batch(m, stored[i])
			if err != nil {
				return err
			}
		}
		err := p.put(ctx, store, bucket, batches)
		mismatch := (*tables.SchemaError)(nil)
		isMismatch := errors.As(err, &mismatch)
		switch {
		case isMismatch && attempt > 1 && sameSchemas(stored, last):
			return p.explain(err, mismatch)
		case !isMismatch && !errors.Is(err, tables.ErrConflict):
			return err
		case attempt == maxAttempts:
			return fmt.Errorf("%w: others kept changing the columns: %w", tables.ErrConflict, err)
		}
		last = stored // others may have added columns, or created the table
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(rand.N(time.Duration(attempt) * conflictDelay)):
		}
	}
}

// put puts one batch for each measurement. A single one can stay in the tail, which is faster than a transaction.
func (p *Points) put(ctx context.Context, store *tables.Store, bucket string, batches []arrow.RecordBatch) error {
	o := &tables.PutOptions{Settings: &tables.Settings{Time: timeColumn, Evolution: tables.AddOnly}}
	put := func(i int, f func(r array.RecordReader) error) error {
		r, err := array.NewRecordReader(batches[i].Schema(), batches[i:i+1])
		if err != nil {
			return err
		}
		defer r.Release()
		return f(r)
	}
	if len(batches) == 1 {
		return put(0, func(r array.RecordReader) error {
			_, err := store.Bucket(bucket).Table(p.measurements[0].name).Put(ctx, r, tables.PutAppend, o)
			return err
		})
	}
	return store.Update(ctx, func(txn *tables.Txn) error {
		for i, m := range p.measurements {
			if err := put(i, func(r array.RecordReader) error { return txn.Put(bucket, m.name, r, tables.PutAppend, o) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// columnsOf returns a table's columns, or nil if it does not exist.
func columnsOf(ctx context.Context, t *tables.Table) (*arrow.Schema, error) {
	current, err := t.At(ctx)
	if errors.Is(err, tables.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return current.Schema(ctx)
}

func sameSchemas(a, b []*arrow.Schema) bool {
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) || a[i] != nil && !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

// batch returns the rows of a measurement: the time, the tags and fields, and nulls for the other columns of the table,
// because a table with the setting add_only takes no row without them.
func (p *Points) batch(m *measurement, stored *arrow.Schema) (arrow.RecordBatch, error) {
	timeType := &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}
	if p.unit > 1 {
		timeType.Unit = arrow.Microsecond // which more programs can read
	}
	var missing []arrow.Field
	if stored != nil {
		for _, f := range stored.Fields() {
			t, isTimestamp := f.Type.(*arrow.TimestampType)
			if f.Name == timeColumn && isTimestamp {
				timeType = t
			} else if f.Name != timeColumn && m.byName[f.Name] == nil {
				missing = append(missing, f)
			}
		}
	}
	rows := len(m.times)
	if rows*len(missing) > maxCells {
		return nil, p.errorAt(m.points[0], "measurement %q: the table has %d columns that the %d points lack, which are too many nulls at a time: send fewer points at a time", m.name, len(missing), rows)
	}
	times, err := p.times(m, timeType)
	if err != nil {
		return nil, err
	}
	fields, arrays := []arrow.Field{{Name: timeColumn, Type: timeType}}, []arrow.Array{times}
	for _, c := range m.columns {
		fields, arrays = append(fields, arrow.Field{Name: c.name, Type: c.array.DataType(), Nullable: true}), append(arrays, c.array)
	}
	for _, f := range missing {
		fields, arrays = append(fields, f), append(arrays, array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, rows))
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), arrays, int64(rows)), nil
}

// times returns the times of the points in the unit of the table's column. It refuses a time that the unit cannot hold.
func (p *Points) times(m *measurement, t *arrow.TimestampType) (arrow.Array, error) {
	unit := int64(t.Unit.Multiplier() / time.Nanosecond)
	b := array.NewTimestampBuilder(memory.DefaultAllocator, t)
	b.Reserve(len(m.times))
	for i, n := range m.times {
		if n%unit != 0 {
			return nil, p.errorAt(m.points[i], "measurement %q: the time %d ns is not a whole number of %v, the unit of the table's column %q: round it", m.name, n, t.Unit, timeColumn)
		}
		b.UnsafeAppend(arrow.Timestamp(n / unit))
	}
	return b.NewArray(), nil
}

// explain returns the error of a put with the line, measurement and field that do not fit the table.
func (p *Points) explain(err error, mismatch *tables.SchemaError) error {
	op := (*tables.OpError)(nil)
	if !errors.As(err, &op) {
		return err
	}
	m := p.byName[op.Table]
	if m == nil {
		return err
	}
	point, what := m.points[0], fmt.Sprintf("column %q", mismatch.Column)
	if c := m.byName[mismatch.Column]; c != nil {
		point, what = c.first, c.String()
	}
	return p.errorAt(point, "measurement %q, %s: %w", m.name, what, mismatch.Err)
}
