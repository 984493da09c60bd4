package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/icecat"
)

// mostAttempts is how often a commit that others came before is tried again.
const mostAttempts = 100

// change is a change of one table, as steps.
type change struct {
	e     *entry
	steps []step

	exclusive bool // no append to the tail may come in between
	replaces  bool // what is in the tail is replaced
	folds     bool // a step makes files of what is in the tail

	result *table.Table // as committed; nil if there was nothing to do, or it was deleted
}

// add adds a step. A put with an id must not come beside another one with it;
// what is replaced or deleted must not be appended to.
func (c *change) add(st step) {
	c.steps = append(c.steps, st)
	switch st := st.(type) {
	case *putStep:
		all := st.mode == Replace && st.over == nil
		c.exclusive = c.exclusive || st.id != "" || all
		c.replaces = c.replaces || all
	case *restoreStep:
		c.exclusive, c.replaces = true, true
	case deleteStep, *createStep:
		c.exclusive = true
	case *evolveStep:
		c.exclusive, c.folds = true, true
	}
}

// commit makes all changes, each of another table, or none.
func (s *Store) commit(ctx context.Context, hooks []icecat.TxHook, changes ...*change) error {
	slices.SortFunc(changes, func(a, b *change) int {
		if n := strings.Compare(a.e.Namespace, b.e.Namespace); n != 0 {
			return n
		}
		return strings.Compare(a.e.Name, b.e.Name)
	})
	for _, c := range changes {
		c.e.commit.Lock()
		defer c.e.commit.Unlock()
	}
	for _, c := range changes {
		// What was acknowledged before comes before, in the rows and in the versions.
		if _, isDelete := c.steps[0].(deleteStep); !isDelete && !c.folds {
			_, err := c.e.foldLocked(ctx)
			var unfit *SchemaError
			if c.replaces && (errors.As(err, &unfit) || errors.Is(err, ErrDamaged)) {
				// Rows that do not fit what somebody else made of the table, or that cannot be
				// read: a Replace is the way out.
				s.opts.Logger.Warn("rows in the tail were replaced without a version of their own", "table", c.e.Name, "err", err)
				err = nil
			}
			if err != nil {
				return err
			}
		}
	}
	return s.commitWithRetry(ctx, hooks, changes...)
}

// commitSteps is commit for a table whose entry's commit is held, and whose tail is
// folded already where that matters. It returns the table as committed; nil if there
// was nothing to do.
func (e *entry) commitSteps(ctx context.Context, steps ...step) (*table.Table, error) {
	c := &change{e: e}
	for _, st := range steps {
		c.add(st)
	}
	if e.s.hooks.prepared != nil {
		e.s.hooks.prepared()
	}
	err := e.s.commitWithRetry(ctx, nil, c)
	return c.result, err
}

// commitWithRetry commits changes, and what hooks do in the same transaction, again
// and again while others come before. It wants the entries' commit.
func (s *Store) commitWithRetry(ctx context.Context, hooks []icecat.TxHook, changes ...*change) error {
	if s.opts.ReadOnly {
		return ErrReadOnly
	}
	for n := 1; ; n++ {
		err := s.tryCommit(ctx, hooks, changes)
		if !errors.Is(err, table.ErrCommitFailed) {
			return err
		}
		if n == mostAttempts {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(rand.Int64N(int64(min(n, 50)) * int64(2*time.Millisecond)))):
		}
	}
}

// tryCommit is one attempt of commitWithRetry.
func (s *Store) tryCommit(ctx context.Context, hooks []icecat.TxHook, changes []*change) (err error) {
	var attempts []*attempt
	defer func() {
		for _, a := range attempts {
			removeWritten(err, a.io)
		}
	}()
	var made []*icecat.Change
	for _, c := range changes {
		if c.exclusive {
			c.e.mu.Lock()
			defer c.e.mu.Unlock()
		}
		a := &attempt{s: s, e: c.e, change: c, io: s.cat.NewIO(), now: time.Now()}
		attempts = append(attempts, a)
		if err := a.prepare(ctx); err != nil {
			return err
		}
		if a.made != nil {
			made = append(made, a.made)
		}
	}
	if len(made)+len(hooks) == 0 {
		return nil
	}
	if err := s.cat.Commit(ctx, hooks, made...); err != nil {
		return err
	}
	for _, a := range attempts {
		if err := a.committed(ctx); err != nil {
			// It is committed; the next one to use the table, or the next Open, tidies up.
			s.opts.Logger.Warn("the tail could not be tidied up after a commit", "table", a.e.Name, "err", err)
		}
	}
	return nil
}

// prepare puts the steps on top of the table as it is now.
func (a *attempt) prepare(ctx context.Context) error {
	c, steps := a.change, a.change.steps
	if c.folds {
		if _, err := c.e.load(ctx); err != nil && !errors.Is(err, icecat.ErrNotFound) {
			return err
		}
	}
	if (c.replaces || c.folds) && c.e.log != nil {
		last, ok, err := c.e.log.Turn(ctx)
		if err != nil {
			return err
		}
		if ok {
			a.epoch = &last
			steps = append([]step{&epochStep{last, c.e.log.IDs(c.e.state.folded, last)}}, steps...)
		}
	}
	ch := &icecat.Change{Namespace: c.e.Namespace, Name: c.e.Name, IOs: []*icecat.FileIO{a.io}}
	cur, err := a.base(ctx, ch, needless(steps[0]))
	if err != nil {
		return err
	}
	any := false
	for _, step := range steps {
		meta, err := step.apply(ctx, a, cur)
		if errors.Is(err, errNothing) {
			continue
		}
		if err != nil {
			return err
		}
		any, cur = true, nil
		if meta != nil {
			cur = a.table(meta)
		}
		if f, ok := step.(filer); ok && f.wrote() != nil {
			ch.IOs = append([]*icecat.FileIO{f.wrote()}, ch.IOs...)
		}
	}
	if !any || cur == nil && ch.Base == nil && !a.lost { // made and deleted
		return nil
	}
	if cur != nil {
		if ch.New, err = a.mirror(cur.Metadata()); err != nil {
			return err
		}
	}
	ch.Info, ch.PutIDs, ch.Inline = &a.info, a.ids, a.inline
	a.made = ch
	return nil
}

// base loads what the steps are put on top of, nil if there is no table. Where the
// steps do without it, it may be damaged.
func (a *attempt) base(ctx context.Context, ch *icecat.Change, needless bool) (_ *table.Table, err error) {
	ch.Base, err = a.s.cat.Load(ctx, ch.Namespace, ch.Name)
	switch {
	case errors.Is(err, icecat.ErrNotFound):
		ch.Base = nil
		return nil, nil
	case errors.Is(err, ErrDamaged) && needless:
		lost, err := a.s.cat.Location(ctx, ch.Namespace, ch.Name)
		ch.Lost, a.lost = &lost, true
		return nil, conflict(err)
	case err != nil:
		return nil, err
	}
	l, err := a.s.cat.Get(ctx, ch.Namespace, ch.Name)
	if err = cmp.Or(err, l.Damaged); err != nil {
		return nil, conflict(err)
	}
	a.info = l.Info
	return a.s.cat.Staged(ch.Namespace, ch.Name, ch.Base.Metadata(), ch.Base.MetadataLocation(), a.io), nil
}

// table is the table of the attempt with other metadata.
func (a *attempt) table(meta table.Metadata) *table.Table {
	return a.s.cat.Staged(a.e.Namespace, a.e.Name, meta, "", a.io)
}

// needless reports whether a step does without the table as it is, which may be damaged.
func needless(st step) bool {
	_, deletes := st.(deleteStep)
	_, restores := st.(*restoreStep)
	return deletes || restores
}

// conflict makes of a table that is suddenly gone a reason to try again.
func conflict(err error) error {
	if errors.Is(err, icecat.ErrNotFound) {
		return icecat.ErrConflict
	}
	return err
}

// committed brings the entry up to what was committed. It wants mu where the
// change was exclusive, else nobody needs to know at once.
func (a *attempt) committed(ctx context.Context) error {
	ch := a.made
	if ch == nil {
		return nil
	}
	a.change.result = ch.Result
	if !a.change.exclusive {
		return nil
	}
	if ch.New == nil {
		return a.e.forget(ctx)
	}
	var err error
	if ch.Base != nil && ch.Base.Metadata().TableUUID() != ch.New.TableUUID() { // deleted, and made anew
		err = a.e.forget(ctx)
	} else if a.epoch != nil {
		err = a.e.log.Forget(ctx, *a.epoch)
	}
	return errors.Join(err, a.e.set(ctx, ch.Result))
}

// applied reports whether a put of an id was applied to a table. It wants mu
// where the entry has a log.
func (e *entry) applied(ctx context.Context, uuid, id string) (bool, error) {
	if e.log != nil && e.log.UUID() == uuid {
		if ok, err := e.log.Applied(ctx, id); ok || err != nil {
			return ok, err
		}
	}
	found, err := e.s.cat.PutsApplied(ctx, uuid, id)
	return len(found) > 0, err
}
