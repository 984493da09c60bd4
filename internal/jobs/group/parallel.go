package group

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

// maxRowWorkers limits the goroutines that build rows. Additional goroutines would only wait for
// the sorter, which merges in a single goroutine.
const maxRowWorkers = 4

// rowBatch holds the sorter's data of complete groups, and the rows built from it. The rows can be
// far larger than that data, for example in JSON, so they are written in portions.
type rowBatch struct {
	parts   extsort.Block
	rows    []byte
	limit   int // maximum size of rows, in bytes
	err     error
	ready   chan bool     // receives false when rows is full, and true when it has the last rows
	written chan struct{} // receives a value after the portion was written
}

// minRowBytes is the minimum of rowBatch.limit, in bytes.
const minRowBytes = 64 << 10

// Write adds rows. When the portion is full, Write waits until the method write has written the
// portion.
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

func (b *rowBatch) build(r *rowBuilder) {
	// Most batches are smaller than the limit, so building rarely waits for writing.
	b.limit = max(2*len(b.parts.Data), minRowBytes)
	b.err = r.addBlock(&b.parts, b)
	if b.err == nil {
		b.err = r.end(b)
	}
	b.ready <- true
}

func (b *rowBatch) write(handle func(rows []byte, err error)) {
	for last := false; !last; {
		last = <-b.ready
		if last {
			handle(b.rows, b.err)
		} else {
			handle(b.rows, nil)
		}
		b.rows = b.rows[:0]
		if !last {
			b.written <- struct{}{}
		}
	}
	b.parts.Reset()
}

// writeParallel builds rows in several goroutines and writes them in key order. The job must
// not compute quantiles.
func (g *engine) writeParallel(ctx context.Context, r *rowBuilder) (err error) {
	j := g.job
	workers := min(j.Threads, runtime.GOMAXPROCS(0), maxRowWorkers)
	batches := workers + 2
	free, pending, ordered := make(chan *rowBatch, batches), make(chan *rowBatch, batches), make(chan *rowBatch, batches)
	for range batches {
		free <- &rowBatch{ready: make(chan bool, 1), written: make(chan struct{})}
	}
	builders := []*rowBuilder{r}
	for len(builders) < workers {
		builder, err := newRowBuilder(g, j) // without quantiles, a rowBuilder holds nothing to release after an error
		if err != nil {
			return err
		}
		builders = append(builders, builder)
	}
	var building, writing sync.WaitGroup
	for _, r := range builders {
		building.Go(func() {
			for b := range pending {
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
					_, err = j.Write(rows)
					written += int64(len(rows))
				}
				if failure == nil && err != nil {
					failure = err
					failed.Store(true)
				}
			})
			free <- b // never blocks: the channel has room for all batches
		}
	})
	err = g.fillBatches(ctx, &failed, free, func(b *rowBatch) {
		// These sends never block: the channels have room for all batches.
		pending <- b
		ordered <- b
	})
	close(pending)
	building.Wait()
	close(ordered)
	writing.Wait()
	for _, builder := range builders[1:] {
		r.written.Add(builder.written)
		r.rowBytes += builder.rowBytes
		err = filejobs.JoinErrors(err, builder.close())
	}
	if failure != nil {
		return failure
	}
	if err == nil && written != r.rowBytes {
		return fmt.Errorf("%d bytes of rows were built, but %d were written", r.rowBytes, written)
	}
	return err
}

// fillBatches sends batches of complete groups, until there are no more or a batch has failed.
func (g *engine) fillBatches(ctx context.Context, failed *atomic.Bool, free chan *rowBatch, send func(*rowBatch)) error {
	b := <-free
	for block, err := range g.sorter.Sorted() {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		last := block.Len() // index of the first part of the block's last group
		for last > 0 && block.SameKey(last-1) {
			last--
		}
		last = max(last-1, 0)
		if last > 0 {
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
