package pull

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
	"github.com/go-partd/partd/tables/internal/take"
)

var memoryOf = memory.DefaultAllocator

// all is the range of all times.
func all() (lo, hi int64) { return math.MinInt64, math.MaxInt64 }

// merged writes what a version and a frame are together. Files with none of the
// frame's times stay as they are.
func (n *Node) merged(ctx context.Context, base version, put *frame) (*manifest, error) {
	next := &manifest{time: put.time, schema: put.batch.Schema()}
	if base.manifest == nil {
		next.Time = next.schema.Field(put.time).Name
		files, err := n.write(put.batch, put.time)
		next.files = files
		return next, err
	}
	schema, err := joined(base.manifest, put)
	if err != nil {
		return nil, err
	}
	next.Time, next.time, next.schema = base.Time, base.time, schema
	of := map[string]bool{}
	for _, f := range put.batch.Schema().Fields() {
		of[f.Name] = true
	}
	whole, err := conform(put.batch, schema)
	if err != nil {
		return nil, err
	}
	defer whole.Release()
	// The frame's rows before a file's first time are a file of their own, unless the
	// file before is written anyway, or small.
	at := 0
	take := func(end int) (arrow.RecordBatch, []int64) {
		b, times := whole.NewSlice(int64(at), int64(end)), put.times[at:end]
		at = end
		return b, times
	}
	for i := -1; i < len(base.files); i++ {
		end := len(put.times) // of the rows before the next file
		if i+1 < len(base.files) {
			end, _ = slices.BinarySearch(put.times, base.files[i+1].Min)
		}
		var files []dataFile
		if i >= 0 {
			f := base.files[i]
			within := at < end && put.times[at] <= f.Max
			if at == end || !within && f.Rows >= n.small {
				next.files = append(next.files, f)
			} else {
				b, times := take(end)
				files, err = n.rewrite(ctx, next, base.record, f, b, times, of)
				b.Release()
			}
		}
		if err == nil && at < end {
			b, _ := take(end)
			files, err = n.write(b, next.time)
			b.Release()
		}
		if err != nil {
			return nil, err
		}
		next.files = append(next.files, files...)
	}
	return next, nil
}

// joined returns the columns of a version and those that a frame adds.
func joined(m *manifest, put *frame) (*arrow.Schema, error) {
	s := put.batch.Schema()
	if !s.HasField(m.Time) {
		return nil, &tables.SchemaError{Column: m.Time, Err: errors.New("it is the table's time column, and the frame lacks it")}
	}
	if s.Field(put.time).Name != m.Time {
		return nil, &tables.SchemaError{Column: m.Time, Err: fmt.Errorf("it is the table's time column, and the frame has %q before it: put it first", s.Field(put.time).Name)}
	}
	fields := m.schema.Fields()
	for _, f := range s.Fields() {
		at := m.schema.FieldIndices(f.Name)
		if len(at) == 0 {
			fields = append(fields, f)
			continue
		}
		if is := fields[at[0]].Type; !schema.Alike(f.Type, is) && (f.Name == m.Time || !schema.Widens(f.Type, is)) {
			return nil, &tables.SchemaError{Column: f.Name, Err: fmt.Errorf("it has type %s, and the table has %s", f.Type, is)}
		}
	}
	return arrow.NewSchema(fields, nil), nil
}

// rewrite writes a file's rows together with new ones; of names the columns that the
// new ones have.
func (n *Node) rewrite(ctx context.Context, next *manifest, r record, f dataFile, put arrow.RecordBatch, putTimes []int64, of map[string]bool) ([]dataFile, error) {
	var parts []arrow.RecordBatch
	defer func() {
		for _, p := range parts {
			p.Release()
		}
	}()
	lo, hi := all()
	for b, err := range n.rows(ctx, next, r, f, lo, hi) {
		if err != nil {
			return nil, err
		}
		parts = append(parts, b)
	}
	if len(parts) == 0 {
		return nil, errDamaged
	}
	was, err := sorted.Block(parts, []int{next.time})
	if err != nil {
		return nil, err
	}
	defer was.Release()
	wasTimes, err := ticks(was.Column(next.time))
	if err != nil {
		return nil, err
	}
	newer, older := picks(wasTimes, putTimes)
	columns := make([]arrow.Array, next.schema.NumFields())
	defer func() {
		for _, c := range columns {
			if c != nil {
				c.Release()
			}
		}
	}()
	for i, field := range next.schema.Fields() {
		pick := older
		if of[field.Name] {
			pick = newer
		}
		both, err := array.Concatenate([]arrow.Array{was.Column(i), put.Column(i)}, memoryOf)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", field.Name, err)
		}
		columns[i], err = take.Rows(both, pick)
		both.Release()
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", field.Name, err)
		}
	}
	b := array.NewRecordBatch(next.schema, columns, int64(len(newer)))
	defer b.Release()
	return n.write(b, next.time)
}

// picks returns for each row of both together, in the order of time, which row its
// columns come from: those that the new rows have, and the others. New rows are
// numbered after the old ones.
func picks(was, put []int64) (newer, older []int) {
	for i, j := 0, 0; i < len(was) || j < len(put); {
		switch {
		case j == len(put) || i < len(was) && was[i] < put[j]:
			newer, older = append(newer, i), append(older, i)
			i++
		case i == len(was) || put[j] < was[i]:
			newer, older = append(newer, len(was)+j), append(older, -1)
			j++
		default:
			newer, older = append(newer, len(was)+j), append(older, i)
			i, j = i+1, j+1
		}
	}
	return newer, older
}
