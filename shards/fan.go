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

// Error is an error of one shard.
type Error struct {
	Shard string // name
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("shard %s: %v", e.Shard, e.Err) }

// Unwrap returns the error of the shard's store.
func (e *Error) Unwrap() error { return e.Err }

// concurrently calls f for all shards concurrently. It uses its own goroutine for the last one.
func concurrently(shards []*shard, f func(i int, sh *shard) error) []error {
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

// do calls f for shards concurrently, after it has brought all of them to the state that the
// operation needs. A failure before that has changed nothing.
func (s *Shards) do(ctx context.Context, op string, n need, use []*shard, f func(i int, store partd.Partd) error) error {
	if err := s.prepare(ctx, n, use); err != nil {
		return errorf(op, err)
	}
	errs := concurrently(use, func(i int, sh *shard) error {
		before := sh.seenInstance()
		return s.checkUnchanged(ctx, sh, n, before, f(i, *sh.store.Load()))
	})
	return errorf(op, joinErrors(use, errs, n))
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
	unseen := func(sh *shard) bool { return !sh.isListed() }
	if (n != change || s.shared.Load()) && !slices.ContainsFunc(use, unseen) {
		return nil
	}
	err := joinErrors(use, concurrently(use, func(_ int, sh *shard) error { return s.enter(ctx, sh, min(n, read)) }), strict)
	switch {
	case err != nil || n != change:
	case slices.ContainsFunc(use, unseen):
		err = s.begin(ctx)
	case !s.shared.Load() && !slices.ContainsFunc(s.shards, unseen):
		err = s.exchangeIDs(ctx)
	}
	return err
}

// checkUnchanged checks after an operation that the shard still has the same store. During the operation,
// the shard's server may have restarted with another store. before is the server instance at the beginning.
// If there was a third instance in between, it may have answered. checkUnchanged joins its error to err.
func (s *Shards) checkUnchanged(ctx context.Context, sh *shard, n need, before uint64, err error) error {
	if sh.known.Load() == nil || sh.instance() == before {
		return err
	}
	other := s.enter(ctx, sh, read)
	if other == nil && sh.instance() > before+1 {
		other = fmt.Errorf("%w, or another store answered in between: its server restarted more than once", ErrStoreMismatch)
	}
	if other != nil && n == change {
		other = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, other)
	}
	return errors.Join(err, other)
}

// joinErrors joins the errors of some shards and names them. A missing ability of one shard must not
// hide the failure of another, because callers may ignore the former.
func joinErrors(shards []*shard, errs []error, n need) error {
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	var done []string
	var failed, unsupported []error
	for i, err := range errs {
		switch named := (&Error{shards[i].name, err}); {
		case err == nil:
			done = append(done, shards[i].name)
		case errors.Is(err, errors.ErrUnsupported):
			unsupported = append(unsupported, named)
		default:
			failed = append(failed, named)
		}
	}
	partial := n == change && len(done) > 0
	switch {
	case n == loose && len(unsupported) < len(errs):
		unsupported = nil
	case partial || len(failed) > 0:
		for _, err := range unsupported {
			failed = append(failed, errors.New(err.Error()))
		}
		unsupported = nil
	}
	err := errors.Join(append(failed, unsupported...)...)
	if err != nil && partial {
		return fmt.Errorf("%w: done by %s, but %w", partd.ErrUnknownOutcome, strings.Join(done, ", "), err)
	}
	return err
}
