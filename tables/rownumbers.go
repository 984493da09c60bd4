package tables

import (
	"context"
	"fmt"
	"iter"
	"math/bits"
	"sort"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/take"
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
	n.deleted, err = datafile.DeletedRows(ctx, t, files, limit)
	if err != nil {
		return nil, err
	}
	for i, task := range files {
		n.first = append(n.first, n.total)
		rows, err := datafile.RowsOf(ctx, t, task) // not File.Count, which can be wrong in other programs' metadata
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

// position returns the position of the row with the given number. The numbers passed must not decrease from call to
// call.
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

// fileRows reads rows from a file in ascending order.
type fileRows struct {
	index  int // the file's index
	next   func() (arrow.RecordBatch, error, bool)
	stop   func()
	batch  arrow.RecordBatch
	offset int64 // number of rows before batch
}

func (f *fileRows) close() {
	if f.batch != nil {
		f.batch.Release()
		f.batch = nil
	}
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
}

// take returns the first of the given rows of the file with the given index, up to the end of a batch, but at least
// one row.
func (f *fileRows) take(ctx context.Context, t *table.Table, tasks []table.FileScanTask, index int, rows []int64) (arrow.RecordBatch, error) {
	if f.stop == nil || f.index != index {
		f.close()
		f.index, f.offset = index, 0
		scan, err := datafile.NewScan(ctx, t, t.Schema(), nil, nil)
		if err != nil {
			return nil, err
		}
		file := datafile.ToRead(t, tasks[index:index+1])
		file[0].Deletes = nil // positions count deleted rows
		f.next, f.stop = iter.Pull2(scan.Read(ctx, file))
	}
	for f.batch == nil || rows[0] >= f.offset+f.batch.NumRows() {
		if f.batch != nil {
			f.offset += f.batch.NumRows()
			f.batch.Release()
			f.batch = nil
		}
		b, err, ok := f.next()
		if err == nil && !ok {
			err = fmt.Errorf("file %d of the table has no row %d", index, rows[0])
		}
		if err != nil {
			return nil, err
		}
		f.batch = b
	}
	var indices []int
	for _, row := range rows {
		if row >= f.offset+f.batch.NumRows() {
			break
		}
		indices = append(indices, int(row-f.offset))
	}
	return take.Batch(f.batch, indices)
}

// position is a row's position in the table's files.
type position struct {
	file int // the file's index
	row  int64
}
