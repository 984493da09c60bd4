package shards

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/storeerror"
)

// Error is an error from one shard.
type Error struct {
	Shard string // name of the shard
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("shard %s: %v", e.Shard, e.Err) }

// Unwrap returns the error from the shard's store.
func (e *Error) Unwrap() error { return e.Err }

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

// do opens and checks the target shards as n requires and then calls f for them concurrently.
func (s *Shards) do(ctx context.Context, op string, n need, targets []*shard, f func(i int, store partd.Partd) error) error {
	if err := s.prepare(ctx, n, targets); err != nil {
		return errorf(op, err)
	}
	errs := concurrently(targets, func(i int, sh *shard) error {
		oldInstance := sh.seenInstance()
		return s.checkUnchanged(ctx, sh, n, oldInstance, f(i, *sh.store.Load()))
	})
	return errorf(op, joinErrors(targets, errs, n))
}

func (s *Shards) prepare(ctx context.Context, n need, targets []*shard) error {
	if len(s.shards) == 0 {
		return storeerror.ErrNotOpened
	}
	if s.closed.Load() {
		return partd.ErrClosed
	}
	if ctx.Err() != nil {
		return canceled.Err(ctx)
	}
	isUnlisted := func(sh *shard) bool { return !sh.isListed() }
	if (n != writable || s.idsExchanged.Load()) && !slices.ContainsFunc(targets, isUnlisted) {
		return nil
	}
	err := joinErrors(targets, concurrently(targets, func(_ int, sh *shard) error { return s.ensure(ctx, sh, min(n, readable)) }), strict)
	switch {
	case err != nil || n != writable:
	case slices.ContainsFunc(targets, isUnlisted):
		err = s.writeLists(ctx)
	case !s.idsExchanged.Load() && !slices.ContainsFunc(s.shards, isUnlisted):
		err = s.exchangeIDs(ctx)
	}
	return err
}

// checkUnchanged returns err, an operation's error. If the shard's server may have restarted with
// another store during the operation, it adds an error. oldInstance is the server instance before
// the operation. If the server restarted more than once, an instance with another store may have
// answered, even if the current instance has the right store.
func (s *Shards) checkUnchanged(ctx context.Context, sh *shard, n need, oldInstance uint64, err error) error {
	if sh.current.Load() == nil || sh.instance() == oldInstance {
		return err
	}
	checkErr := s.ensure(ctx, sh, readable)
	if checkErr == nil && sh.instance() > oldInstance+1 {
		checkErr = fmt.Errorf("%w, or another store may have answered: its server restarted more than once", ErrStoreMismatch)
	}
	if checkErr != nil && n == writable {
		checkErr = fmt.Errorf("%w: %w", partd.ErrUnknownOutcome, checkErr)
	}
	return errors.Join(err, checkErr)
}

// joinErrors joins the errors of shards, adding the shards' names. If n is writable (for a change) and
// some shards succeeded, the result wraps ErrUnknownOutcome. Callers may ignore ErrUnsupported. So if
// one shard lacks an ability and another one fails, the result does not wrap ErrUnsupported. If n is
// lenient, the result wraps no other error either that partd.Close would ignore.
func joinErrors(shards []*shard, errs []error, n need) error {
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	var succeeded []string
	var failed, unsupported []error
	for i, err := range errs {
		switch named := (&Error{shards[i].name, err}); {
		case err == nil:
			succeeded = append(succeeded, shards[i].name)
		case errors.Is(err, errors.ErrUnsupported):
			unsupported = append(unsupported, named)
		default:
			failed = append(failed, named)
		}
	}
	losesData := func(err error) bool { return !storeerror.LosesNothing(err) }
	if n == lenient && slices.ContainsFunc(failed, losesData) {
		for i, err := range failed {
			if !losesData(err) {
				failed[i] = errors.New(err.Error())
			}
		}
	}
	partial := n == writable && len(succeeded) > 0
	switch {
	case n == lenient && len(unsupported) < len(errs):
		unsupported = nil
	case partial || len(failed) > 0:
		for _, err := range unsupported {
			failed = append(failed, errors.New(err.Error()))
		}
		unsupported = nil
	}
	err := errors.Join(append(failed, unsupported...)...)
	if err != nil && partial {
		return fmt.Errorf("%w: the change succeeded on %s, but %w", partd.ErrUnknownOutcome, strings.Join(succeeded, ", "), err)
	}
	return err
}
