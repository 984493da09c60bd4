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

	"github.com/go-partd/partd"
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
	if e.s.hooks.staged != nil {
		e.s.hooks.staged()
	}
	err := e.s.commitWithRetry(ctx, nil, c)
	return c.result, err
}

// commitWithRetry commits changes, and what hooks do in the same transaction, again
// and again while others come before. It wants the entries' commit.
func (s *Store) commitWithRetry(ctx context.Context, hooks []icecat.TxHook, changes ...*change) error {
	for n := 1; ; n++ {
		err := s.attempt(ctx, hooks, changes)
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

func (s *Store) attempt(ctx context.Context, hooks []icecat.TxHook, changes []*change) (err error) {
	for _, c := range changes {
		if c.exclusive {
			c.e.mu.Lock()
			defer c.e.mu.Unlock()
		}
	}
	var staged []*icecat.Change
	var of []*change
	epochs := map[*change]int64{} // of the tail, that are replaced
	defer func() {
		if err != nil && !errors.Is(err, partd.ErrUnknownOutcome) {
			for _, ch := range staged {
				ch.IOs[len(ch.IOs)-1].RemoveWritten()
			}
		}
	}()
	for _, c := range changes {
		st := &staging{s: s, e: c.e, io: s.cat.NewIO(), now: time.Now()}
		ch := &icecat.Change{Namespace: c.e.Namespace, Name: c.e.Name, IOs: []*icecat.FileIO{st.io}}
		staged = append(staged, ch) // at once, so that what it wrote is removed
		steps := c.steps
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
				epochs[c] = last
				steps = append([]step{&epochStep{last, c.e.log.IDs(c.e.state.folded, last)}}, steps...)
			}
		}
		nothing, err := st.stage(ctx, ch, steps)
		if err != nil {
			return err
		}
		if nothing {
			staged = staged[:len(staged)-1]
			continue
		}
		of = append(of, c)
	}
	if len(staged)+len(hooks) == 0 {
		return nil
	}
	if err := s.cat.CommitWith(ctx, hooks, staged...); err != nil {
		return err
	}
	for i, c := range of {
		c.result = staged[i].Result
		if err := c.committed(ctx, staged[i], epochs); err != nil {
			// It is committed; the next one to use the table, or the next Open, tidies up.
			s.opts.Logger.Warn("the tail could not be tidied up after a commit", "table", c.e.Name, "err", err)
		}
	}
	return nil
}

// stage makes a Change of steps. It reports whether there is nothing to do.
func (st *staging) stage(ctx context.Context, ch *icecat.Change, steps []step) (nothing bool, err error) {
	var cur *table.Table
	ch.Base, err = st.s.cat.Load(ctx, ch.Namespace, ch.Name)
	switch {
	case errors.Is(err, icecat.ErrNotFound):
		ch.Base = nil
	case errors.Is(err, ErrDamaged) && needless(steps[0]):
		lost, err := st.s.cat.Location(ctx, ch.Namespace, ch.Name)
		if err != nil {
			return false, conflict(err)
		}
		ch.Lost, st.lost = &lost, true
	case err != nil:
		return false, err
	default:
		cur = st.s.cat.Staged(ch.Namespace, ch.Name, ch.Base.Metadata(), ch.Base.MetadataLocation(), st.io)
		l, err := st.s.cat.Get(ctx, ch.Namespace, ch.Name)
		if err = cmp.Or(err, l.Damaged); err != nil {
			return false, conflict(err)
		}
		st.info = l.Info
	}
	nothing = true
	for _, step := range steps {
		meta, err := step.stage(ctx, st, cur)
		if errors.Is(err, errNothing) {
			continue
		}
		if err != nil {
			return false, err
		}
		nothing = false
		cur = nil
		if meta != nil {
			cur = st.s.cat.Staged(ch.Namespace, ch.Name, meta, "", st.io)
		}
		if f, ok := step.(filer); ok && f.wrote() != nil {
			ch.IOs = append([]*icecat.FileIO{f.wrote()}, ch.IOs...)
		}
	}
	if nothing || cur == nil && ch.Base == nil && !st.lost { // made and deleted
		return true, nil
	}
	if cur != nil {
		if ch.New, err = st.mirror(cur.Metadata()); err != nil {
			return false, err
		}
	}
	ch.Info, ch.PutIDs, ch.Inline = &st.info, st.ids, st.inline
	return false, nil
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
func (c *change) committed(ctx context.Context, ch *icecat.Change, epochs map[*change]int64) error {
	if !c.exclusive {
		return nil
	}
	if ch.New == nil {
		return c.e.forget(ctx)
	}
	var err error
	if ch.Base != nil && ch.Base.Metadata().TableUUID() != ch.New.TableUUID() { // deleted, and made anew
		err = c.e.forget(ctx)
	} else if last, ok := epochs[c]; ok {
		err = c.e.log.Forget(ctx, last)
	}
	return errors.Join(err, c.e.set(ctx, ch.Result))
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
