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

// mostRowWorkers is how many goroutines make rows at most: one merges for all of them.
const mostRowWorkers = 4

// rowBatch is the parts of whole groups, and their rows. Rows may be far larger than what
// they are made of, as in JSON, so they are handed over in pieces.
type rowBatch struct {
	parts extsort.Block
	rows  []byte
	limit int // of rows
	err   error
	made  chan bool // rows are to be written: true if they are the last
	taken chan struct{}
}

// leastRows is how many bytes of rows a batch holds at least.
const leastRows = 64 << 10

// Write takes rows.
func (b *rowBatch) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if len(b.rows) == b.limit {
			b.made <- false
			<-b.taken
		}
		k := min(len(p)-n, b.limit-len(b.rows))
		b.rows = append(b.rows, p[n:n+k]...)
		n += k
	}
	return n, nil
}

func (b *rowBatch) make(r *groupRow) {
	// Most rows take less, so that the next batches do not wait for their turn.
	b.limit = max(2*len(b.parts.Data), leastRows)
	if b.err = r.addBlock(&b.parts, b); b.err == nil {
		b.err = r.end(b)
	}
	b.made <- true
}

// write has the rows written, as they are made.
func (b *rowBatch) write(use func(rows []byte, err error)) {
	for last := false; !last; {
		if last = <-b.made; last {
			use(b.rows, b.err)
		} else {
			use(b.rows, nil)
		}
		b.rows = b.rows[:0]
		if !last {
			b.taken <- struct{}{}
		}
	}
	b.parts.Reset()
}

// writeTogether has rows made by several goroutines, and writes them in their order.
func (g *groupEngine) writeTogether(ctx context.Context, r *groupRow) (err error) {
	j := g.job
	workers := min(j.Threads, runtime.GOMAXPROCS(0), mostRowWorkers)
	most := workers + 2
	free, work, ordered := make(chan *rowBatch, most), make(chan *rowBatch, most), make(chan *rowBatch, most)
	for range most {
		free <- &rowBatch{made: make(chan bool, 1), taken: make(chan struct{})}
	}
	rows := []*groupRow{r}
	for len(rows) < workers {
		more, err := newGroupRow(g, j) // without quantiles, it holds nothing
		if err != nil {
			return err
		}
		rows = append(rows, more)
	}
	var making, writing sync.WaitGroup
	for _, r := range rows {
		making.Go(func() {
			for b := range work {
				b.make(r)
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
			free <- b // has room for all there are
		}
	})
	err = g.fillBatches(ctx, &failed, free, func(b *rowBatch) {
		work <- b // so have these
		ordered <- b
	})
	close(work)
	making.Wait()
	close(ordered)
	writing.Wait()
	for _, more := range rows[1:] {
		r.tally.add(more.tally)
		r.made += more.made
		err = joinErrors(err, more.close())
	}
	if failure != nil {
		return failure
	}
	if err == nil && written != r.made {
		return fmt.Errorf("%d bytes of rows were made, but %d written", r.made, written)
	}
	return err
}

// fillBatches fills batches with whole groups, until one has failed.
func (g *groupEngine) fillBatches(ctx context.Context, failed *atomic.Bool, free chan *rowBatch, send func(*rowBatch)) error {
	b := <-free
	for block, err := range g.sorter.Sorted() {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		last := block.Len() // where the last group begins
		for last > 0 && block.SameKey(last-1) {
			last--
		}
		if last = max(last-1, 0); last > 0 {
			b.parts.Take(block, 0, last)
			send(b)
			b = <-free
		}
		if failed.Load() {
			return nil
		}
		b.parts.Take(block, last, block.Len())
	}
	send(b)
	return nil
}
