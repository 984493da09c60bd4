package datafile

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// DeletedRows returns, for each task, a bitmap of the rows that the task's delete files delete: bit i%64 of element
// i/64 stands for row i. Each bitmap ends at the last deleted row, so it is empty if no row is deleted. If the bitmaps
// need more than maxBytes, DeletedRows returns an error that wraps partd.ErrTooLarge.
func DeletedRows(ctx context.Context, t *table.Table, tasks []table.FileScanTask, maxBytes int64) ([][]uint64, error) {
	scan, err := NewScan(ctx, t, t.Schema(), []string{}, nil)
	if err != nil {
		return nil, err
	}
	var size atomic.Int64 // of all bitmaps, in bytes
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
		f := files[i].WithDeletes(nil, func(firstRow int64, keep []bool, _ []arrow.Array) error {
			counted := int64(len(deleted[files[i].Path]))
			for j, kept := range keep {
				if !kept {
					if err := deleted.Add(files[i].Path, firstRow+int64(j), maxBytes); err != nil {
						return err
					}
				}
				keep[j] = false // the scan returns no rows
			}
			grown := 8 * (int64(len(deleted[files[i].Path])) - counted)
			if size.Add(grown) > maxBytes || firstRow/8 > maxBytes { // a damaged footer can claim any number of rows
				return fmt.Errorf("the bitmaps of deleted rows need more than %d bytes: %w", maxBytes, partd.ErrTooLarge)
			}
			return nil
		})
		for _, err := range scan.Read(ctx, []File{f}) {
			if err != nil {
				return err
			}
		}
		bitmaps[i] = deleted[f.Path]
		return nil
	})
	return bitmaps, err
}
