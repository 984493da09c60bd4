package datafile

import (
	"context"
	"fmt"
	"math/bits"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// Deleted maps each file's path to a bitmap of the rows to delete: bit i%64 of element i/64 stands for row i. The
// bitmap ends at the last of these rows. Deleted is not safe for concurrent use.
type Deleted map[string][]uint64

// Add adds a row in a file. If the bitmaps for all files would need more than about limit bytes, Add returns an error
// that wraps partd.ErrTooLarge.
func (d Deleted) Add(path string, row, limit int64) error {
	rows, word := d[path], row/64
	if missing := word + 1 - int64(len(rows)); missing > 0 {
		if word >= int64(cap(rows)) { // the bitmap must grow; otherwise, skip adding up the sizes, which is slow
			size := 8 * missing
			for _, r := range d {
				size += 8 * int64(len(r))
			}
			if size > limit {
				return fmt.Errorf("the bitmaps of deleted rows need more than %d bytes: increase Options.Memory: %w", limit, partd.ErrTooLarge)
			}
		}
		rows = append(rows, make([]uint64, missing)...)
		d[path] = rows
	}
	rows[word] |= 1 << (row % 64)
	return nil
}

// Count returns the number of rows to delete from a file.
func (d Deleted) Count(path string) (n int64) {
	for _, word := range d[path] {
		n += int64(bits.OnesCount64(word))
	}
	return n
}

// Hide changes files in place so that scans omit the deleted rows. It returns files.
func (d Deleted) Hide(files []File) []File {
	for i, f := range files {
		if rows := d[f.Path]; rows != nil {
			files[i] = f.WithDeletes(nil, func(firstRow int64, keep []bool, _ []arrow.Array) error {
				for j := range keep {
					row := firstRow + int64(j)
					keep[j] = keep[j] && (row/64 >= int64(len(rows)) || rows[row/64]&(1<<(row%64)) == 0)
				}
				return nil
			})
		}
	}
	return files
}

// WithDeletes returns a copy of f that deletes further rows. mark is like Deletes.MarkDeleted, for the given columns.
// For rows that f itself deletes, keep is already false.
func (f File) WithDeletes(columns []Column, mark func(firstRow int64, keep []bool, columns []arrow.Array) error) File {
	ownDeletes := f.Deletes
	f.Deletes = func(ctx context.Context) (*Deletes, error) {
		d := &Deletes{MarkDeleted: func(int64, []bool, []arrow.Array) error { return nil }}
		if ownDeletes != nil {
			var err error
			d, err = ownDeletes(ctx)
			if err != nil {
				return nil, err
			}
		}
		return &Deletes{Columns: slices.Concat(d.Columns, columns), MarkDeleted: func(firstRow int64, keep []bool, all []arrow.Array) error {
			if err := d.MarkDeleted(firstRow, keep, all[:len(d.Columns)]); err != nil {
				return err
			}
			return mark(firstRow, keep, all[len(d.Columns):])
		}}, nil
	}
	return f
}

// Visit calls visit with the given columns of a file's rows. keep says which rows are not deleted. firstRow is the
// number of the first row in the file. Visit reads no other columns.
func (s *Scan) Visit(ctx context.Context, f File, columns []Column, visit func(firstRow int64, keep []bool, columns []arrow.Array) error) error {
	f = f.WithDeletes(columns, func(firstRow int64, keep []bool, columns []arrow.Array) error {
		defer clear(keep) // the scan yields no rows
		return visit(firstRow, keep, columns)
	})
	only := *s
	only.Columns = nil
	return batches.ForEach(only.Read(ctx, []File{f}), func(arrow.RecordBatch) error { return nil })
}

// DeletedRows returns, for each task, a bitmap of the rows that the task's delete files delete: bit i%64 of element
// i/64 stands for row i. Each bitmap ends at the last deleted row, so it is empty if no row is deleted. If the bitmaps
// need more than maxBytes, DeletedRows returns an error that wraps partd.ErrTooLarge.
func DeletedRows(ctx context.Context, t *table.Table, tasks []table.FileScanTask, maxBytes int64) ([][]uint64, error) {
	scan, err := NewScan(ctx, t, t.Schema(), []string{}, nil)
	if err != nil {
		return nil, err
	}
	var size atomic.Int64 // total size of all bitmaps, in bytes
	bitmaps := make([][]uint64, len(tasks))
	files := ToRead(t, tasks)
	var affected []int // indices of the files that have delete files
	for i, f := range files {
		if f.Deletes != nil {
			affected = append(affected, i)
		}
	}
	err = parallel.Each(ctx, slices.Values(affected), runtime.GOMAXPROCS(0), func(ctx context.Context, i int) error {
		deleted := Deleted{} // only for file i, because Deleted is not safe for concurrent use
		err := scan.Visit(ctx, files[i], nil, func(firstRow int64, keep []bool, _ []arrow.Array) error {
			oldLen := int64(len(deleted[files[i].Path]))
			for j, kept := range keep {
				if !kept {
					if err := deleted.Add(files[i].Path, firstRow+int64(j), maxBytes); err != nil {
						return err
					}
				}
			}
			growth := 8 * (int64(len(deleted[files[i].Path])) - oldLen)
			if size.Add(growth) > maxBytes || firstRow/8 > maxBytes { // a damaged footer can claim any number of rows
				return fmt.Errorf("the bitmaps of deleted rows need more than %d bytes: %w", maxBytes, partd.ErrTooLarge)
			}
			return nil
		})
		bitmaps[i] = deleted[files[i].Path]
		return err
	})
	return bitmaps, err
}
