package storekit

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/layer"
)

const (
	shareBytes       = 32 << 10 // minimum size of a share, in bytes of values; only the last share of a batch may be smaller
	maxPooled        = 4 << 20  // capacity, in bytes, of the largest buffer that is reused
	maxPooledEntries = 16 << 10 // capacity of the longest list of entries that is reused
)

// batch holds the stored entries of one write and the memory for them.
type batch struct {
	entries []partd.Entry
	shares  []share
	buffers [][]byte // one for each goroutine
}

type share struct{ start, end int } // range of entries that a goroutine passes to In before it takes another share

// write passes the values of entries through In, several of them in parallel. Then it calls save with
// the results, which are valid until save returns. isAppend means that save appends them.
func (l *Layer) write(ctx context.Context, op string, isAppend bool, entries []partd.Entry, save func([]partd.Entry) error) error {
	if _, err := CheckEntries(op, entries); err != nil {
		return err
	}
	if l.store == nil {
		return &partd.Error{Op: op, Path: l.path(), Err: layer.ErrNoStore}
	}
	if l.hooks.In == nil {
		return save(entries)
	}
	b, ok := l.batches.Get().(*batch)
	if !ok {
		b = new(batch)
	}
	defer l.release(b)
	b.divide(entries)
	workers := min(len(b.shares), runtime.GOMAXPROCS(0))
	for len(b.buffers) < workers {
		b.buffers = append(b.buffers, nil)
	}
	err := l.parallel(ctx, op, workers, len(b.shares), func(w, i int) (err error) {
		assigned := b.shares[i]
		for i := assigned.start; i < assigned.end; i++ {
			b.entries[i].Key = entries[i].Key
			b.entries[i].Value, err = l.passIn(ctx, op, entries[i], &b.buffers[w])
			if err != nil {
				return err
			}
			if isAppend && len(entries[i].Value) == 0 {
				b.entries[i].Value = nil // an empty append stores nothing, even if In adds a header
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return save(b.entries)
}

// passIn passes an entry's value to In and returns the result. It offers In the unused end of
// buffer. If that may be too short, it allocates a new buffer, and earlier results keep the old
// one.
func (l *Layer) passIn(ctx context.Context, op string, e partd.Entry, buffer *[]byte) ([]byte, error) {
	if room := 128 + len(e.Value) + len(e.Value)/4; cap(*buffer)-len(*buffer) < room {
		*buffer = make([]byte, 0, max(room, 2*cap(*buffer), 4<<10))
	}
	dst := (*buffer)[len(*buffer):]
	stored, err := l.hooks.In(ctx, e.Key, dst, e.Value)
	if err != nil {
		return nil, l.keyError(op, e.Key, err)
	}
	if len(stored) > 0 && &stored[0] == &dst[:1][0] { // In has appended to dst
		*buffer = (*buffer)[:len(*buffer)+len(stored)]
	}
	return slices.Clip(stored), nil
}

// release returns b to the pool, unless its lists have grown too long.
func (l *Layer) release(b *batch) {
	if cap(b.entries) > maxPooledEntries {
		return
	}
	clear(b.entries) // do not retain the caller's keys and values
	for i, buffer := range b.buffers {
		b.buffers[i] = buffer[:0]
		if cap(buffer) > maxPooled {
			b.buffers[i] = nil
		}
	}
	l.batches.Put(b)
}

func (b *batch) divide(entries []partd.Entry) {
	b.entries = slices.Grow(b.entries[:0], len(entries))[:len(entries)]
	b.shares = b.shares[:0]
	start, size := 0, 0
	for i := range entries {
		size += len(entries[i].Value)
		if size >= shareBytes {
			b.shares = append(b.shares, share{start, i + 1})
			start, size = i+1, 0
		}
	}
	if start < len(entries) {
		b.shares = append(b.shares, share{start, len(entries)})
	}
}

// parallel calls run for tasks 0 to n-1 in at most the given number of worker goroutines and waits
// for them. After an error, or once ctx ends, it starts no further task.
func (l *Layer) parallel(ctx context.Context, op string, workers, n int, run func(worker, task int) error) error {
	if workers < 2 { // avoid the allocations for goroutines
		for i := range n {
			if err := l.endedError(ctx, op); err != nil {
				return err
			}
			if err := run(0, i); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, workers)
	var next atomic.Int64
	runTasks := func(w int) {
		for errs[w] == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			errs[w] = l.endedError(ctx, op)
			if errs[w] != nil {
				return
			}
			errs[w] = run(w, i)
			if errs[w] != nil {
				next.Store(int64(n))
			}
		}
	}
	var helpers sync.WaitGroup
	for w := 1; w < workers; w++ {
		helpers.Go(func() { runTasks(w) })
	}
	runTasks(0)
	helpers.Wait()
	return cmp.Or(errs...)
}
