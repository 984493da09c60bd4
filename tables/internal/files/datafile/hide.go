package datafile

import (
	"context"
	"fmt"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
)

// Deleted maps each file's path to a bitmap of the rows to delete: bit i%64 of element i/64 stands for row i. The
// bitmap ends at the last of these rows. Deleted is not safe for concurrent use.
type Deleted map[string][]uint64

// Add adds a row in a file. If the bitmaps for all files would need more than about limit bytes, Add returns an error
// that wraps partd.ErrTooLarge.
func (d Deleted) Add(path string, row, limit int64) error {
	rows, word := d[path], row/64
	if missing := word + 1 - int64(len(rows)); missing > 0 {
		if word >= int64(cap(rows)) { // otherwise, the memory is already allocated; adding up the sizes is slow
			size := 8 * missing
			for _, r := range d {
				size += 8 * int64(len(r))
			}
			if size > limit {
				return fmt.Errorf("the numbers of the rows to omit need more than %d bytes: increase Options.Memory: %w", limit, partd.ErrTooLarge)
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

// Hide changes files so that scans omit the deleted rows, and returns them.
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
	own := f.Deletes
	f.Deletes = func(ctx context.Context) (*Deletes, error) {
		d := &Deletes{MarkDeleted: func(int64, []bool, []arrow.Array) error { return nil }}
		if own != nil {
			var err error
			d, err = own(ctx)
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
