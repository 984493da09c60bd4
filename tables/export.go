package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/tables/internal/files/parquetfile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// ExportOptions configures Export. Nil or the zero value exports all rows to one new file.
type ExportOptions struct {
	Scan *ScanOptions // selects columns and rows; nil selects all

	// FileRows is the maximum number of rows in a file. If it is positive, path becomes a directory of files named
	// part-00000.parquet, part-00001.parquet, …. If FileRows is 0, path becomes one file.
	FileRows int64

	// Replace allows Export to replace an existing file. It cannot be combined with FileRows. Without Replace, if path
	// exists, Export returns an error that wraps ErrExists.
	Replace bool
}

// Export writes a consistent state of a table as Parquet, including rows in the tail. It returns the row count. The
// file or directory appears only when it is complete. Memory use does not depend on the row count.
func Export(ctx context.Context, t *Table, path string, o *ExportOptions) (rows int64, err error) {
	o = cmp.Or(o, new(ExportOptions))
	defer func() {
		if errors.Is(err, output.ErrExists) {
			err = fmt.Errorf("%w: %s", ErrExists, path)
		}
		wrapOnce(&err, &OpError{Op: "export", Bucket: t.Bucket().Name(), Table: t.Name()})
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
	parts := batches.NewSplitter(batches.Of(r))
	defer parts.Close()
	for n := 0; ; n++ {
		first, err := parts.Peek()
		if err != nil {
			return 0, err
		}
		if first == nil && n > 0 { // without rows, write one empty file
			break
		}
		part := batches.Reader(r.Schema(), parts.Part(batches.AtMost(fileRows)), func() {})
		partRows, err := parquetfile.Write(ctx, filepath.Join(dir, fmt.Sprintf("part-%05d.parquet", n)), false, part)
		part.Release()
		rows += partRows
		if err != nil {
			return 0, err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the usual mode of a directory
		return 0, err
	}
	return rows, os.Rename(dir, path)
}
