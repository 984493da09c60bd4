// Package datafile reads and writes a table's Parquet files, and lists the files of a version.
//
// A file's columns are found by their Iceberg field IDs, which do not change when a column is renamed, moved or
// widened. If a file lacks a column, the column's values are null or its default. If a column has a narrower type in a
// file, its values are widened without loss. A condition's columns are read first; the other columns are read only if a
// row matches. This package chooses the leaf columns to decode and the rows to keep, and arrow-go decodes them.
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
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"golang.org/x/sync/semaphore"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Column is a table column to read.
type Column struct {
	Field  arrow.Field // the column as scans return it
	IDs    arrow.Field // Field with field IDs in its metadata and that of its nested fields
	Absent arrow.Array // array of length 1 with the value in files that lack the column; nil means null
}

// IDKey is the key of a field's metadata under which its ID is stored.
const IDKey = "PARQUET:field_id"

func idOf(f arrow.Field) (int, bool) {
	text, ok := f.Metadata.GetValue(IDKey)
	id, err := strconv.Atoi(text)
	return id, ok && err == nil && id >= 0 // The library uses -1 if the file has no IDs.
}

// Deletes marks the deleted rows of a file.
type Deletes struct {
	Columns []Column // columns that MarkDeleted needs
	// MarkDeleted sets keep[i] to false if row firstRow+i of the file is deleted. columns has the values of Columns for
	// the rows of keep.
	MarkDeleted func(firstRow int64, keep []bool, columns []arrow.Array) error
}

// File is a file to read.
type File struct {
	Path    string
	Deletes func(context.Context) (*Deletes, error) // returns the deleted rows; a nil function means none
	Skip    int64                                   // number of leading rows to skip
	Lineage Lineage                                 // used only if the scan reads Iceberg's columns for lineage
}

// Scan configures how files are read.
type Scan struct {
	Open    func(path string) (parquet.ReaderAtSeeker, error) // if the opened file is an io.Closer, the scan closes it
	Footers *icecat.Cache[*icecat.Footer]                     // cache of footers; can be nil
	// MaxPage returns the maximum size of a page in a file, in bytes. Nil means no limit.
	MaxPage          func(ctx context.Context, path string) (int64, error)
	Small            *icecat.Cache[bool] // results of AreSmall; can be nil
	Columns          []Column
	Where            *filter.Condition // nil selects all rows
	ConditionColumns []Column          // the columns of Where, in the same order
	// MayMatch reports whether rows with the given column bounds can match, and whether they can fail to match. If it
	// is nil, Where decides.
	MayMatch func(column func(name string) filter.Bounds) (mayHold, mayFail bool)
	Names    map[int][]string // other names of each field, by its ID, which files without IDs may use; can be nil
	Rows     int64            // maximum number of rows per batch
	Workers  int              // number of row groups to read concurrently, ahead of the consumer
	Memory   int64            // approximate limit for the decoded size of the row groups being read, in bytes
	Recycle  bool             // reuse the memory of released batches
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
	batch    arrow.RecordBatch
	err      error
	consumed chan struct{} // closed when the consumer asks for the next batch; nil if the batch is small
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

// ReadFew is like Read, but only for small reads. If there are more than maxFiles files, or if the row groups that can match have more
// than maxRows rows in total or are not small, rows and closeFiles are nil. Otherwise, the caller must call closeFiles.
func (s *Scan) ReadFew(ctx context.Context, files []File, maxRows int64) (rows iter.Seq2[arrow.RecordBatch, error], closeFiles func(), err error) {
	const maxFiles = 16
	if len(files) > maxFiles {
		return nil, nil, nil
	}
	var opened []*file
	closeFiles = func() {
		for _, f := range opened {
			f.close()
		}
	}
	for _, source := range files {
		f, err := s.open(ctx, source)
		if err != nil {
			closeFiles()
			return nil, nil, err
		}
		opened = append(opened, f)
		for _, g := range f.groups {
			maxRows -= g.rows
			if maxRows < 0 || !f.isSmall(ctx, g) {
				closeFiles()
				return nil, nil, nil
			}
		}
	}
	return func(yield func(arrow.RecordBatch, error) bool) {
		for _, f := range opened {
			if !f.readGroups(ctx, yield) {
				return
			}
		}
	}, closeFiles, nil
}

// AreSmall reports whether every row group that can match needs little memory. It does not open files whose result is in s.Small.
func (s *Scan) AreSmall(ctx context.Context, files []File) (bool, error) {
	columns, remembers := "", s.Small != nil && s.Where == nil // with a condition, the result depends on the row groups that match, so it is not cached
	for _, c := range s.Columns {
		id, _ := idOf(c.IDs)
		columns += "," + strconv.Itoa(id)
	}
	for _, f := range files {
		key, small, known := fmt.Sprint(f.Path, f.Skip, columns), false, false
		if remembers {
			small, known = s.Small.Get(key)
		}
		if !known {
			var err error
			if small, err = s.isSmall(ctx, f); err != nil {
				return false, err
			}
			if remembers {
				s.Small.Put(key, small, int64(len(key))+100)
			}
		}
		if !small {
			return false, nil
		}
	}
	return true, nil
}

func (s *Scan) isSmall(ctx context.Context, source File) (bool, error) {
	f, err := s.open(ctx, source)
	if err != nil {
		return false, err
	}
	defer f.close()
	for _, g := range f.groups {
		if !f.isSmall(ctx, g) {
			return false, canceled.Err(ctx)
		}
	}
	return true, nil
}

// readSequentially reads a file's row groups one after another. It returns false if it failed or the consumer stopped.
func (s *Scan) readSequentially(ctx context.Context, file File, yield func(arrow.RecordBatch, error) bool) bool {
	f, err := s.open(ctx, file)
	if err != nil {
		yield(nil, err)
		return false
	}
	defer f.close()
	return f.readGroups(ctx, yield)
}

// readGroups reads the row groups that can match, as readSequentially does.
func (f *file) readGroups(ctx context.Context, yield func(arrow.RecordBatch, error) bool) bool {
	for _, g := range f.groups {
		for b, err := range f.rows(ctx, g) {
			if !yield(b, err) || err != nil {
				return false
			}
		}
	}
	return true
}

// maxAhead is the number of batches of a row group that are decoded ahead. It suffices for a whole row group that this
// package wrote.
const maxAhead = 4

type readAhead struct {
	rows chan result
	size int64 // bytes of Scan.Memory that the row group uses
}

// readConcurrently reads row groups concurrently, each in a goroutine that decodes up to maxAhead batches ahead.
func (s *Scan) readConcurrently(ctx context.Context, files []File, yield func(arrow.RecordBatch, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	queue, slots, memory := make(chan readAhead, s.Workers-2), make(chan struct{}, s.Workers), semaphore.NewWeighted(s.Memory+1)
	start := func(size int64, read func(send func(arrow.RecordBatch, error) bool), done func()) bool {
		group := readAhead{make(chan result, maxAhead-1), min(size, s.Memory+1)}
		if memory.Acquire(ctx, group.size) != nil || canceled.Send(ctx, slots, struct{}{}) != nil {
			done()
			return false
		}
		running.Go(func() {
			defer func() { <-slots }()
			defer close(group.rows)
			defer done()
			read(func(b arrow.RecordBatch, err error) bool {
				r := result{b, err, nil}
				if err == nil && SizeOf(b) > 2*maxBatchBytes { // has long values, of which few fit in memory
					r.consumed = make(chan struct{})
				}
				return canceled.Send(ctx, group.rows, r) == nil && err == nil && (r.consumed == nil || canceled.Wait(ctx, r.consumed) == nil)
			})
		})
		return canceled.Send(ctx, queue, group) == nil
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
			if r.consumed != nil {
				close(r.consumed)
			}
		}
		memory.Release(group.size)
	}
	if err := canceled.Err(ctx); err != nil {
		yield(nil, err)
	}
}

// BatchRows is the maximum number of rows in a batch. Larger batches need buffers that are slow to allocate.
const BatchRows = 1 << 15

// NewScan returns a scan of a table's files. It reads the named columns of schema s in their stored types, or all
// columns if columns is nil.
func NewScan(ctx context.Context, t *table.Table, s *iceberg.Schema, columns []string, where *filter.Condition) (*Scan, error) {
	fs, err := t.FS(ctx)
	if err != nil {
		return nil, err
	}
	scan := &Scan{
		Open: func(path string) (parquet.ReaderAtSeeker, error) { return fs.Open(path) }, Names: map[int][]string{},
		Rows: BatchRows, Workers: 1, Where: where,
	}
	if fileIO, ok := fs.(*icecat.FileIO); ok {
		scan.Footers, scan.MaxPage, scan.Small = fileIO.Footers(), fileIO.MaxPage, fileIO.Small()
	}
	addMappedNames(t.Metadata().NameMapping(), scan.Names)
	tableColumns, err := columnsByID(s)
	if err != nil {
		return nil, err
	}
	for _, c := range tableColumns {
		if columns == nil || slices.Contains(columns, c.Field.Name) {
			scan.Columns = append(scan.Columns, c)
		}
	}
	if where != nil {
		for _, name := range where.Columns {
			i := slices.IndexFunc(tableColumns, func(c Column) bool { return c.Field.Name == name })
			scan.ConditionColumns = append(scan.ConditionColumns, tableColumns[i])
		}
	}
	return scan, nil
}

// addMappedNames adds the names of a name mapping to names, by field ID. The mapping applies to files without IDs.
func addMappedNames(fields []iceberg.MappedField, names map[int][]string) {
	for _, f := range fields {
		if f.FieldID != nil {
			names[*f.FieldID] = f.Names
		}
		addMappedNames(f.Fields, names)
	}
}

// columnsByID returns a schema's columns in their stored types, with field IDs.
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
	columns := make([]Column, stored.NumFields())
	for i, f := range s.Fields() {
		columns[i] = Column{Field: stored.Field(i), IDs: ids.Field(i)}
		if f.InitialDefault != nil {
			if columns[i].Absent, err = valueOf(f.InitialDefault, stored.Field(i).Type); err != nil {
				return nil, &schema.Error{Column: f.Name, Err: err}
			}
		}
	}
	return columns, nil
}
