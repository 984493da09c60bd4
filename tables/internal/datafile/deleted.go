package datafile

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/parallel"
)

// ErrTooLarge means that the bitmaps of DeletedRows would exceed their limit.
var ErrTooLarge = errors.New("the bitmaps of deleted rows exceed their limit")

// DeletedRows returns, for each task, a bitmap of the rows that the task's delete files delete: bit i%8 of byte i/8
// stands for row i. Trailing zero bytes are omitted, so the bitmap of a file without deleted rows is empty. If the
// bitmaps need more than maxBytes, it returns ErrTooLarge.
func DeletedRows(ctx context.Context, t *table.Table, tasks []table.FileScanTask, maxBytes int64) ([][]byte, error) {
	scan, err := NewScan(ctx, t, t.Schema(), []string{}, nil)
	if err != nil {
		return nil, err
	}
	var size atomic.Int64 // of all bitmaps
	bitmaps := make([][]byte, len(tasks))
	files := ToRead(t, tasks)
	var affected []int // indices of files with delete files
	for i, f := range files {
		if f.Deletes != nil {
			affected = append(affected, i)
		}
	}
	err = parallel.Each(ctx, slices.Values(affected), runtime.GOMAXPROCS(0), func(ctx context.Context, i int) error {
		f := files[i]
		f.Deletes = func(ctx context.Context) (*Deletes, error) {
			d, err := files[i].Deletes(ctx)
			if err != nil {
				return nil, err
			}
			return &Deletes{Columns: d.Columns, MarkDeleted: func(firstRow int64, keep []bool, columns []arrow.Array) error {
				if firstRow/8 > maxBytes { // a damaged footer can claim any number of rows
					return ErrTooLarge
				}
				if err := d.MarkDeleted(firstRow, keep, columns); err != nil {
					return err
				}
				for j, kept := range keep {
					if row := firstRow + int64(j); !kept {
						if missing := row/8 + 1 - int64(len(bitmaps[i])); missing > 0 {
							if size.Add(missing) > maxBytes {
								return ErrTooLarge
							}
							bitmaps[i] = append(bitmaps[i], make([]byte, missing)...)
						}
						bitmaps[i][row/8] |= 1 << (row % 8)
					}
				}
				return nil
			}}, nil
		}
		for b, err := range scan.Read(ctx, []File{f}) {
			if err != nil {
				return err
			}
			b.Release()
		}
		return nil
	})
	return bitmaps, err
}
