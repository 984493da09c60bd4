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
	"iter"
	"slices"
	"strconv"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"golang.org/x/sync/semaphore"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
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
	return id, ok && err == nil && id >= 0 // the library notes -1 where a file has none
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
	Skip int64                                // rows at the beginning that are not read
}

// Scan says what is read of files.
type Scan struct {
	Open    func(path string) (parquet.ReaderAtSeeker, error) // of what is closed, if it can be
	Ends    *icecat.Cache[*metadata.FileMetaData]             // of files that were read; nil: none are kept
	Columns []Column
	Where   *filter.Condition // nil: all rows
	Looked  []Column          // that Where looks at, in its order
	// May reports whether rows may be wanted of which this is known; nil is Where's.
	May     func(column func(name string) filter.Bounds) (some, others bool)
	Names   map[int][]string // other names of fields by their ids, for files without ids; may be nil
	Rows    int64            // of a batch, at most
	Workers int              // groups that are read side by side; more are not read ahead
	Memory  int64            // about what groups that are read side by side may take, decoded
	Recycle bool             // the memory of batches that were released is used again
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

// readAhead is a group that is read before it is wanted.
type readAhead struct {
	rows chan result
	size int64
}

// sideBySide reads groups of rows ahead, each in a goroutine that holds ahead batches.
func (s *Scan) sideBySide(ctx context.Context, files []File, yield func(arrow.RecordBatch, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	queue, slots, memory := make(chan readAhead, s.Workers-2), make(chan struct{}, s.Workers), semaphore.NewWeighted(s.Memory+1)
	start := func(size int64, read func(send func(arrow.RecordBatch, error) bool), done func()) bool {
		out := readAhead{make(chan result, ahead-1), min(size, s.Memory+1)}
		if memory.Acquire(ctx, out.size) != nil {
			done()
			return false
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			done()
			return false
		}
		running.Go(func() {
			defer func() { <-slots }()
			defer close(out.rows)
			defer done()
			read(func(b arrow.RecordBatch, err error) bool {
				select {
				case out.rows <- result{b, err}:
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
				start(0, func(send func(arrow.RecordBatch, error) bool) { send(nil, err) }, func() {})
				return
			}
			var reading sync.WaitGroup
			wanted := true
			for i := 0; i < len(f.groups) && wanted; i++ {
				reading.Add(1)
				wanted = start(f.groups[i].size, f.rows(ctx, f.groups[i]), reading.Done)
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
		for r := range out.rows {
			if !yield(r.batch, r.err) || r.err != nil {
				return
			}
		}
		memory.Release(out.size)
	}
	if err := canceled.Err(ctx); err != nil {
		yield(nil, err)
	}
}

// BatchRows is how many rows are read at a time, of rows that are small. More are
// slower: each buffer is a large allocation.
const BatchRows = 1 << 15

// NewScan returns what reads columns of files of a table, nil for all, as they are kept
// by a schema of it.
func NewScan(ctx context.Context, t *table.Table, s *iceberg.Schema, columns []string, where *filter.Condition) (*Scan, error) {
	fs, err := t.FS(ctx)
	if err != nil {
		return nil, err
	}
	scan := &Scan{
		Open: func(path string) (parquet.ReaderAtSeeker, error) { return fs.Open(path) }, Names: map[int][]string{},
		Rows: BatchRows, Workers: 1, Where: where,
	}
	if io, ok := fs.(*icecat.FileIO); ok {
		scan.Ends = io.Ends()
	}
	alsoNamed(t.Metadata().NameMapping(), scan.Names)
	all, err := columnsByID(s)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if columns == nil || slices.Contains(columns, c.Field.Name) {
			scan.Columns = append(scan.Columns, c)
		}
	}
	if where != nil {
		for _, name := range where.Columns {
			at := slices.IndexFunc(all, func(c Column) bool { return c.Field.Name == name })
			scan.Looked = append(scan.Looked, all[at])
		}
	}
	return scan, nil
}

// alsoNamed adds the names that fields have in files without ids.
func alsoNamed(fields []iceberg.MappedField, to map[int][]string) {
	for _, f := range fields {
		if f.FieldID != nil {
			to[*f.FieldID] = f.Names
		}
		alsoNamed(f.Fields, to)
	}
}

// columnsByID returns a schema's columns, as they are kept.
func columnsByID(s *iceberg.Schema) ([]Column, error) {
	kept, err := schema.StoredOf(s)
	if err != nil {
		return nil, err
	}
	ids, err := table.SchemaToArrowSchema(s, nil, true, false)
	if err != nil {
		return nil, err
	}
	all := make([]Column, kept.NumFields())
	for i, f := range s.Fields() {
		all[i] = Column{Field: kept.Field(i), IDs: ids.Field(i)}
		if f.InitialDefault != nil {
			if all[i].Absent, err = valueOf(f.InitialDefault, kept.Field(i).Type); err != nil {
				return nil, &schema.Error{Column: f.Name, Err: err}
			}
		}
	}
	return all, nil
}
