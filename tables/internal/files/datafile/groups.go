package datafile

import (
	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// rowGroups collects the rows of the next row group.
type rowGroups struct {
	maxRows, maxBytes int64
	pending           []arrow.RecordBatch
	rows, bytes       int64 // number and size of the pending rows
}

// add adds the rows of a batch, and releases the batch. It calls flush, which must call join, when a row group is
// complete.
func (g *rowGroups) add(b arrow.RecordBatch, flush func() error) error {
	defer b.Release()
	if b.NumRows() == 0 {
		return nil
	}
	rowBytes := max(SizeOf(b)/b.NumRows(), 1)
	for start := int64(0); start < b.NumRows(); {
		n := min(b.NumRows()-start, g.maxRows-g.rows, max((g.maxBytes-g.bytes)/rowBytes, 1))
		g.pending = append(g.pending, b.NewSlice(start, start+n))
		start, g.rows, g.bytes = start+n, g.rows+n, g.bytes+n*rowBytes
		if g.rows >= g.maxRows || g.bytes >= g.maxBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// join removes the collected rows and returns them, or nil if there are none.
func (g *rowGroups) join() (arrow.RecordBatch, error) {
	if g.rows == 0 {
		return nil, nil
	}
	defer g.release()
	return take.Concat(g.pending)
}

func (g *rowGroups) release() {
	take.Release(g.pending)
	g.pending, g.rows, g.bytes = nil, 0, 0
}
