// Package datafile reads and writes a table's Parquet files, and lists the files of a version.
//
// A file's columns are found by Iceberg's field ids, which do not change when a column is renamed,
// moved or widened. A column that the file lacks is null or has its default; a narrower type is
// widened exactly. The columns of a condition are read first, and the others only if a row matches.
// This package chooses the leaf columns to decode and the rows to keep; arrow-go decodes them.
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
	Field  arrow.Field // as scans return the column
	IDs    arrow.Field // Field with the field ids of the column and its parts
	Absent arrow.Array // an array with the value for files that lack the column; nil means null
}

// IDKey is the metadata key of a field's id.
const IDKey = "PARQUET:field_id"

func idOf(f arrow.Field) (int, bool) {
	text, ok := f.Metadata.GetValue(IDKey)
	id, err := strconv.Atoi(text)
	return id, ok && err == nil && id >= 0 // the library uses -1 if the file has no ids
}

// Drop finds the deleted rows of a file.
type Drop struct {
	Columns []Column // columns whose values MarkDeleted needs
	// MarkDeleted sets keep to false for the deleted rows of a batch, whose first row is row first of the
	// file.
	MarkDeleted func(first int64, keep []bool, columns []arrow.Array) error
}

// File is a file to read.
type File struct {
	Path string
	Drop func(context.Context) (*Drop, error) // finds the deleted rows; nil if no rows are deleted
	Skip int64                                // number of leading rows to skip
}

// Scan configures how files are read.
type Scan struct {
	Open    func(path string) (parquet.ReaderAtSeeker, error) // the scan closes the result if it is an io.Closer
	Ends    *icecat.Cache[*metadata.FileMetaData]             // cache of footers, or nil
	Columns []Column
	Where   *filter.Condition // nil selects all rows
	Looked  []Column          // the columns of Where, in its order
	// May reports whether rows with the given bounds may match. If it is nil, Where decides.
	May     func(column func(name string) filter.Bounds) (some, others bool)
	Names   map[int][]string // other names of fields, by id, for files without ids; may be nil
	Rows    int64            // limit for a batch
	Workers int              // number of groups that are read concurrently, ahead of the consumer
	Memory  int64            // approximate limit for the decoded bytes of concurrent groups
	Recycle bool             // reuse the memory of released batches
}

// Schema returns the schema of the batches.
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

// Read yields the rows of files, in order. The caller must release each batch.
func (s *Scan) Read(ctx context.Context, files []File) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		if s.Workers > 1 {
			s.readConcurrently(ctx, files, yield)
			return
		}
		for _, file := range files {
			if !s.readSequentially(ctx, file, yield) {
				return
			}
		}
	}
}

// readSequentially reads the groups of a file one after another. It returns false after an error, or if the
// consumer stopped.
func (s *Scan) readSequentially(ctx context.Context, file File, yield func(arrow.RecordBatch, error) bool) bool {
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

// maxAhead is the number of a group's batches that are decoded before they are needed. It suffices for a
// whole group written by this package, so that its goroutine need not wait for earlier groups.
const maxAhead = 4

// readAhead is a group that is read before it is needed.
type readAhead struct {
	rows chan result
	size int64
}

// readConcurrently reads groups concurrently, each in a goroutine that holds up to maxAhead batches.
func (s *Scan) readConcurrently(ctx context.Context, files []File, yield func(arrow.RecordBatch, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	queue, slots, memory := make(chan readAhead, s.Workers-2), make(chan struct{}, s.Workers), semaphore.NewWeighted(s.Memory+1)
	start := func(size int64, read func(send func(arrow.RecordBatch, error) bool), done func()) bool {
		group := readAhead{make(chan result, maxAhead-1), min(size, s.Memory+1)}
		if memory.Acquire(ctx, group.size) != nil {
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
			defer close(group.rows)
			defer done()
			read(func(b arrow.RecordBatch, err error) bool {
				select {
				case group.rows <- result{b, err}:
					return err == nil
				case <-ctx.Done():
					return false
				}
			})
		})
		select {
		case queue <- group:
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
			proceed := true
			for i := 0; i < len(f.groups) && proceed; i++ {
				reading.Add(1)
				proceed = start(f.groups[i].size, f.rows(ctx, f.groups[i]), reading.Done)
			}
			running.Go(func() {
				reading.Wait()
				f.close()
			})
			if !proceed {
				return
			}
		}
	})
	for group := range queue {
		for r := range group.rows {
			if !yield(r.batch, r.err) || r.err != nil {
				return
			}
		}
		memory.Release(group.size)
	}
	if err := canceled.Err(ctx); err != nil {
		yield(nil, err)
	}
}

// BatchRows is the number of small rows in a batch. Larger batches are slower, because each buffer
// is a large allocation.
const BatchRows = 1 << 15

// NewScan returns a scan of a table's files. It reads the named columns of the schema s, or all if
// columns is nil, in their stored types.
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
		scan.Ends = io.Footers()
	}
	addMappedNames(t.Metadata().NameMapping(), scan.Names)
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
			i := slices.IndexFunc(all, func(c Column) bool { return c.Field.Name == name })
			scan.Looked = append(scan.Looked, all[i])
		}
	}
	return scan, nil
}

// addMappedNames adds the names of a name mapping by field id. The mapping applies to files without ids.
func addMappedNames(fields []iceberg.MappedField, names map[int][]string) {
	for _, f := range fields {
		if f.FieldID != nil {
			names[*f.FieldID] = f.Names
		}
		addMappedNames(f.Fields, names)
	}
}

// columnsByID returns a schema's columns in their stored types.
func columnsByID(s *iceberg.Schema) ([]Column, error) {
	stored, err := schema.StoredSchema(s)
	if err == nil {
		err = schema.CheckReadable(stored)
	}
	if err != nil {
		return nil, err
	}
	ids, err := table.SchemaToArrowSchema(s, nil, true, false)
	if err != nil {
		return nil, err
	}
	all := make([]Column, stored.NumFields())
	for i, f := range s.Fields() {
		all[i] = Column{Field: stored.Field(i), IDs: ids.Field(i)}
		if f.InitialDefault != nil {
			if all[i].Absent, err = valueOf(f.InitialDefault, stored.Field(i).Type); err != nil {
				return nil, &schema.Error{Column: f.Name, Err: err}
			}
		}
	}
	return all, nil
}
