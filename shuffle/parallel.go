package shuffle

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
)

// Feeder is what records are fed to: a [Sorter], [FuncSorter], [Grouper],
// [Partitions], [Aggregator], [Deduplicator] or [Top].
type Feeder[T any] interface {
	Feed() (*Feed[T], error)
}

// FeedAll puts all records of some sequences in, from at most n goroutines at once;
// 0 means GOMAXPROCS. Each goroutine has a [Feed], with the memory that it takes,
// and goes through one sequence after the other: a sequence is read by one
// goroutine, and its order is kept.
//
// FeedAll returns when all have ended. An error, of a sequence or of taking its
// records in, or the end of ctx, ends the others at their next record, and comes
// out with those that others had by then. A sequence that waits for something is
// not interrupted; it may watch ctx by itself. After an error some records are in,
// and only closing makes sense. A panic of a sequence comes out of FeedAll.
func FeedAll[T any](ctx context.Context, to Feeder[T], n int, seqs ...iter.Seq2[T, error]) error {
	n, err := goroutines(n)
	if err != nil {
		return fmt.Errorf("feeding: %w", err)
	}
	var begun atomic.Int64
	return parallel(ctx, min(n, len(seqs)), func(ctx context.Context) (err error) {
		f, err := to.Feed()
		if err != nil {
			return err
		}
		defer func() {
			if cerr := f.Close(); err == nil {
				err = cerr
			}
		}()
		for i := begun.Add(1); i <= int64(len(seqs)); i = begun.Add(1) {
			for v, err := range seqs[i-1] {
				if err == nil && ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				if err == nil {
					err = f.Add(v) // several feeds may share something
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// maxGoroutines is how many can be asked for.
const maxGoroutines = 1 << 10

func goroutines(n int) (int, error) {
	switch {
	case n < 0 || n > maxGoroutines:
		return 0, fmt.Errorf("from %d goroutines: from 1 to %d are possible, or 0 for as many as there are processors", n, maxGoroutines)
	case n == 0:
		return runtime.GOMAXPROCS(0), nil
	}
	return n, nil
}

// parallel has n goroutines work and waits for all. The first error ends the
// context of the others. A panic of one comes out here.
func parallel(ctx context.Context, n int, work func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var (
		all      sync.WaitGroup
		mu       sync.Mutex // guards what follows
		errs     []error
		panicked any
	)
	for range n {
		all.Go(func() {
			err := errPanicked // or somebody's runtime.Goexit
			defer func() {
				p := recover()
				mu.Lock()
				defer mu.Unlock()
				if p != nil {
					panicked = p
				}
				// Of those that were ended by another's error nothing is new.
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
	all.Wait()
	if panicked != nil {
		panic(panicked)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// ForEach calls use for each group, from at most n goroutines at once; 0 means
// GOMAXPROCS, and there are fewer where Options.Memory has no room for them: 128
// with 256 MiB, 4 with 8 MiB. Each group is whole on one goroutine, in no
// particular order, and can be read only until use returns. All feeds must be
// closed.
//
// ForEach returns when all have ended. The first error ends the context that use
// gets and lets no other group begin; it comes out with those that others had by
// then. The end of ctx does the same, and a panic of use comes out of ForEach.
//
// One reader goes ahead of the goroutines, in the memory for reading, an eighth of
// Options.Memory. So groups that together fit into that run side by side; next to
// a larger one those that come after it wait.
func (k *keyed[T, K]) ForEach(ctx context.Context, n int, use func(context.Context, Group[K, T]) error) error {
	n, err := goroutines(n)
	if err != nil {
		return fmt.Errorf("reading groups: %w", err)
	}
	if err := k.spool.startReading(); err != nil {
		return err
	}
	n = max(min(n, int(k.spool.engine.Memory/minWorkerMemory)), 1)
	sc := k.spool.scan(n)
	defer sc.end()
	return parallel(ctx, n, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, sc.stop)()
		err := k.eachGroup(sc, func(g Group[K, T]) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return use(ctx, g)
		})
		if err != nil && errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return context.Cause(ctx) // why it was cancelled
		}
		return err
	})
}

// minWorkerMemory is what a goroutine that reads groups takes at least: two
// batches of 64 KiB, each with as much again for one that grows.
const minWorkerMemory = 256 << 10

// eachGroup calls use for groups that a scanner reads, until there are no more.
func (k *keyed[T, K]) eachGroup(sc *scanner, use func(Group[K, T]) error) error {
	r := groupReader[T]{sc: sc, codec: k.codec, out: k.meter.reading()}
	defer r.out.end()
	defer func() { r.group++ }() // the last one's values, too, are over
	for r.nextKey() {
		key, err := k.keys.Decode(r.cur.key)
		if err != nil {
			return fmt.Errorf("decoding a key: %w", err)
		}
		k.groups.Add(1)
		if err := use(Group[K, T]{key, r.values()}); err != nil {
			return err
		}
	}
	return r.err
}
