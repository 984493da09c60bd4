package shuffle

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/canceled"
)

// Feeder accepts records through feeds. [Sorter], [Grouper], [Partitions],
// [Aggregator], [Deduplicator] and [Top] are Feeders.
type Feeder[T any] interface {
	Feed() (*Feed[T], error)
}

// FeedAll feeds all records of the sequences, from at most n goroutines; 0 means GOMAXPROCS.
// Each goroutine opens a [Feed], which needs memory. It reads one sequence after another to
// its end, so the records of a sequence keep their order.
//
// FeedAll returns when all goroutines have ended. An error from a sequence or a feed, or the end of
// ctx, stops the other goroutines at their next record. FeedAll returns this error joined with the
// errors from the other goroutines. FeedAll cannot interrupt a blocked sequence; the sequence must
// watch ctx itself. After an error, records are missing, so the caller should close the Feeder. A
// panic in a sequence propagates to FeedAll's caller.
func FeedAll[T any](ctx context.Context, f Feeder[T], n int, seqs ...iter.Seq2[T, error]) error {
	n, err := goroutineCount(n)
	if err != nil {
		return err
	}
	if f == nil {
		return argumentErrorf("the Feeder is nil: pass a Sorter, a Grouper or another Feeder")
	}
	var nextSeq atomic.Int64
	return parallel(ctx, min(n, len(seqs)), func(ctx context.Context) (err error) {
		feed, err := f.Feed()
		if err != nil {
			return err
		}
		defer func() { err = cmp.Or(err, feed.Close()) }()
		for i := nextSeq.Add(1); i <= int64(len(seqs)); i = nextSeq.Add(1) {
			for v, err := range orFailing(seqs[i-1]) {
				if err == nil && ctx.Err() != nil {
					err = canceled.Err(ctx)
				}
				if err == nil {
					err = feed.Add(v) // takes the feed's lock, because feeds may share a table
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// maxGoroutines is the maximum number of goroutines that a caller may request.
const maxGoroutines = 1 << 10

func goroutineCount(n int) (int, error) {
	switch {
	case n < 0 || n > maxGoroutines:
		return 0, argumentErrorf("%d goroutines: use 1 to %d, or 0 for one per processor", n, maxGoroutines)
	case n == 0:
		return runtime.GOMAXPROCS(0), nil
	}
	return n, nil
}

// parallel runs work in n goroutines and waits for all of them. The first error cancels the context
// of the other goroutines. A panic in a goroutine propagates to the caller.
func parallel(ctx context.Context, n int, work func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex // guards errs and panicked
		errs     []error
		panicked any
	)
	for range n {
		wg.Go(func() {
			err := errPanicked // stays set if work panics or calls runtime.Goexit
			defer func() {
				p := recover()
				mu.Lock()
				defer mu.Unlock()
				if p != nil {
					panicked = p
				}
				// Omit the errors of goroutines that the first error canceled.
				if err != nil && (len(errs) == 0 || !errors.Is(err, errs[0])) {
					errs = append(errs, err)
				}
				if err != nil {
					stop(err)
				}
			}()
			err = work(ctx)
		})
	}
	wg.Wait()
	if panicked != nil {
		panic(panicked)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// forEach implements the ForEach methods.
func (k *keyed[T, K]) forEach(ctx context.Context, n int, use func(context.Context, Group[K, T]) error) error {
	n, err := goroutineCount(n)
	if err != nil {
		return err
	}
	if use == nil {
		return argumentErrorf("reading groups: the function use is nil")
	}
	if err := orZero(k.spool).startReading(); err != nil {
		return err
	}
	n = max(min(n, int(k.spool.engine.Memory/minWorkerMemory)), 1)
	sc := k.spool.scan(n)
	defer sc.close()
	return parallel(ctx, n, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, sc.cancel)() // watches ctx from now until this function returns
		err := k.eachGroup(sc, func(g Group[K, T]) error {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			return use(ctx, g)
		})
		if err != nil && errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return canceled.Err(ctx) // includes the cause of the cancellation
		}
		return err
	})
}

// minWorkerMemory is the minimum memory for a goroutine that reads groups, in bytes: two batches of
// 64 KiB, each of which can grow to 128 KiB.
const minWorkerMemory = 256 << 10

func (k *keyed[T, K]) eachGroup(sc *scanner, use func(Group[K, T]) error) error {
	r := groupReader[T]{sc: sc, codec: k.codec, tally: k.meter.newOutTally()}
	defer r.tally.end()
	defer func() { r.group++ }() // after eachGroup, the last group's Values fail
	for r.next() {
		if !r.block.first {
			continue // use has left this block of the previous group unread
		}
		r.group++
		key, err := k.keyCodec.Decode(r.block.key)
		if err != nil {
			return errorf("decoding a key: %w", err)
		}
		k.groupCount.Add(1)
		if err := use(Group[K, T]{key, r.values()}); err != nil {
			return err
		}
	}
	return r.err
}
