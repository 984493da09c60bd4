package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// commitWithRetry commits changes and retries after conflicts. The Commits lock of each change's entry must be held.
func (s *shared) commitWithRetry(ctx context.Context, hooks []icecat.TxHook, changes ...*Change) error {
	if s.ReadOnly {
		return ErrReadOnly
	}
	for attempt := 1; ; attempt++ {
		err := s.tryCommit(ctx, hooks, changes)
		if !errors.Is(err, table.ErrCommitFailed) {
			return err
		}
		if attempt == MaxAttempts {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
		pause := time.Duration(rand.Int64N(int64(min(attempt, 50)) * int64(2*time.Millisecond)))
		if err := canceled.Wait(ctx, time.After(pause)); err != nil {
			return err
		}
	}
}

func (s *shared) tryCommit(ctx context.Context, hooks []icecat.TxHook, changes []*Change) (err error) {
	var attempts []*Attempt
	defer func() {
		for _, a := range attempts {
			a.IO.RemoveFailed(err)
		}
	}()
	var records []*icecat.Change
	for _, c := range changes {
		if c.modes != Plain {
			c.mu.Lock()
			defer c.mu.Unlock()
		}
		a := &Attempt{Change: c, IO: s.Catalog.NewIO(), Now: time.Now()}
		attempts = append(attempts, a)
		if err := a.prepare(ctx); err != nil {
			return err
		}
		if a.record != nil {
			records = append(records, a.record)
		}
	}
	for _, r := range records {
		if err := definition.CheckFoldable(r.Base, r.New); err != nil {
			return err
		}
	}
	if len(records)+len(hooks) > 0 {
		if err := s.Catalog.Commit(ctx, hooks, records...); err != nil {
			return err
		}
	}
	for _, a := range attempts {
		if err := a.finish(ctx); err != nil {
			// The commit succeeded, and the tail is cleaned up later: at the next access to the table or the next Open.
			s.Logger.Warn("cannot clean up the tail after a commit", "table", a.Name, "err", err)
		}
	}
	return nil
}

// prepare applies the steps to the table's current state. If none of the steps that replace or fold the tail's rows
// changes anything, these rows stay in the tail.
func (a *Attempt) prepare(ctx context.Context) error {
	usesTail := func(p PreparedStep) bool { return p.Mode&(Replaces|Folds) != 0 }
	applied, err := a.apply(ctx, a.steps, a.modes&(Replaces|Folds) != 0)
	if err == nil && a.epoch != nil && !slices.ContainsFunc(applied, usesTail) {
		a.IO.RemoveWritten()
		*a = Attempt{Change: a.Change, IO: a.IO, Now: a.Now}
		if len(applied) > 0 {
			_, err = a.apply(ctx, applied, false)
		}
	}
	return err
}

// apply applies steps and returns the steps that changed something. removesTail means that the change removes the
// tail's rows.
func (a *Attempt) apply(ctx context.Context, steps []PreparedStep, removesTail bool) (applied []PreparedStep, err error) {
	e := &a.current
	if a.modes&Folds != 0 {
		if _, err := e.load(ctx); err != nil && !errors.Is(err, icecat.ErrNotFound) {
			return nil, err
		}
	}
	all := steps
	if removesTail && e.log != nil {
		last, ok, err := e.log.EndEpoch(ctx)
		if err != nil {
			return nil, err
		}
		if ok {
			a.epoch = &last
			all = append([]PreparedStep{{Apply: e.markReplaced(last)}}, steps...)
		}
	}
	record := &icecat.Change{Namespace: e.Namespace, Name: e.Name, IOs: []*icecat.FileIO{a.IO}}
	cur, err := a.loadBase(ctx, record, all[0].Mode&(Deletes|Restores) != 0)
	if err != nil {
		return nil, err
	}
	a.initial = cur
	cur, err = a.reserve(cur)
	if err != nil {
		return nil, err
	}
	for i, p := range all {
		earlierIDs := len(a.IDs)
		meta, err := p.Apply(ctx, a, cur)
		if errors.Is(err, ErrNothing) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.Mode&(Replaces|Deletes) != 0 {
			a.tailDone = true // a later step must not bring back the replaced rows
		}
		if cur != nil && meta != nil {
			meta, err = definition.WithHistory(cur.Metadata(), meta)
			if err == nil {
				meta, err = withNames(cur.Metadata(), meta)
			}
			if err != nil {
				return nil, err
			}
		}
		if cur != nil && (meta == nil || meta.TableUUID() != cur.Metadata().TableUUID()) {
			a.IDs = a.IDs[earlierIDs:] // the earlier puts went to a table that no longer exists
		}
		if i >= len(all)-len(steps) {
			applied = append(applied, p)
		}
		cur = nil
		if meta != nil {
			cur = a.Table(meta)
		}
		if p.IO != nil {
			record.IOs = append([]*icecat.FileIO{p.IO}, record.IOs...)
		}
	}
	// no step did anything, or the table did not exist and still does not
	if len(applied) == 0 || cur == nil && record.Base == nil && !a.Damaged {
		return applied, nil
	}
	if cur != nil {
		record.New, err = a.complete(ctx, cur.Metadata())
		if err != nil {
			return nil, err
		}
	}
	record.Info, record.PutIDs, record.Inline, record.Restored = &a.Info, a.IDs, a.inline, a.Restored
	a.record = record
	return applied, nil
}

// complete adds to meta what each commit must record, such as row counts and the user.
func (a *Attempt) complete(ctx context.Context, meta table.Metadata) (table.Metadata, error) {
	meta, err := a.addVersion(meta)
	if err == nil {
		meta, err = a.describe(meta)
	}
	if err == nil {
		meta, err = a.withRowCounts(ctx, meta)
	}
	if err == nil {
		meta, err = a.withUser(ctx, meta)
	}
	if err != nil {
		return nil, err
	}
	return a.Info.Mirror(meta)
}

// loadBase loads the table to change into record and a. It returns nil if the table does not exist, or if the table is
// damaged and mayBeDamaged is true.
func (a *Attempt) loadBase(ctx context.Context, record *icecat.Change, mayBeDamaged bool) (_ *table.Table, err error) {
	cat := a.tables.Catalog
	record.Base, a.base = a.base, nil // after a conflict, the next attempt loads the table again
	if record.Base == nil {
		record.Base, err = a.tables.load(ctx, record.Namespace, record.Name)
	}
	switch {
	case errors.Is(err, icecat.ErrNotFound):
		record.Base = nil
		return nil, nil
	case errors.Is(err, icecat.ErrContent) && mayBeDamaged:
		location, err := cat.Location(ctx, record.Namespace, record.Name)
		record.DamagedLocation, a.Damaged = &location, true
		return nil, asConflict(err)
	case err != nil:
		return nil, err
	}
	l, err := cat.Get(ctx, record.Namespace, record.Name)
	err = cmp.Or(err, l.Damaged)
	if err != nil {
		return nil, asConflict(err)
	}
	a.Info = l.Info
	return cat.Staged(record.Namespace, record.Name, record.Base.Metadata(), record.Base.MetadataLocation(), a.IO), nil
}

// asConflict converts ErrNotFound to icecat.ErrConflict: the table existed a moment ago, so the commit must be retried.
func asConflict(err error) error {
	if errors.Is(err, icecat.ErrNotFound) {
		return icecat.ErrConflict
	}
	return err
}

// finish stores the commit's result in the change. Unless the change is Plain, finish also updates the entry; in this
// case, e.mu must be held.
func (a *Attempt) finish(ctx context.Context) error {
	record := a.record
	if record == nil || record.New == nil {
		a.RemoveFiles(ErrNothing) // the commit does not use the steps' files
	}
	if record == nil {
		return nil
	}
	a.Result = record.Result
	if a.modes == Plain {
		return nil
	}
	if record.New == nil {
		return a.deleteLog(ctx)
	}
	var err error
	// the table was deleted and created again
	if record.Base != nil && record.Base.Metadata().TableUUID() != record.New.TableUUID() {
		err = a.deleteLog(ctx)
	} else if a.epoch != nil {
		err = a.log.Forget(ctx, *a.epoch)
	}
	return errors.Join(err, a.setState(ctx, record.Result))
}

// markReplaced returns a step that records epoch as folded without adding the epoch's rows to the table. e.mu must be
// held.
func (e *current) markReplaced(epoch int64) Step {
	ids := e.log.IDs(e.state.folded, epoch)
	return func(_ context.Context, a *Attempt, cur *table.Table) (table.Metadata, error) {
		if cur == nil { // another program deleted the table
			return nil, ErrNothing
		}
		a.IDs = addAll(a.IDs, ids)
		return table.UpdateTableMetadata(cur.Metadata(), []table.Update{table.NewSetPropertiesUpdate(e.tables.epochProperty(epoch))}, "")
	}
}

// FoldTail moves the tail's rows to files and returns the resulting metadata of cur. The change must have the mode
// Folds.
func (a *Attempt) FoldTail(ctx context.Context, cur *table.Table) (table.Metadata, error) {
	if a.tailDone || a.log == nil {
		return cur.Metadata(), nil
	}
	a.tailDone = true
	rows, err := a.log.Rows(ctx, a.state.folded, lastEpoch)
	if err != nil || len(rows) == 0 {
		return cur.Metadata(), err
	}
	a.hasTailRows = true
	defer take.Release(rows)
	def, err := definition.FromMetadata(cur.Metadata())
	if err != nil {
		return nil, err
	}
	batch, err := concat(cur.Metadata(), rows, def.Stored)
	if err != nil {
		return nil, err
	}
	defer batch.Release()
	files, err := a.Write(ctx, cur, a.IO, storedRows(batch))
	if err != nil {
		return nil, err
	}
	meta, err := a.AddOrdered(ctx, cur, files, nil, true)
	if err == nil {
		a.tailSnapshot = SnapshotID(a.Table(meta))
	}
	return meta, err
}
