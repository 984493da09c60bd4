//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"os"
	"path/filepath"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/database"
)

// scratch manages temporary files. Some are Parquet files with rows that DuckDB cannot read from a table's own files.
// Others contain bitmaps of deleted rows. A file for a table's tail (the rows not yet in data files) is reused until
// the tail changes, and a file of bitmaps until the table's files change.
type scratch struct {
	dir string

	mu        sync.Mutex
	created   int            // number of files created so far, for their names
	files     []*scratchFile // reusable files, least recently used first
	emptyPath string         // path of a Parquet file with no rows, or "" before the first use
}

// maxScratch limits the number of reusable files. Each file is a few MiB.
const maxScratch = 32

type scratchFile struct {
	s       *scratch
	path    string
	key     string            // the table's UUID, plus " deletes" for a file of bitmaps
	mark    string            // ScanPlan.TailMark or DeletesMark of the content; "" if the file cannot be reused
	rows    int64             // number of rows in the file or, for a file of bitmaps, number of deleted rows
	bitmaps []database.Bitmap // locations of the data files' bitmaps; nil if they were too large or if the file holds rows
	refs    int               // number of queries that use the file
	out     spill.Writer
	written chan struct{} // closed after the file was written or err was set
	err     error
}

// rowsOf returns a file with the rows of the plan's tail if mark is plan.TailMark, or with all rows of the table if
// mark is "". The caller must release the file.
func (s *scratch) rowsOf(ctx context.Context, plan *tables.ScanPlan, mark string) (*scratchFile, error) {
	return s.file(ctx, plan.UUID, mark, func(f *scratchFile) error { return f.writeRows(ctx, plan, mark != "") })
}

// deletedRows returns a file with bitmaps of the plan's deleted rows, or an empty file if the bitmaps need more than
// maxBytes. The caller must release the file.
func (s *scratch) deletedRows(ctx context.Context, plan *tables.ScanPlan, maxBytes int64) (*scratchFile, error) {
	return s.file(ctx, plan.UUID+" deletes", plan.DeletesMark, func(f *scratchFile) error {
		bitmaps, err := plan.DeletedRows(ctx, maxBytes)
		if err != nil {
			return err
		}
		if err := f.create(); err != nil {
			return err
		}
		offset := int64(0)
		for i := 0; i < len(bitmaps) && err == nil; i++ {
			content := arrow.Uint64Traits.CastToBytes(bitmaps[i])
			f.bitmaps = append(f.bitmaps, database.Bitmap{Offset: offset, Bytes: int64(len(content))})
			offset += int64(len(content))
			for _, word := range bitmaps[i] {
				f.rows += int64(bits.OnesCount64(word))
			}
			_, err = f.out.Write(content)
		}
		return errors.Join(err, f.out.Close())
	})
}

// file returns the file with the given mark. If the mark is "" or no file has it, file creates one and calls write to
// fill it.
func (s *scratch) file(ctx context.Context, key, mark string, write func(*scratchFile) error) (*scratchFile, error) {
	f, isNew := s.acquire(key, mark)
	if isNew {
		f.err = write(f)
		close(f.written)
	}
	select {
	case <-f.written:
	case <-ctx.Done():
		f.release()
		return nil, canceled.Err(ctx)
	}
	if f.err == nil {
		return f, nil
	}
	err := f.err
	s.mu.Lock()
	f.mark = "" // so that no other query uses the file
	s.mu.Unlock()
	f.release()
	if !isNew && ctx.Err() == nil {
		return s.file(ctx, key, mark, write) // perhaps only the other query, which was writing the file, was canceled
	}
	return nil, err
}

// acquire returns the file that has the given mark, or else a new file that the caller must write.
func (s *scratch) acquire(key, mark string) (_ *scratchFile, isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.files {
		if mark != "" && f.mark == mark {
			f.refs++
			s.files = append(append(s.files[:i:i], s.files[i+1:]...), f)
			return f, false
		}
	}
	s.created++
	path := filepath.Join(s.dir, fmt.Sprintf("rows-%d.parquet", s.created))
	f := &scratchFile{s: s, path: path, key: key, mark: mark, refs: 1, written: make(chan struct{})}
	if mark != "" {
		s.files = append(s.files, f)
	}
	return f, true
}

func (f *scratchFile) planned() tables.PlannedFile {
	return tables.PlannedFile{Path: f.path, Rows: f.rows}
}

// hasBitmaps reports whether the file contains bitmaps, with at most maxBytes in total.
func (f *scratchFile) hasBitmaps(maxBytes int64) bool {
	for _, b := range f.bitmaps {
		maxBytes -= b.Bytes
	}
	return f.bitmaps != nil && maxBytes >= 0
}

// emptyFile returns the path of a file without rows, whose only column matches no table's column.
func (s *scratch) emptyFile() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.emptyPath != "" {
		return s.emptyPath, nil
	}
	// larger than any Iceberg ID, so no column matches
	id := arrow.NewMetadata([]string{"PARQUET:field_id"}, []string{"2147483647"})
	column := arrow.Field{Name: "none", Type: arrow.PrimitiveTypes.Int32, Nullable: true, Metadata: id}
	var file bytes.Buffer
	w, err := pqarrow.NewFileWriter(arrow.NewSchema([]arrow.Field{column}, nil), &file, nil, pqarrow.DefaultWriterProps())
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.dir, "empty.parquet")
	if err := errors.Join(w.Close(), os.WriteFile(path, file.Bytes(), 0o600)); err != nil {
		return "", err
	}
	s.emptyPath = path
	return path, nil
}

func (f *scratchFile) release() {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	f.refs--
	if f.refs == 0 && f.mark == "" {
		f.remove()
	}
	s.sweep()
}

// sweep removes files with outdated rows, and the least recently used files above maxScratch, unless a query
// uses them. mu must be held.
func (s *scratch) sweep() {
	newest := map[string]bool{}
	var kept []*scratchFile
	for i := len(s.files) - 1; i >= 0; i-- {
		f := s.files[i]
		stale := f.mark == "" || newest[f.key] || len(kept) >= maxScratch
		newest[f.key] = true
		switch {
		case !stale:
			kept = append([]*scratchFile{f}, kept...)
		case f.refs > 0:
			f.mark = "" // the last release removes the file
		default:
			f.remove()
		}
	}
	s.files = kept
}

// remove removes the file. s.mu must be held, unless s is nil.
func (f *scratchFile) remove() {
	_ = os.Remove(f.path)
	f.out.Release()
}

func (f *scratchFile) create() error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	f.out = spill.Writer{WriteCloser: file, Quota: &spill.Process}
	return err
}

// writeRows writes the rows that are not yet in data files or, if tail is false, all rows of the table. It does not
// use f.mark, which sweep may already have cleared.
func (f *scratchFile) writeRows(ctx context.Context, plan *tables.ScanPlan, tail bool) error {
	if tail {
		return f.writeBatches(ctx, plan.Stored, 0, batches.From(plan.Tail...))
	}
	r, err := plan.Rows(ctx)
	if err != nil {
		return err
	}
	defer r.Release()
	return f.writeBatches(ctx, plan.Stored, 0, batches.Of(r))
}

// writeBatches creates the file and writes rows, whose columns it converts to the types of stored. rowBytes is their
// average size, or 0 if it is unknown.
func (f *scratchFile) writeBatches(ctx context.Context, stored *arrow.Schema, rowBytes int64, rows iter.Seq2[arrow.RecordBatch, error]) error {
	const pageRows, pageBytes = 1024, 1 << 20
	if err := f.create(); err != nil {
		return err
	}
	// Write no statistics: they would ignore NaN, and would save little in files that are small or read once.
	properties := parquet.NewWriterProperties(parquet.WithDictionaryDefault(false), parquet.WithVersion(parquet.V2_LATEST), parquet.WithStats(false),
		parquet.WithBatchSize(max(1, min(pageRows, pageBytes/max(1, rowBytes))))) // DuckDB holds a page in memory
	// Make all fields of nested columns nullable, because files of other programs can contain nulls in fields that do
	// not allow nulls. The writer would move the values of such fields to other rows.
	columns := arrow.NewSchema(schema.MapTypes(stored.Fields(), schema.WithNullableFields), nil)
	w, err := pqarrow.NewFileWriter(columns, &f.out, properties, pqarrow.NewArrowWriterProperties())
	if err != nil {
		return errors.Join(err, f.out.Close())
	}
	err = batches.ForEach(rows, func(b arrow.RecordBatch) error { return f.writeBatch(ctx, w, columns, b) })
	return errors.Join(err, w.Close())
}

func (f *scratchFile) writeBatch(ctx context.Context, w *pqarrow.FileWriter, columns *arrow.Schema, rows arrow.RecordBatch) error {
	if err := canceled.Err(ctx); err != nil {
		return err
	}
	converted, err := schema.Convert(rows, columns)
	if err != nil {
		return err
	}
	defer converted.Release()
	f.rows += rows.NumRows()
	return w.Write(converted)
}
