package shards

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/internal/storeerror"
)

// Error says which shard an error comes from.
type Error struct {
	Shard string // its name
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("shard %s: %v", e.Shard, e.Err) }

// Unwrap returns the error of the shard's store.
func (e *Error) Unwrap() error { return e.Err }

// together calls f for shards at the same time, with a goroutine for each but one.
func together(shards []*shard, f func(i int, sh *shard) error) []error {
	errs := make([]error, len(shards))
	var wg sync.WaitGroup
	for i, sh := range shards {
		if i < len(shards)-1 {
			wg.Go(func() { errs[i] = f(i, sh) })
		} else {
			errs[i] = f(i, sh)
		}
	}
	wg.Wait()
	return errs
}

// do calls f for shards at the same time, once all of them are as the operation needs
// them: whatever is wrong before has changed nothing.
func (s *Shards) do(ctx context.Context, op string, n need, use []*shard, f func(i int, store partd.Partd) error) error {
	if err := s.prepare(ctx, n, use); err != nil {
		return errorf(op, err)
	}
	errs := together(use, func(i int, sh *shard) error {
		before := sh.seen()
		return s.still(ctx, sh, n, before, f(i, *sh.store.Load()))
	})
	return errorf(op, joined(use, errs, n))
}

func (s *Shards) prepare(ctx context.Context, n need, use []*shard) error {
	if len(s.shards) == 0 {
		return storeerror.ErrNotOpened
	}
	if s.closed.Load() {
		return partd.ErrClosed
	}
	if ctx.Err() != nil {
		return canceled.Err(ctx)
	}
	unseen := func(sh *shard) bool { return !sh.listed() }
	if (n != change || s.shared.Load()) && !slices.ContainsFunc(use, unseen) {
		return nil
	}
	err := joined(use, together(use, func(_ int, sh *shard) error { return s.enter(ctx, sh, min(n, read)) }), strict)
	switch {
	case err != nil || n != change:
	case slices.ContainsFunc(use, unseen):
		err = s.begin(ctx)
	case !s.shared.Load() && !slices.ContainsFunc(s.shards, unseen):
		err = s.share(ctx)
	}
	return err
}

// still adds to the error of an operation what its shard is after it: its server may have
// been started again meanwhile, over another store. Before is what was seen of it at the
// beginning. Where there was another server in between, nobody knows whose the answer was.
func (s *Shards) still(ctx context.Context, sh *shard, n need, before uint64, err error) error {
	if sh.known.Load() == nil || sh.instance() == before {
		return err
	}
	other := s.enter(ctx, sh, read)
	if other == nil && sh.instance() > before+1 {
		other = fmt.Errorf("%w, or was not meanwhile: its server was started again more than once", ErrOtherStore)
	}
	if other != nil && n == change {
		other = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, other)
	}
	return errors.Join(err, other)
}

// joined makes one error of those of some shards, which it names. That one cannot do
// something must not hide that another has failed: callers may pass over the former.
func joined(shards []*shard, errs []error, n need) error {
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	var done []string
	var failed, lacking []error
	for i, err := range errs {
		switch named := (&Error{shards[i].name, err}); {
		case err == nil:
			done = append(done, shards[i].name)
		case errors.Is(err, errors.ErrUnsupported):
			lacking = append(lacking, named)
		default:
			failed = append(failed, named)
		}
	}
	half := n == change && len(done) > 0
	switch {
	case n == loose && len(lacking) < len(errs):
		lacking = nil
	case half || len(failed) > 0:
		for _, err := range lacking {
			failed = append(failed, errors.New(err.Error()))
		}
		lacking = nil
	}
	err := errors.Join(append(failed, lacking...)...)
	if err != nil && half {
		return fmt.Errorf("%w: done by %s, but %w", partd.ErrUnknownOutcome, strings.Join(done, ", "), err)
	}
	return err
}
