package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/state/commit"
)

// Expire removes old versions, and files that no version of any table needs, such as files from failed commits and
// deleted tables. A file must have been unused for the grace period before Expire removes it. Expire also removes
// temporary snapshots of interrupted copies and backups after the grace period.
func (s *Store) Expire(ctx context.Context, o *MaintainOptions) (_ MaintainResult, err error) {
	s = s.orUnopened()
	defer wrapOnce(&err, &OpError{Op: "expire", Dir: s.dir})
	o = cmp.Or(o, new(MaintainOptions))
	if o.OlderThan < 0 || o.Keep < 0 {
		return MaintainResult{}, fmt.Errorf("option OlderThan is %v and Keep is %d: they must not be negative", o.OlderThan, o.Keep)
	}
	grace := cmp.Or(o.Grace, 24*time.Hour)
	if err := s.dropWorkSnapshots(ctx, time.Now().Add(-grace)); err != nil {
		return MaintainResult{}, err
	}
	used, refsErr := s.cat.References(ctx)
	if refsErr != nil && !errors.Is(refsErr, ErrDamaged) {
		return MaintainResult{}, refsErr
	}
	r, err := s.maintain(ctx, "expire", o, func(ctx context.Context, e entry) (r MaintainResult, err error) {
		e.Commits.Lock()
		defer e.Commits.Unlock()
		t, err := e.Commit(ctx, commit.PreparedStep{Apply: func(_ context.Context, _ *commit.Attempt, cur *table.Table) (table.Metadata, error) {
			if cur == nil {
				return nil, commit.ErrNothing // the table was deleted concurrently
			}
			tx := cur.NewTransaction()
			err := tx.ExpireSnapshots(table.WithOlderThan(o.OlderThan), table.WithRetainLast(max(1, o.Keep)), table.WithPostCommit(false))
			if err != nil {
				return nil, err
			}
			meta, err := commit.MetadataOf(tx)
			if err != nil {
				return meta, err
			}
			r.Versions = len(cur.Metadata().Snapshots()) - len(meta.Snapshots())
			if r.Versions == 0 {
				err = commit.ErrNothing
			}
			return meta, err
		}})
		if t == nil {
			return MaintainResult{}, err
		}
		r.Tables = 1
		return r, err
	})
	var failed *OpError
	if errors.As(err, &failed) && (failed.Table == "" || errors.Is(err, ErrClosed) || errors.Is(err, partd.ErrUnknownOutcome)) {
		return r, err
	}
	if errors.Is(err, ErrDamaged) || refsErr != nil {
		return r, &OpError{Op: "expire", Dir: s.dir, Err: fmt.Errorf("no file was removed, because a damaged table's files are unknown: repair the table first: %w", cmp.Or(err, refsErr))}
	}
	// If tables failed for other reasons, Sweep still finds the files that they need.
	swept, sweepErr := s.cat.Sweep(ctx, grace, used, func() time.Time { _, since := s.commits.Pinned(); return since })
	if sweepErr == nil {
		sweepErr = s.cat.ForgetPuts(ctx, time.Now().Add(-IDAge))
	}
	r.FilesRemoved, r.BytesRemoved, r.FilesWaiting = swept.Files, swept.Bytes, swept.Waiting
	return r, errors.Join(err, sweepErr)
}
