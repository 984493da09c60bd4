package bulk

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// joinBlocks joins batches to blocks of at least size bytes, except the last.
func joinBlocks(rows sorted.Batches, size int64) sorted.Batches {
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
			if pendingBytes += util.TotalRecordSize(b); pendingBytes >= size && !flush() {
				return
			}
		}
		if len(pending) > 0 {
			flush()
		}
	}
}

// readAhead yields the same batches, and reads the next one while the caller works on the last one.
func readAhead(rows sorted.Batches) sorted.Batches {
	type result struct {
		batch arrow.RecordBatch
		err   error
	}
	return func(yield func(arrow.RecordBatch, error) bool) {
		results, stop := make(chan result), make(chan struct{})
		go func() {
			defer close(results)
			for b, err := range rows {
				select {
				case results <- result{b, err}:
				case <-stop:
					if b != nil {
						b.Release()
					}
					return
				}
			}
		}()
		defer func() {
			close(stop)
			for r := range results { // until the goroutine has ended
				if r.batch != nil {
					r.batch.Release()
				}
			}
		}()
		for r := range results {
			if !yield(r.batch, r.err) || r.err != nil {
				return
			}
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
