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

// ExportOptions configures Export. Nil or the zero value exports all rows to one new file.
type ExportOptions struct {
	Scan *ScanOptions // selects columns and rows; nil selects all

	// FileRows, if positive, makes path a directory of files, each with at most FileRows rows: part-00000.parquet,
	// part-00001.parquet, …. If FileRows is 0, path is one file.
	FileRows int64

	// Replace allows replacing an existing file, and cannot be combined with FileRows. Without Replace, if path exists,
	// Export returns an error that wraps ErrExists.
	Replace bool
}

// Export writes a consistent state of a table as Parquet, including rows in the tail, and returns the row count. The file
// or directory appears only when complete. Memory use does not depend on the row count.
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
	switch {
	case o.FileRows < 0:
		return 0, &ArgumentError{Err: fmt.Errorf("option FileRows is %d: it must not be negative", o.FileRows)}
	case o.FileRows > 0 && o.Replace:
		return 0, &ArgumentError{Err: errors.New("options FileRows and Replace cannot be combined: remove the directory first, or choose another path")}
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

func exportParts(ctx context.Context, r array.RecordReader, path string, fileRows int64) (rows int64, err error) {
	dir, temp, err := tempdir.NewDir(filepath.Dir(path))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, temp.Close()) }()
	splitter := &batchSplitter{r: r}
	for n := 0; n == 0 || splitter.hasMore(); n++ {
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

// batchSplitter divides a reader's rows into parts.
type batchSplitter struct {
	r         array.RecordReader
	remaining int64 // number of rows of r's current batch that are not in a part yet
}

// hasMore reports whether rows remain. If no rows of r's current batch remain, it advances r to the next batch.
func (b *batchSplitter) hasMore() bool {
	for b.remaining == 0 && b.r.Next() {
		b.remaining = b.r.RecordBatch().NumRows()
	}
	return b.remaining > 0
}

func (b *batchSplitter) next(maxRows int64) func(func(arrow.RecordBatch, error) bool) {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for maxRows > 0 && b.hasMore() {
			batch := b.r.RecordBatch()
			first, n := batch.NumRows()-b.remaining, min(maxRows, b.remaining)
			maxRows, b.remaining = maxRows-n, b.remaining-n
			if !yield(batch.NewSlice(first, first+n), nil) {
				return
			}
		}
		if err := b.r.Err(); err != nil {
			yield(nil, err)
		}
	}
}
