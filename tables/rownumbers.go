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

// rowNumbers converts row numbers in the result of ScanPlan.Rows, which omits deleted rows, to positions in files.
type rowNumbers struct {
	firstRows []int64    // for each file, the number of its first row
	total     int64      // number of rows in all files
	deleted   [][]uint64 // for each file, a bitmap of its deleted rows

	lastRow int64    // number of the row whose position was returned last
	last    position // position of lastRow
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
		n.firstRows = append(n.firstRows, n.total)
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

// position returns the position of the row with the given number. The number must not be less than in an earlier call.
func (n *rowNumbers) position(row int64) position {
	file := sort.Search(len(n.firstRows), func(i int) bool { return n.firstRows[i] > row }) - 1
	if file != n.last.file {
		n.last, n.lastRow = position{file, -1}, n.firstRows[file]-1
	}
	for n.lastRow < row {
		n.last.row++
		bit, deleted := n.last.row, n.deleted[file]
		if bit/64 >= int64(len(deleted)) || deleted[bit/64]&(1<<(bit%64)) == 0 {
			n.lastRow++
		}
	}
	return n.last
}

// fileRows reads rows from a file in ascending order.
type fileRows struct {
	index  int // the file's index
	next   func() (arrow.RecordBatch, error, bool)
	stop   func()
	batch  arrow.RecordBatch // the batch read last; nil if there is none
	offset int64             // number of rows before batch
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

// take reads the rows with the given numbers, which must ascend, from the file with the given index. It returns the
// first of these rows and the others that are in the same batch.
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
	file int   // the file's index
	row  int64 // the row's number in the file, counted from 0; deleted rows count
}
