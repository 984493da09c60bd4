package bulk

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// smallBatch returns the size in bytes below which batches are joined early. A batch itself takes a kilobyte or more
// for each column, which can be many times its rows.
func smallBatch() int64 { return 64 << 10 }

// maxBlock limits the rows that are joined, in bytes, because offsets in a text column have 32 bits. The next batch, of
// up to 1 GiB, can still be joined with them.
var maxBlock int64 = 256 << 20 // tests use less

// joinBlocks joins batches to blocks of at least size bytes, except the last. It calls size after each batch.
func joinBlocks(rows sorted.Batches, size func() int64) sorted.Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		var pending []arrow.RecordBatch
		pendingBytes := int64(0)
		flush := func() bool {
			block, err := take.Concat(pending)
			take.Release(pending)
			pending, pendingBytes = pending[:0], 0
			return yield(block, err) && err == nil
		}
		for b, err := range rows {
			if err != nil {
				take.Release(pending)
				yield(nil, err)
				return
			}
			pending = append(pending, b)
			if pendingBytes += util.TotalRecordSize(b); pendingBytes >= size() && !flush() {
				return
			}
		}
		if len(pending) > 0 {
			flush()
		}
	}
}

// group consists of the rows of a block that have the same number.
type group struct {
	number int
	rows   []int // indices of the rows, in order
}

// groupRows returns the groups of rows in the order of their numbers, which are less than n.
func groupRows(numbers []int, n int) (groups []group) {
	ends := make([]int, n+1)
	for _, number := range numbers {
		ends[number+1]++
	}
	for i := range n {
		ends[i+1] += ends[i]
	}
	order := make([]int, len(numbers))
	starts := ends[:n]
	for row, number := range numbers {
		order[starts[number]] = row
		starts[number]++ // becomes the end
	}
	start := 0
	for number, end := range starts {
		if end > start {
			groups = append(groups, group{number, order[start:end:end]})
		}
		start = end
	}
	return groups
}
