package shuffle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/internal/canceled"
)

// Feeder is something to feed records to: a [Sorter], [FuncSorter],
// [Grouper], [Partitions], [Aggregator], [Deduplicator] or [Top].
type Feeder[T any] interface {
	Feed() (*Feed[T], error)
}

// FeedAll feeds all records of some sequences from at most n goroutines at once; 0
// means GOMAXPROCS. Each goroutine has its own [Feed], which takes memory, and
// reads one sequence after the other. One goroutine reads a whole sequence, so its
// order is kept.
//
// FeedAll returns when all goroutines have ended. An error from a sequence or a
// feed, or the end of ctx, stops the others at their next record; FeedAll returns
// it joined with any errors of the others. It does not interrupt a sequence that
// is waiting, which may watch ctx itself. After an error only some records have
// been fed, and all that is left to do is to close. A panic of a sequence
// propagates from FeedAll.
func FeedAll[T any](ctx context.Context, to Feeder[T], n int, seqs ...iter.Seq2[T, error]) error {
	n, err := goroutines(n)
	if err != nil {
		return fmt.Errorf("feeding: %w", err)
	}
	if to == nil {
		return errors.New("feeding nil: give a Sorter, a Grouper or another that has feeds")
	}
	var begun atomic.Int64
	return parallel(ctx, min(n, len(seqs)), func(ctx context.Context) (err error) {
		f, err := to.Feed()
		if err != nil {
			return err
		}
		defer func() { err = cmp.Or(err, f.Close()) }()
		for i := begun.Add(1); i <= int64(len(seqs)); i = begun.Add(1) {
			for v, err := range orFailing(seqs[i-1]) {
				if err == nil && ctx.Err() != nil {
					err = canceled.Err(ctx)
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
		return 0, fmt.Errorf("from %d goroutines: use 1 to %d, or 0 for one per processor", n, maxGoroutines)
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

// ForEach calls use for each group, in no particular order, from at most n
// goroutines at once; 0 means GOMAXPROCS. Options.Memory limits the number
// further: to 128 with 256 MiB, to 4 with 8 MiB. One goroutine gets the whole
// group, and can read it until use returns. Close all feeds first.
//
// ForEach returns when all goroutines have ended. The first error cancels the
// context passed to use, and no further group begins; ForEach returns it joined
// with any errors of the other goroutines. The end of ctx has the same effect. A
// panic of use propagates from ForEach.
//
// One reader reads ahead of the goroutines, within an eighth of Options.Memory.
// Groups that together fit in that memory run concurrently; the groups after a
// larger one wait for it.
func (k *keyed[T, K]) ForEach(ctx context.Context, n int, use func(context.Context, Group[K, T]) error) error {
	n, err := goroutines(n)
	if err != nil {
		return fmt.Errorf("reading groups: %w", err)
	}
	if use == nil {
		return errors.New("reading groups without a use: give a function")
	}
	if err := orZero(k.spool).startReading(); err != nil {
		return err
	}
	n = max(min(n, int(k.spool.engine.Memory/minWorkerMemory)), 1)
	sc := k.spool.scan(n)
	defer sc.end()
	return parallel(ctx, n, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, sc.stop)()
		err := k.eachGroup(sc, func(g Group[K, T]) error {
			if ctx.Err() != nil {
				return canceled.Err(ctx)
			}
			return use(ctx, g)
		})
		if err != nil && errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return canceled.Err(ctx) // why it was cancelled
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
	for r.next() {
		if !r.cur.first {
			continue // of the key before
		}
		r.group++
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
