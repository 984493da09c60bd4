package filejobs

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/extsort"
)

// maxRowWorkers is the maximum number of goroutines that build rows, because a single
// goroutine merges for all of them.
const maxRowWorkers = 4

// rowBatch holds the parts of whole groups, and then their rows. Rows may be far larger than
// the parts, as in JSON, so they are passed on in portions.
type rowBatch struct {
	parts   extsort.Block
	rows    []byte
	limit   int // maximum bytes of rows
	err     error
	ready   chan bool     // a portion of rows is ready; true if it is the last
	written chan struct{} // the portion was written
}

// minRows is the minimum size of a portion of rows.
const minRows = 64 << 10

// Write adds rows, and waits if the portion is full.
func (b *rowBatch) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if len(b.rows) == b.limit {
			b.ready <- false
			<-b.written
		}
		k := min(len(p)-n, b.limit-len(b.rows))
		b.rows = append(b.rows, p[n:n+k]...)
		n += k
	}
	return n, nil
}

// build builds the rows of the parts.
func (b *rowBatch) build(r *groupRow) {
	// The limit exceeds the size of most batches, so that building rarely waits for writing.
	b.limit = max(2*len(b.parts.Data), minRows)
	if b.err = r.addBlock(&b.parts, b); b.err == nil {
		b.err = r.end(b)
	}
	b.ready <- true
}

// write calls use with the rows, as they become ready.
func (b *rowBatch) write(use func(rows []byte, err error)) {
	for last := false; !last; {
		if last = <-b.ready; last {
			use(b.rows, b.err)
		} else {
			use(b.rows, nil)
		}
		b.rows = b.rows[:0]
		if !last {
			b.written <- struct{}{}
		}
	}
	b.parts.Reset()
}

// writeParallel builds rows in several goroutines, and writes them in order.
func (g *groupEngine) writeParallel(ctx context.Context, r *groupRow) (err error) {
	j := g.job
	workers := min(j.Threads, runtime.GOMAXPROCS(0), maxRowWorkers)
	batches := workers + 2
	free, work, ordered := make(chan *rowBatch, batches), make(chan *rowBatch, batches), make(chan *rowBatch, batches)
	for range batches {
		free <- &rowBatch{ready: make(chan bool, 1), written: make(chan struct{})}
	}
	rows := []*groupRow{r}
	for len(rows) < workers {
		row, err := newGroupRow(g, j) // needs no closing before, because without quantiles it has no memory
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	var building, writing sync.WaitGroup
	for _, r := range rows {
		building.Go(func() {
			for b := range work {
				b.build(r)
			}
		})
	}
	var failed atomic.Bool
	var failure error
	var written int64
	writing.Go(func() {
		for b := range ordered {
			b.write(func(rows []byte, err error) {
				if failure == nil && err == nil {
					_, err = j.sink.Write(rows)
					written += int64(len(rows))
				}
				if failure == nil && err != nil {
					failure = err
					failed.Store(true)
				}
			})
			free <- b // has room for all batches
		}
	})
	err = g.fillBatches(ctx, &failed, free, func(b *rowBatch) {
		work <- b // these also have room for all batches
		ordered <- b
	})
	close(work)
	building.Wait()
	close(ordered)
	writing.Wait()
	for _, row := range rows[1:] {
		r.tally.add(row.tally)
		r.rowBytes += row.rowBytes
		err = joinErrors(err, row.close())
	}
	if failure != nil {
		return failure
	}
	if err == nil && written != r.rowBytes {
		return fmt.Errorf("%d bytes of rows were built, but %d were written", r.rowBytes, written)
	}
	return err
}

// fillBatches fills batches with whole groups until the end, or until a batch has failed.
func (g *groupEngine) fillBatches(ctx context.Context, failed *atomic.Bool, free chan *rowBatch, send func(*rowBatch)) error {
	b := <-free
	for block, err := range g.sorter.Sorted() {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		last := block.Len() // the index where the last group begins
		for last > 0 && block.SameKey(last-1) {
			last--
		}
		if last = max(last-1, 0); last > 0 {
			b.parts.AppendRange(block, 0, last)
			send(b)
			b = <-free
		}
		if failed.Load() {
			return nil
		}
		b.parts.AppendRange(block, last, block.Len())
	}
	send(b)
	return nil
}
