package compress

import (
	"cmp"
	"context"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
)

// parallelDo does tasks 0 to n-1 on several goroutines, at least this one, and
// returns when all have ended. After an error, or the end of ctx, no task is begun.
func (s *Store) parallelDo(ctx context.Context, op string, workers, n int, do func(worker, task int) error) error {
	if workers < 2 { // nothing to share, and no garbage
		for i := range n {
			if err := canceled.Err(ctx); err != nil {
				return &partd.Error{Op: op, Path: s.name(), Err: err}
			}
			if err := do(0, i); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, workers)
	var next atomic.Int64
	work := func(w int) {
		for errs[w] == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if err := canceled.Err(ctx); err != nil {
				errs[w] = &partd.Error{Op: op, Path: s.name(), Err: err}
				return
			}
			if errs[w] = do(w, i); errs[w] != nil {
				next.Store(int64(n))
			}
		}
	}
	var others sync.WaitGroup
	for w := 1; w < workers; w++ {
		others.Go(func() { work(w) })
	}
	work(0)
	others.Wait()
	return cmp.Or(errs...)
}
