package tables

import (
	"context"
	"math/bits"
	"sort"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/datafile"
)

// rowNumbers converts the numbers of rows in ScanPlan.Rows, which lacks deleted rows, to positions in files.
type rowNumbers struct {
	first   []int64    // number of each file's first row
	total   int64      // number of rows
	deleted [][]uint64 // bitmap of each file's deleted rows

	row  int64    // number of the row that position returned last
	last position // its position
}

// numberRows numbers the rows of files. The bitmaps of deleted rows may take limit bytes.
func numberRows(ctx context.Context, t *table.Table, files []table.FileScanTask, limit int64) (n *rowNumbers, err error) {
	n = &rowNumbers{last: position{file: -1}}
	if n.deleted, err = datafile.DeletedRows(ctx, t, files, limit); err != nil {
		return nil, err
	}
	for i, task := range files {
		n.first = append(n.first, n.total)
		rows, err := datafile.RowsOf(ctx, t, task) // another program's metadata can be wrong
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

// position returns the position of a row. Rows must come in ascending order.
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
