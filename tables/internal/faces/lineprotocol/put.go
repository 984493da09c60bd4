package lineprotocol

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/arrowtype"
)

const (
	maxNulls      = 64 << 20              // maximum memory, in bytes, for nulls in table columns that the points lack
	maxAttempts   = 10                    // maximum number of attempts of a Put while others change the tables
	conflictDelay = 20 * time.Millisecond // maximum delay before the first retry; grows by as much with each attempt
)

// Names returns the names of the measurements.
func (p *Points) Names() (names []string) {
	for _, m := range p.measurements {
		names = append(names, m.name)
	}
	return names
}

// Put appends the points of each measurement to the table with its name in a bucket, all in one commit. Unless id is
// "", it skips tables to which a put with the same id was already applied. A point that does not fit its table is an
// error of kind kinds.Line. Put calls acquire, which waits for permission to run, only after reserving its memory.
// A put that may run thus never waits for memory of puts that wait in acquire.
func (p *Points) Put(ctx context.Context, store *tables.Store, bucket, id string, acquire func(context.Context) (release func(), err error)) (err error) {
	var last []*arrow.Schema
	for attempt := 1; ; attempt++ {
		stored := make([]*arrow.Schema, len(p.measurements))
		for i, m := range p.measurements {
			stored[i], err = columnsOf(ctx, store.Bucket(bucket).Table(m.name))
			if err != nil {
				return err
			}
		}
		batches, err := p.batches(stored)
		if err != nil {
			return err
		}
		if attempt == 1 {
			release, err := acquire(ctx)
			if err != nil {
				return err
			}
			defer release()
		}
		err = p.put(ctx, store, bucket, id, batches)
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
		last = stored // others may have added columns or created the table
		if err := canceled.Wait(ctx, time.After(rand.N(time.Duration(attempt)*conflictDelay))); err != nil {
			return err
		}
	}
}

// put puts one batch for each measurement. It puts a single batch without a transaction, which is faster.
func (p *Points) put(ctx context.Context, store *tables.Store, bucket, id string, batches []arrow.RecordBatch) error {
	o := &tables.PutOptions{ID: id, Settings: &tables.Settings{Time: timeColumn, Evolution: tables.AddOnly}}
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

// columnsOf returns a table's columns, or nil if the table does not exist.
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

// batches returns one batch for each measurement; stored contains the columns of the tables. A batch has nulls in table
// columns that its points lack, because a table with the setting add_only rejects rows without them.
func (p *Points) batches(stored []*arrow.Schema) (_ []arrow.RecordBatch, err error) {
	missing := make([][]arrow.Field, len(stored))
	var nulls int64
	for i, m := range p.measurements {
		missing[i], err = p.missing(m, stored[i])
		if err != nil {
			return nil, err
		}
		for _, f := range missing[i] {
			nulls += int64(len(m.times)) * nullSize(f.Type)
			if nulls > maxNulls {
				return nil, p.errorAt(m.points[0], "measurement %.100q: the table has %d columns that the %d points lack, so that the nulls for the body would need more than %d MiB: send fewer points at a time", m.name, len(missing[i]), len(m.times), maxNulls>>20)
			}
		}
	}
	if err := p.reserve(p.memory() + nulls); err != nil {
		return nil, err
	}
	batches := make([]arrow.RecordBatch, len(stored))
	for i, m := range p.measurements {
		batches[i], err = p.batch(m, stored[i], missing[i])
		if err != nil {
			return nil, err
		}
	}
	return batches, nil
}

// missing returns the columns of a table that a measurement's points lack. It rejects names that differ from a column's
// only in case.
func (p *Points) missing(m *measurement, stored *arrow.Schema) (missing []arrow.Field, err error) {
	if stored == nil {
		return nil, nil
	}
	for _, f := range stored.Fields() {
		if f.Name == timeColumn || m.byName[f.Name] != nil {
			continue
		}
		lower := strings.ToLower(f.Name)
		if lower == timeColumn && !stored.HasField(timeColumn) {
			return nil, p.errorAt(m.points[0], "measurement %.100q: the table's column %.100q differs from %q, the timestamp column, only in case: rename it", m.name, f.Name, timeColumn)
		}
		if c := m.byLower[lower]; c != nil && !stored.HasField(c.name) {
			return nil, p.errorAt(c.first, "measurement %.100q: %s and the table's column %.100q differ only in case, so SQL cannot distinguish them: rename one of them", m.name, c, f.Name)
		}
		missing = append(missing, f)
	}
	return missing, nil
}

// nullSize returns an upper bound on the memory for a null, in bytes. It returns at most maxNulls+1, so that sums do
// not overflow.
func nullSize(t arrow.DataType) int64 {
	size := int64(16) // for types of variable length, of which views are the largest
	list, isFixedList := t.(*arrow.FixedSizeListType)
	dictionary, isDictionary := t.(*arrow.DictionaryType)
	fixed, isFixed := t.(arrow.FixedWidthDataType)
	switch kind := arrowtype.KindOf(t); {
	case kind == arrowtype.Extension || kind == arrowtype.UUID:
		return nullSize(arrowtype.Inner(t))
	case isFixedList:
		size = int64(list.Len()) * nullSize(list.Elem())
	case kind == arrowtype.Struct:
		size = 0
		for _, f := range arrowtype.Fields(t) {
			size += nullSize(f.Type)
		}
	case isDictionary:
		size = nullSize(dictionary.IndexType) + nullSize(dictionary.ValueType)
	case isFixed:
		size = int64(fixed.Bytes())
	}
	return min(size+1, maxNulls+1) // the bit that marks a null counts as a byte
}

// batch returns the rows of a measurement: the time, the tags and fields, and nulls for the missing columns.
func (p *Points) batch(m *measurement, stored *arrow.Schema, missing []arrow.Field) (arrow.RecordBatch, error) {
	timeType := &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}
	if p.unit > 1 {
		timeType.Unit = arrow.Microsecond // more programs can read microseconds than nanoseconds
	}
	if stored != nil && stored.HasField(timeColumn) {
		f, _ := stored.FieldsByName(timeColumn)
		if t, isTimestamp := f[0].Type.(*arrow.TimestampType); isTimestamp {
			timeType = t
		}
	}
	rows := len(m.times)
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

// times returns the times of the points in the unit of the table's column. It truncates the server's time to this unit
// and rejects a timestamp that is not a multiple of it.
func (p *Points) times(m *measurement, t *arrow.TimestampType) (arrow.Array, error) {
	unit := int64(t.Unit.Multiplier() / time.Nanosecond)
	b := array.NewTimestampBuilder(memory.DefaultAllocator, t)
	b.Reserve(len(m.times))
	for i, n := range m.times {
		if n == serverTime {
			n = p.now - p.now%unit
		}
		if n%unit != 0 {
			return nil, p.errorAt(m.points[i], "measurement %.100q: the time %d ns is not a whole number of %v, the unit of the table's column %q: round it", m.name, n, t.Unit, timeColumn)
		}
		b.UnsafeAppend(arrow.Timestamp(n / unit))
	}
	return b.NewArray(), nil
}

// explain returns the error of a put together with the line, measurement and field that do not fit the table.
func (p *Points) explain(err error, mismatch *tables.SchemaError) error {
	op := (*tables.OpError)(nil)
	if !errors.As(err, &op) {
		return err
	}
	m := p.byName[op.Table]
	if m == nil {
		return err
	}
	point, subject := m.points[0], fmt.Sprintf("column %.100q", mismatch.Column)
	if c := m.byName[mismatch.Column]; c != nil {
		point, subject = c.first, c.String()
	}
	return p.errorAt(point, "measurement %.100q, %s: %v", m.name, subject, mismatch.Err)
}
