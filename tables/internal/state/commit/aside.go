package commit

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// maxAside is how often CommitAside prepares a commit without the table's lock.
const maxAside = 3

// CommitAside is like Commit, but the caller must not hold e.Commits, and step must be Plain. CommitAside prepares the
// commit and syncs its files without the lock, so that other commits wait only for the catalog's transaction. If others
// commit meanwhile, it prepares the commit again, the last time with the lock. It waits for SQL statements that change
// rows, because they would have to start again if files were replaced.
func (e *Entry) CommitAside(ctx context.Context, step PreparedStep) (t *table.Table, err error) {
	if e.tables.OnPrepared != nil {
		e.tables.OnPrepared()
	}
	for attempt := 1; ; attempt++ {
		c := &Change{Entry: e}
		c.Add(Plain, step.IO, step.Apply)
		if err = e.commitAside(ctx, c, attempt > maxAside); attempt > maxAside || !errors.Is(err, table.ErrCommitFailed) {
			return c.Result, err
		}
	}
}

func (e *Entry) commitAside(ctx context.Context, c *Change, isLocked bool) (err error) {
	lock := func() (func(), error) {
		if err := canceled.Send(ctx, e.Changing, struct{}{}); err != nil {
			return nil, err
		}
		if err := e.LockCommits(ctx); err != nil {
			<-e.Changing
			return nil, err
		}
		return func() { e.Commits.Unlock(); <-e.Changing }, nil
	}
	if isLocked {
		unlock, err := lock()
		if err != nil {
			return err
		}
		defer unlock()
		return e.tables.commitWithRetry(ctx, nil, c)
	}
	cat := e.tables.Catalog
	a := &Attempt{Change: c, IO: cat.NewIO(), Now: time.Now()}
	defer func() { a.IO.RemoveFailed(err) }()
	if err := a.prepare(ctx); err != nil || a.record == nil {
		return err
	}
	if err := definition.CheckFoldable(a.record.Base, a.record.New); err != nil {
		return err
	}
	if err := cat.Stage(a.record); err != nil {
		return err
	}
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	e.mu.Lock()
	// Puts whose fold has just failed may have returned the new version.
	isTaken := e.log != nil && slices.Contains(e.log.Versions(e.state.folded, lastEpoch), a.record.New.LastSequenceNumber())
	e.mu.Unlock()
	if isTaken {
		return icecat.ErrConflict
	}
	if err := cat.Commit(ctx, nil, a.record); err != nil {
		return err
	}
	return a.finish(ctx)
}
