package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/output"
	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/parquetfile"
)

// ExportOptions of Export. The zero value, and nil, are all rows in one new file.
type ExportOptions struct {
	Scan *ScanOptions // which columns and rows, in which order; nil: all

	// FileRows makes a directory of the path, with files of at most so many rows each:
	// part-00000.parquet, part-00001.parquet, …; 0 makes one file of it.
	FileRows int64

	// Replace replaces a file that is there. Without, and where there is a directory, the
	// error wraps ErrExists.
	Replace bool
}

// Export writes a table, or a version of it, as Parquet that any program reads, and returns
// how many rows it has. It is one state of the table, rows of the tail included. The file, or
// the directory, appears whole or not at all, and memory is bounded, however many rows there are.
func Export(ctx context.Context, t *Table, path string, o *ExportOptions) (rows int64, err error) {
	o = cmp.Or(o, new(ExportOptions))
	defer func() {
		if errors.Is(err, output.ErrExists) {
			err = fmt.Errorf("%w: %s", ErrExists, path)
		}
		if err != nil && !errors.As(err, new(*OpError)) {
			err = t.error("export", err)
		}
	}()
	if o.FileRows < 0 || o.FileRows > 0 && o.Replace {
		return 0, &ArgumentError{Err: fmt.Errorf("option FileRows is %d: give 0 for one file, or more for a directory, which Replace does not go with", o.FileRows)}
	}
	if o.FileRows > 0 {
		if _, err := os.Lstat(path); err == nil {
			return 0, output.ErrExists
		}
	}
	r, err := t.Scan(ctx, o.Scan)
	if err != nil {
		return 0, err
	}
	defer r.Release()
	if o.FileRows == 0 {
		return parquetfile.Write(ctx, path, o.Replace, r)
	}
	return exportParts(ctx, r, path, o.FileRows)
}

// exportParts writes a directory, which has another name until all is there.
func exportParts(ctx context.Context, r array.RecordReader, path string, fileRows int64) (rows int64, err error) {
	dir, temp, err := tempdir.Own(filepath.Dir(path))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, temp.Close()) }()
	in := &batches{r: r}
	for n := 0; n == 0 || in.more(); n++ {
		part := arrowsafe.Reader(r.Schema(), in.next(fileRows), func() {})
		written, err := parquetfile.Write(ctx, filepath.Join(dir, fmt.Sprintf("part-%05d.parquet", n)), false, part)
		part.Release()
		if rows += written; err != nil {
			return 0, err
		}
	}
	if err := errors.Join(r.Err(), os.Chmod(dir, 0o755)); err != nil { //nolint:gosec // as other directories
		return 0, err
	}
	return rows, os.Rename(dir, path)
}

// batches are those of a reader, of which some rows at a time are taken.
type batches struct {
	r    array.RecordReader
	rest int64 // rows of the reader's batch that were not taken
}

// more reports whether there are rows that were not taken.
func (b *batches) more() bool {
	for b.rest == 0 && b.r.Next() {
		b.rest = b.r.RecordBatch().NumRows()
	}
	return b.rest > 0
}

// next yields so many rows, or what there is.
func (b *batches) next(rows int64) func(func(arrow.RecordBatch, error) bool) {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for rows > 0 && b.more() {
			batch := b.r.RecordBatch()
			first, n := batch.NumRows()-b.rest, min(rows, b.rest)
			rows, b.rest = rows-n, b.rest-n
			if !yield(batch.NewSlice(first, first+n), nil) {
				return
			}
		}
		if err := b.r.Err(); err != nil {
			yield(nil, err)
		}
	}
}
