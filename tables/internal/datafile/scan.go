// Package datafile reads and writes a table's Parquet files, and finds those of a state of it.
//
// A file's columns are found by Iceberg's field ids, which stay when a column is
// renamed, moved or widened: what a file lacks is null or has its default, and what it
// has in a narrower type is widened, exactly. Of a group of rows the columns that a
// condition looks at are read first, and the others where a row holds it. Decoding is
// arrow-go's; which leaves are decoded, and which rows are kept, is decided here.
package datafile

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"

	"github.com/go-partd/partd/tables/filter"
)

// Column is a column of a table.
type Column struct {
	Field  arrow.Field // as it is handed on
	IDs    arrow.Field // the same with the field ids of it and of its parts
	Absent arrow.Array // a row of what files without the column have; nil: null
}

// IDKey is the key of a field's id, in the metadata of a field.
const IDKey = "PARQUET:field_id"

func idOf(f arrow.Field) (int, bool) {
	text, ok := f.Metadata.GetValue(IDKey)
	id, err := strconv.Atoi(text)
	return id, ok && err == nil
}

// Drop says which rows of a file its delete files delete.
type Drop struct {
	Columns []Column // that Gone looks at
	// Gone sets to false what is to be kept of a batch, whose first row is row first of
	// the file.
	Gone func(first int64, keep []bool, columns []arrow.Array) error
}

// File is a file to read.
type File struct {
	Path string
	Drop func(context.Context) (*Drop, error) // nil: all rows are there
}

// Scan says what is read of files.
type Scan struct {
	Open    func(path string) (parquet.ReaderAtSeeker, error) // of what is closed, if it can be
	Columns []Column
	Where   *filter.Condition // nil: all rows
	Looked  []Column          // that Where looks at, in its order
	// May reports whether rows may be wanted of which this is known; nil is Where's.
	May     func(column func(name string) filter.Bounds) (some, others bool)
	Names   map[int][]string // other names of fields by their ids, for files without ids; may be nil
	Rows    int64            // of a batch, at most
	Workers int              // groups that are read side by side; more are not read ahead
}

// Schema is that of the batches.
func (s *Scan) Schema() *arrow.Schema {
	fields := make([]arrow.Field, len(s.Columns))
	for i, c := range s.Columns {
		fields[i] = c.Field
	}
	return arrow.NewSchema(fields, nil)
}

type result struct {
	batch arrow.RecordBatch
	err   error
}

// Read yields the rows of files, in order. Each batch is the caller's to release.
func (s *Scan) Read(ctx context.Context, files []File) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if s.Workers > 1 {
			s.sideBySide(ctx, files, yield)
			return
		}
		for _, file := range files {
			if !s.inTurn(ctx, file, yield) {
				return
			}
		}
	}
}

// inTurn reads a file. It returns false once nobody wants more.
func (s *Scan) inTurn(ctx context.Context, file File, yield func(arrow.RecordBatch, error) bool) bool {
	f, err := s.open(ctx, file)
	if err != nil {
		yield(nil, err)
		return false
	}
	defer f.close()
	for _, g := range f.groups {
		for b, err := range f.rows(ctx, g) {
			if !yield(b, err) || err != nil {
				return false
			}
		}
	}
	return true
}

// ahead is how many batches of a group are decoded before they are wanted: all of a group
// of ours, so that no goroutine waits for the one before it.
const ahead = 4

// sideBySide reads groups of rows ahead, each in a goroutine that holds ahead batches.
func (s *Scan) sideBySide(ctx context.Context, files []File, yield func(arrow.RecordBatch, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	queue, slots := make(chan chan result, s.Workers-2), make(chan struct{}, s.Workers)
	start := func(read func(send func(arrow.RecordBatch, error) bool), done func()) bool {
		out := make(chan result, ahead-1)
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			done()
			return false
		}
		running.Go(func() {
			defer func() { <-slots }()
			defer close(out)
			defer done()
			read(func(b arrow.RecordBatch, err error) bool {
				select {
				case out <- result{b, err}:
					return err == nil
				case <-ctx.Done():
					return false
				}
			})
		})
		select {
		case queue <- out:
			return true
		case <-ctx.Done():
			return false
		}
	}
	running.Go(func() {
		defer close(queue)
		for _, file := range files {
			f, err := s.open(ctx, file)
			if err != nil {
				start(func(send func(arrow.RecordBatch, error) bool) { send(nil, err) }, func() {})
				return
			}
			var reading sync.WaitGroup
			wanted := true
			for i := 0; i < len(f.groups) && wanted; i++ {
				reading.Add(1)
				wanted = start(f.rows(ctx, f.groups[i]), reading.Done)
			}
			running.Go(func() {
				reading.Wait()
				f.close()
			})
			if !wanted {
				return
			}
		}
	})
	for out := range queue {
		for r := range out {
			if !yield(r.batch, r.err) || r.err != nil {
				return
			}
		}
	}
	if err := ctx.Err(); err != nil {
		yield(nil, err)
	}
}

// step is some rows of a group, and which of them are kept.
type step struct {
	rows   int64
	looked []arrow.Array
	at     []int // nil: all
	none   bool
}

// rows yields the rows of a group that are kept.
func (f *file) rows(ctx context.Context, g group) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if err := f.read(ctx, g, yield); err != nil {
			yield(nil, fmt.Errorf("file %s: %w", f.name, err))
		}
	}
}

// mostHeld bounds the columns of a group, decoded, that are held while it is decided
// whether others are read.
const mostHeld = 32 << 20

func (f *file) read(ctx context.Context, g group, yield func(arrow.RecordBatch, error) bool) error {
	look := slices.Clone(f.scan.Looked)
	if f.drop != nil {
		look = append(look, f.drop.Columns...)
	}
	var rest []Column
	var from []int // of each column handed on: in look, or behind it in rest
	for _, c := range f.scan.Columns {
		id, _ := idOf(c.IDs)
		at := slices.IndexFunc(look, func(l Column) bool {
			other, _ := idOf(l.IDs)
			return other == id
		})
		if at < 0 {
			at = len(look) + len(rest)
			rest = append(rest, c)
		}
		from = append(from, at)
	}
	first, err := f.columns(ctx, g, look)
	if err != nil {
		return err
	}
	defer first.release()
	next := func(done int64) (step, error) {
		if err := ctx.Err(); err != nil {
			return step{}, err
		}
		st := step{rows: min(f.scan.Rows, g.rows-done)}
		if st.looked, err = first.next(st.rows); err != nil {
			return st, err
		}
		return st, f.decide(&st, g.first+done)
	}
	var held []step
	if len(rest) > 0 && len(look) > 0 && f.size(g, look) <= mostHeld {
		some := 0 // steps up to the last with a row that is kept
		for done := int64(0); done < g.rows; {
			st, err := next(done)
			if err != nil {
				return err
			}
			held = append(held, st)
			if done += st.rows; !st.none {
				some = len(held)
			}
		}
		if held = held[:some]; some == 0 {
			return nil
		}
	}
	others, err := f.columns(ctx, g, rest)
	if err != nil {
		return err
	}
	defer others.release()
	schema := f.scan.Schema()
	all := len(held)
	for done, i := int64(0), 0; done < g.rows && (all == 0 || i < all); i++ {
		var st step
		if all > 0 {
			st, held[i] = held[i], step{}
		} else if st, err = next(done); err != nil {
			return err
		}
		done += st.rows
		more, err := others.next(st.rows)
		if err != nil {
			return err
		}
		if st.none {
			continue
		}
		both := append(st.looked, more...)
		columns := make([]arrow.Array, len(from))
		for i, at := range from {
			columns[i] = both[at]
		}
		b, err := picked(schema, columns, st)
		if err != nil {
			return err
		}
		if !yield(b, nil) {
			return nil
		}
	}
	return ctx.Err()
}
