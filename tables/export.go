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

// ExportOptions configures Export. The zero value, and nil, export all rows to one new
// file.
type ExportOptions struct {
	Scan *ScanOptions // selects columns and rows; nil means all

	// FileRows makes path a directory of files with at most FileRows rows each:
	// part-00000.parquet, part-00001.parquet, …; 0 makes path one file.
	FileRows int64

	// Replace allows replacing an existing file. Otherwise, and if path is a directory, the
	// error wraps ErrExists.
	Replace bool
}

// Export writes a table, or a version of it, as Parquet, and returns the number of rows. It writes one state of
// the table, including rows in the tail. The file or directory appears completely or not at all. Memory is
// bounded, whatever the number of rows.
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
		return 0, &ArgumentError{Err: fmt.Errorf("option FileRows is %d: use 0 for one file, or a positive number, without Replace, for a directory", o.FileRows)}
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

// exportParts writes a directory under a temporary name, and renames it when complete.
func exportParts(ctx context.Context, r array.RecordReader, path string, fileRows int64) (rows int64, err error) {
	dir, temp, err := tempdir.NewDir(filepath.Dir(path))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, temp.Close()) }()
	splitter := &batchSplitter{r: r}
	for n := 0; n == 0 || splitter.more(); n++ {
		part := arrowsafe.Reader(r.Schema(), splitter.next(fileRows), func() {})
		written, err := parquetfile.Write(ctx, filepath.Join(dir, fmt.Sprintf("part-%05d.parquet", n)), false, part)
		part.Release()
		if rows += written; err != nil {
			return 0, err
		}
	}
	if err := errors.Join(r.Err(), os.Chmod(dir, 0o755)); err != nil { //nolint:gosec // the usual mode of a directory
		return 0, err
	}
	return rows, os.Rename(dir, path)
}

// batchSplitter splits a reader's batches into parts with a given number of rows.
type batchSplitter struct {
	r    array.RecordReader
	rest int64 // rows of the current batch that next has not yielded
}

// more reports whether rows remain.
func (b *batchSplitter) more() bool {
	for b.rest == 0 && b.r.Next() {
		b.rest = b.r.RecordBatch().NumRows()
	}
	return b.rest > 0
}

// next yields up to rows more rows.
func (b *batchSplitter) next(rows int64) func(func(arrow.RecordBatch, error) bool) {
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
