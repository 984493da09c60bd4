package commit

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

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
)

// MostAttempts is how often a commit that others came before is tried again.
const MostAttempts = 100

// Step is a part of a change of one table. It returns the table after the step, nil where
// it deletes it; cur is nil where there is none. It is called once for each attempt to
// commit, and writes no files but manifests: rows are written before.
type Step func(ctx context.Context, a *Attempt, cur *table.Table) (table.Metadata, error)

// How is what a step needs beside the table's metadata.
type How uint8

const (
	Plain     How = 0
	Exclusive How = 1 << iota // no append to the tail may come in between
	Replaces                  // what is in the tail is replaced
	Folds                     // the step makes files of what is in the tail
	Deletes                   // the step does without the table as it is, which may be damaged, and without the tail's rows
	Restores                  // the step does without the table as it is
)

// Prepared is a step whose files are written through IO; nil: it has none.
type Prepared struct {
	How How
	IO  *icecat.FileIO
	Do  Step
}

// Change is a change of one table, as steps.
type Change struct {
	*Entry
	Result *table.Table // as committed; nil if there was nothing to do, or it was deleted

	// Unfolded leaves the tail as it is before the steps: they name the snapshot that
	// they were made on, and a fold would make another.
	Unfolded bool

	steps []Prepared
	how   How // of all
}

// Add adds a step.
func (c *Change) Add(how How, io *icecat.FileIO, do Step) {
	c.steps, c.how = append(c.steps, Prepared{how, io, do}), c.how|how
}

// Len returns how many steps there are.
func (c *Change) Len() int { return len(c.steps) }

// Writes reports whether the change has files, or other columns.
func (c *Change) Writes() bool {
	return c.how&Folds != 0 || slices.ContainsFunc(c.steps, func(p Prepared) bool { return p.IO != nil })
}

// RemoveFiles removes what was written for steps that, by err, were not committed.
func (c *Change) RemoveFiles(err error) {
	for _, p := range c.steps {
		if p.IO != nil {
			p.IO.RemoveFailed(err)
		}
	}
}

// Commit makes all changes, each of another table, or none, and what hooks do in the same
// transaction.
func (s *Tables) Commit(ctx context.Context, hooks []icecat.TxHook, changes ...*Change) error {
	if s.Prepared != nil {
		s.Prepared()
	}
	slices.SortFunc(changes, func(a, b *Change) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	for _, c := range changes {
		c.Commits.Lock()
		defer c.Commits.Unlock()
	}
	for _, c := range changes {
		// What was acknowledged before comes before, in the rows and in the versions.
		if c.steps[0].How&Deletes == 0 && c.how&Folds == 0 && !c.Unfolded {
			_, err := c.fold(ctx)
			if c.how&Replaces != 0 && (errors.As(err, new(*schema.Error)) || errors.Is(err, icecat.ErrContent)) {
				// Rows that do not fit what somebody else made of the table, or that cannot be
				// read: a Replace is the way out.
				s.Logger.Warn("rows in the tail were replaced without a version of their own", "table", c.Name, "err", err)
				err = nil
			}
			if err != nil {
				return err
			}
		}
	}
	return s.commitWithRetry(ctx, hooks, changes...)
}

// Commit commits steps of a table whose Commits is held, and whose tail is folded already
// where that matters. It returns the table as committed; nil if there was nothing to do.
func (e *Entry) Commit(ctx context.Context, steps ...Prepared) (*table.Table, error) {
	c := &Change{Entry: e}
	for _, p := range steps {
		c.Add(p.How, p.IO, p.Do)
	}
	if e.of.Prepared != nil {
		e.of.Prepared()
	}
	err := e.of.commitWithRetry(ctx, nil, c)
	return c.Result, err
}

// commitWithRetry commits changes again and again while others come before. It wants the
// entries' Commits.
func (s *Tables) commitWithRetry(ctx context.Context, hooks []icecat.TxHook, changes ...*Change) error {
	if s.ReadOnly {
		return ErrReadOnly
	}
	for n := 1; ; n++ {
		err := s.tryCommit(ctx, hooks, changes)
		if !errors.Is(err, table.ErrCommitFailed) {
			return err
		}
		if n == MostAttempts {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
		pause := time.Duration(rand.Int64N(int64(min(n, 50)) * int64(2*time.Millisecond)))
		if err := canceled.Wait(ctx, time.After(pause)); err != nil {
			return err
		}
	}
}

// Attempt is one attempt to commit a change of a table.
type Attempt struct {
	*Change
	IO   *icecat.FileIO // manifests and metadata
	Info icecat.Info    // of the listing
	IDs  []icecat.PutID // of the puts
	Now  time.Time
	Lost bool // the table is there, and damaged

	was      *table.Table   // before the steps; nil: there is none
	tailDone bool           // a step made files of what is in the tail,
	tailRows bool           // in which there were rows
	inline   bool           // the metadata is small, and kept by the database
	epoch    *int64         // of the tail, up to which it is replaced; nil: none
	made     *icecat.Change // nil: there is nothing to do
}

// tryCommit is one attempt of commitWithRetry.
func (s *Tables) tryCommit(ctx context.Context, hooks []icecat.TxHook, changes []*Change) (err error) {
	var attempts []*Attempt
	defer func() {
		for _, a := range attempts {
			a.IO.RemoveFailed(err)
		}
	}()
	var made []*icecat.Change
	for _, c := range changes {
		if c.how != Plain {
			c.mu.Lock()
			defer c.mu.Unlock()
		}
		a := &Attempt{Change: c, IO: s.Catalog.NewIO(), Now: time.Now()}
		attempts = append(attempts, a)
		if err := a.prepare(ctx); err != nil {
			return err
		}
		if a.made != nil {
			made = append(made, a.made)
		}
	}
	if len(made)+len(hooks) > 0 {
		if err := s.Catalog.Commit(ctx, hooks, made...); err != nil {
			return err
		}
	}
	for _, a := range attempts {
		if err := a.committed(ctx); err != nil {
			// It is committed; the next one to use the table, or the next Open, tidies up.
			s.Logger.Warn("the tail could not be tidied up after a commit", "table", a.Name, "err", err)
		}
	}
	return nil
}

// prepare puts the steps on top of the table as it is now.
func (a *Attempt) prepare(ctx context.Context) error {
	e, steps := a.Entry, a.steps
	if a.how&Folds != 0 {
		if _, err := e.load(ctx); err != nil && !errors.Is(err, icecat.ErrNotFound) {
			return err
		}
	}
	if a.how&(Replaces|Folds) != 0 && e.log != nil {
		last, ok, err := e.log.Turn(ctx)
		if err != nil {
			return err
		}
		if ok {
			a.epoch = &last
			steps = append([]Prepared{{Do: e.replaced(last)}}, steps...)
		}
	}
	ch := &icecat.Change{Namespace: e.Namespace, Name: e.Name, IOs: []*icecat.FileIO{a.IO}}
	cur, err := a.base(ctx, ch, steps[0].How&(Deletes|Restores) != 0)
	if err != nil {
		return err
	}
	a.was = cur
	any := false
	for _, p := range steps {
		meta, err := p.Do(ctx, a, cur)
		if errors.Is(err, ErrNothing) {
			continue
		}
		if err != nil {
			return err
		}
		any, cur = true, nil
		if meta != nil {
			cur = a.Table(meta)
		}
		if p.IO != nil {
			ch.IOs = append([]*icecat.FileIO{p.IO}, ch.IOs...)
		}
	}
	if !any || cur == nil && ch.Base == nil && !a.Lost { // made and deleted
		return nil
	}
	if cur != nil {
		if ch.New, err = a.Info.Mirror(cur.Metadata()); err != nil {
			return err
		}
	}
	ch.Info, ch.PutIDs, ch.Inline = &a.Info, a.IDs, a.inline
	a.made = ch
	return nil
}

// base loads what the steps are put on top of, nil if there is no table. Where the
// steps do without it, it may be damaged.
func (a *Attempt) base(ctx context.Context, ch *icecat.Change, needless bool) (_ *table.Table, err error) {
	cat := a.of.Catalog
	ch.Base, err = cat.Load(ctx, ch.Namespace, ch.Name)
	switch {
	case errors.Is(err, icecat.ErrNotFound):
		ch.Base = nil
		return nil, nil
	case errors.Is(err, icecat.ErrContent) && needless:
		lost, err := cat.Location(ctx, ch.Namespace, ch.Name)
		ch.Lost, a.Lost = &lost, true
		return nil, conflict(err)
	case err != nil:
		return nil, err
	}
	l, err := cat.Get(ctx, ch.Namespace, ch.Name)
	if err = cmp.Or(err, l.Damaged); err != nil {
		return nil, conflict(err)
	}
	a.Info = l.Info
	return cat.Staged(ch.Namespace, ch.Name, ch.Base.Metadata(), ch.Base.MetadataLocation(), a.IO), nil
}

// TailRows returns how many rows are in the tail alone. The change has to be Exclusive.
func (a *Attempt) TailRows() (rows int64) {
	if a.log != nil {
		rows, _, _, _ = a.log.Size(a.state.folded)
	}
	return rows
}

// Table is the table of the attempt with other metadata.
func (a *Attempt) Table(meta table.Metadata) *table.Table { return a.Staged(meta, a.IO) }

// Series is a table as a Series; nil if its rows have no order.
func (e *Entry) Series(t *table.Table) (*series.Series, error) { return series.Of(t, e.of.Memory) }

// Put notes that the change holds a put of an id; it returns ErrNothing where one was
// applied before. Cur may be nil.
func (a *Attempt) Put(ctx context.Context, cur *table.Table, id string) error {
	if slices.ContainsFunc(a.IDs, func(before icecat.PutID) bool { return before.ID == id }) {
		return ErrNothing
	}
	if cur != nil {
		if applied, err := a.applied(ctx, cur.Metadata().TableUUID().String(), id); applied || err != nil {
			return cmp.Or(err, ErrNothing)
		}
	}
	a.IDs = append(a.IDs, icecat.PutID{ID: id, At: a.Now})
	return nil
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
func (a *Attempt) committed(ctx context.Context) error {
	ch := a.made
	if ch == nil || ch.New == nil { // the files are of no use
		a.RemoveFiles(ErrNothing)
	}
	if ch == nil {
		return nil
	}
	a.Result = ch.Result
	if a.how == Plain {
		return nil
	}
	if ch.New == nil {
		return a.forget(ctx)
	}
	var err error
	if ch.Base != nil && ch.Base.Metadata().TableUUID() != ch.New.TableUUID() { // deleted, and made anew
		err = a.forget(ctx)
	} else if a.epoch != nil {
		err = a.log.Forget(ctx, *a.epoch)
	}
	return errors.Join(err, a.set(ctx, ch.Result))
}
