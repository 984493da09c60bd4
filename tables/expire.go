package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/commit"
)

// Expire forgets old versions, and removes files that no version of any table
// needs, those of failed commits and deleted tables among them, once they have
// been of no use for the time of grace.
func (s *Store) Expire(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	s = s.made()
	o = cmp.Or(o, new(MaintainOptions))
	if o.OlderThan < 0 || o.Keep < 0 {
		return MaintainResult{}, &OpError{Op: "expire", Dir: s.dir, Err: fmt.Errorf("options OlderThan %v and Keep %d must not be negative", o.OlderThan, o.Keep)}
	}
	used, unread := s.cat.References(ctx)
	if unread != nil && !errors.Is(unread, ErrDamaged) {
		return MaintainResult{}, &OpError{Op: "expire", Dir: s.dir, Err: unread}
	}
	r, err := s.maintain(ctx, "expire", o, func(ctx context.Context, e entry) (r MaintainResult, err error) {
		e.Commits.Lock()
		defer e.Commits.Unlock()
		t, err := e.Commit(ctx, commit.Prepared{Do: func(_ context.Context, _ *commit.Attempt, cur *table.Table) (table.Metadata, error) {
			if cur == nil {
				return nil, commit.ErrNothing // deleted meanwhile
			}
			tx := cur.NewTransaction()
			err := tx.ExpireSnapshots(table.WithOlderThan(o.OlderThan), table.WithRetainLast(max(1, o.Keep)), table.WithPostCommit(false))
			if err != nil {
				return nil, err
			}
			meta, err := commit.MetadataOf(tx)
			if err == nil {
				if r.Versions = len(cur.Metadata().Snapshots()) - len(meta.Snapshots()); r.Versions == 0 {
					err = commit.ErrNothing
				}
			}
			return meta, err
		}})
		if t == nil {
			return MaintainResult{}, err
		}
		r.Tables = 1
		return r, err
	})
	if err != nil && !errors.Is(err, ErrDamaged) {
		return r, err
	}
	if err = cmp.Or(err, unread); err != nil {
		return r, &OpError{Op: "expire", Dir: s.dir, Err: fmt.Errorf("no file was removed, since those that a damaged table needs are not known: %w", err)}
	}
	swept, err := s.cat.Sweep(ctx, cmp.Or(o.Grace, 24*time.Hour), used, func() time.Time { _, since := s.commits.Pinned(); return since })
	if err == nil {
		err = s.cat.ForgetPuts(ctx, time.Now().Add(-IDAge))
	}
	r.FilesRemoved, r.BytesRemoved, r.FilesWaiting = swept.Files, swept.Bytes, swept.Waiting
	if err != nil {
		err = &OpError{Op: "expire", Dir: s.dir, Err: err}
	}
	return r, err
}
