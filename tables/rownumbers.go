package tables

import (
	"context"
	"math/bits"
	"sort"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
)

// rowNumbers converts row numbers in ScanPlan.Rows, which omits deleted rows, to positions in files.
type rowNumbers struct {
	first   []int64    // number of each file's first row
	total   int64      // number of rows
	deleted [][]uint64 // bitmap of each file's deleted rows

	row  int64    // number of the row whose position was returned last
	last position // position of that row
}

// numberRows numbers the rows of files. If the bitmaps of deleted rows need more than limit bytes, the error wraps
// partd.ErrTooLarge.
func numberRows(ctx context.Context, t *table.Table, files []table.FileScanTask, limit int64) (n *rowNumbers, err error) {
	n = &rowNumbers{last: position{file: -1}}
	if n.deleted, err = datafile.DeletedRows(ctx, t, files, limit); err != nil {
		return nil, err
	}
	for i, task := range files {
		n.first = append(n.first, n.total)
		rows, err := datafile.RowsOf(ctx, t, task) // not File.Count, which can be wrong in metadata of other programs
		if err != nil {
			return nil, err
		}
		for _, b := range n.deleted[i] {
			rows -= int64(bits.OnesCount64(b))
		}
		n.total += rows
	}
	return n, nil
}

// position returns the position of the row with the given number. Successive calls must not pass smaller numbers.
func (n *rowNumbers) position(row int64) position {
	file := sort.Search(len(n.first), func(i int) bool { return n.first[i] > row }) - 1
	if file != n.last.file {
		n.last, n.row = position{file, -1}, n.first[file]-1
	}
	for n.row < row {
		n.last.row++
		at, deleted := n.last.row, n.deleted[file]
		if at/64 >= int64(len(deleted)) || deleted[at/64]&(1<<(at%64)) == 0 {
			n.row++
		}
	}
	return n.last
}
