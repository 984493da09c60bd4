package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// Expire removes old versions, and files that no version of any table needs, such as files from failed commits and
// deleted tables. It removes a file only if the file has been unused for the grace period. After the grace period,
// Expire also removes temporary snapshots of interrupted copies and backups.
func (s *Store) Expire(ctx context.Context, o *MaintainOptions) (_ MaintainResult, err error) {
	return s.orUnopened().keeper.expireAll(ctx, cmp.Or(o, new(MaintainOptions)))
}

// checkKeep returns an error if the number of versions to keep, or the time for which to keep them, is negative.
func (o *MaintainOptions) checkKeep() error {
	if o.OlderThan < 0 || o.Keep < 0 {
		return fmt.Errorf("option OlderThan is %v and Keep is %d: they must not be negative", o.OlderThan, o.Keep)
	}
	return nil
}

// expireAll implements Store.Expire.
func (k *keeper) expireAll(ctx context.Context, o *MaintainOptions) (_ MaintainResult, err error) {
	defer wrapOnce(&err, &OpError{Op: "expire", Dir: k.dir})
	if err := o.checkKeep(); err != nil {
		return MaintainResult{}, err
	}
	grace := cmp.Or(o.Grace, 24*time.Hour)
	if err := k.dropTempSnapshots(ctx, grace); err != nil {
		return MaintainResult{}, err
	}
	usedFiles, refsErr := k.cat.References(ctx)
	if refsErr != nil && !errors.Is(refsErr, ErrDamaged) {
		return MaintainResult{}, refsErr
	}
	r, err := k.maintain(ctx, "expire", o, func(ctx context.Context, e tableWriter) (MaintainResult, error) {
		return e.expire(ctx, k.toWallClockAge(o.OlderThan), max(1, o.Keep))
	})
	opErr, ok := errors.AsType[*OpError](err)
	if ok && (opErr.Table == "" || errors.Is(err, ErrClosed) || errors.Is(err, partd.ErrUnknownOutcome)) {
		return r, err
	}
	if errors.Is(err, ErrDamaged) || refsErr != nil {
		return r, &OpError{Op: "expire", Dir: k.dir, Err: fmt.Errorf("no file was removed, because a damaged table's files are unknown: repair the table first: %w", cmp.Or(err, refsErr))}
	}
	// If tables failed for other reasons, Sweep still finds the files that they need.
	swept, sweepErr := k.sweep(ctx, icecat.GracePeriods{Unused: grace, Replaced: grace}, usedFiles)
	r.FilesRemoved, r.BytesRemoved, r.FilesWaiting = swept.Files, swept.Bytes, swept.Waiting
	return r, errors.Join(err, sweepErr)
}

// sweep removes unused files and old put IDs. For files in recentlyUsed, the grace period starts again.
func (k *keeper) sweep(ctx context.Context, grace icecat.GracePeriods, recentlyUsed map[string]struct{}) (icecat.SweepResult, error) {
	grace.Unused, grace.Replaced = k.toWallClockAge(grace.Unused), k.toWallClockAge(grace.Replaced)
	swept, err := k.cat.Sweep(ctx, grace, recentlyUsed, func() time.Time { _, since := k.commits.Pinned(); return since })
	if err == nil {
		err = k.cat.ForgetPuts(ctx, time.Now().Add(-IDAge))
	}
	return swept, err
}

// expire removes versions that are older than olderThan, except the newest ones. keep is how many of these to keep.
func (e tableWriter) expire(ctx context.Context, olderThan time.Duration, keep int) (r MaintainResult, err error) {
	t, err := e.CommitAside(ctx, commit.PreparedStep{Apply: func(_ context.Context, _ *commit.Attempt, cur *table.Table) (meta table.Metadata, err error) {
		if cur == nil {
			return nil, commit.ErrNothing // the table was deleted concurrently
		}
		meta, r.Versions, err = withoutOldVersions(cur, olderThan, keep)
		if err == nil && r.Versions == 0 {
			err = commit.ErrNothing
		}
		return meta, err
	}})
	if t == nil {
		return MaintainResult{}, err
	}
	r.Tables = 1
	return r, err
}

// withoutOldVersions returns t's metadata without the versions that expire would remove, and their number.
func withoutOldVersions(t *table.Table, olderThan time.Duration, keep int) (table.Metadata, int, error) {
	tx := t.NewTransaction()
	if err := tx.ExpireSnapshots(table.WithOlderThan(olderThan), table.WithRetainLast(keep), table.WithPostCommit(false)); err != nil {
		return nil, 0, err
	}
	meta, err := commit.MetadataOf(tx)
	if err != nil {
		return nil, 0, err
	}
	return meta, len(t.Metadata().Snapshots()) - len(meta.Snapshots()), nil
}

// retention returns how many of a table's versions to keep, and for how long. If both are 0, no version expires.
func (o *MaintainOptions) retention(settings definition.Settings) (keep int, age time.Duration) {
	keep, age = settings.Keep()
	if keep == 0 && age == 0 {
		return o.Keep, o.OlderThan
	}
	return keep, age
}

// expires reports whether maintenance expires versions of t.
func (o *MaintainOptions) expires(t *table.Table) bool {
	settings, err := definition.SettingsOf(t.Metadata())
	keep, age := o.retention(settings)
	return err == nil && o.includes(settings) && (keep > 0 || age > 0)
}

// includes reports whether o selects tables with the given settings.
func (o *MaintainOptions) includes(settings definition.Settings) bool {
	return settings.Maintenance == MaintenanceOn || settings.Maintenance != MaintenanceOff && !o.Requested
}

// expireIfDue expires versions if the table's settings or o ask for it, and if many can expire or the last time was
// long ago. reason says why it must not expire versions, or is "".
func (k *keeper) expireIfDue(ctx context.Context, e tableWriter, t *table.Table, settings definition.Settings, state *tableState, o *MaintainOptions) (r MaintainResult, reason string, err error) {
	keep, age := o.retention(settings)
	state.lastExpiryCheck = time.Time{}
	if keep == 0 && age == 0 {
		return r, "", nil
	}
	state.lastExpiryCheck = time.Now()
	props := t.Properties()
	if !props.GetBool(table.GCEnabledKey, table.GCEnabledDefault) {
		return r, "the table's property gc.enabled is false", nil
	}
	keep = max(keep, 1, props.GetInt(table.MinSnapshotsToKeepKey, 0))
	age = k.toWallClockAge(max(age, time.Duration(props.GetInt(table.MaxSnapshotAgeMsKey, 0))*time.Millisecond))
	_, n, err := withoutOldVersions(t, age, keep)
	if err != nil || n == 0 {
		return r, "", err
	}
	kept := len(t.Metadata().Snapshots()) - n
	if since := time.Since(state.lastExpiry); n < 8+kept/8 && since >= 0 && since < expireEvery {
		return r, "", nil
	}
	r, err = e.expire(ctx, age, keep)
	state.lastExpiry = time.Now()
	return r, "", err
}

// sweepIfDue sweeps (removes unused files) if the last sweep was long ago. After versions have expired, it sweeps
// sooner, because their files need only a short grace period.
func (k *keeper) sweepIfDue(ctx context.Context, o *MaintainOptions, r *MaintainResult) error {
	last, err := k.cat.Moment(ctx, sweepName)
	k.mu.Lock()
	every := sweepEvery
	if k.sweepSoon {
		every = min(max(quickSweepEvery, 20*k.sweepDuration), sweepEvery)
	}
	k.mu.Unlock()
	if since := time.Since(last); err != nil || since >= 0 && since < every && o.Grace == 0 {
		return err
	}
	// Add sweepEvery, because a file can count as unused since a sweep although another program committed it after that
	// sweep and its version expired before the next one.
	grace := icecat.GracePeriods{Unused: cmp.Or(o.Grace, unusedTime+sweepEvery), Replaced: cmp.Or(o.Grace, readerTime), Expires: o.expires}
	if err := k.dropTempSnapshots(ctx, grace.Unused); err != nil {
		return err
	}
	start := time.Now()
	swept, err := k.sweep(ctx, grace, nil)
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("no file was removed, because a damaged table's files are unknown: repair the table first: %w", err)
	}
	if err != nil {
		return err
	}
	r.FilesRemoved, r.BytesRemoved, r.FilesWaiting = swept.Files, swept.Bytes, swept.Waiting
	k.mu.Lock()
	k.unusedBytes, k.sweepSoon, k.sweepDuration = swept.WaitingBytes, swept.Soon, time.Since(start)
	k.mu.Unlock()
	if swept.Files > 0 {
		k.opts.Logger.Info("unused files removed", "files", swept.Files, "bytes", swept.Bytes)
	}
	return k.cat.SetMoment(ctx, sweepName, time.Now())
}

// dropTempSnapshots deletes temporary snapshots that have at least the given age, unless a copy in this process may be
// using them. A copy leaves its snapshot behind if its process is killed.
func (k *keeper) dropTempSnapshots(ctx context.Context, age time.Duration) error {
	if k.opts.ReadOnly {
		return nil
	}
	before := time.Now().Add(-k.toWallClockAge(age))
	if pins, oldest := k.commits.Pinned(); pins > 0 && oldest.Before(before) {
		before = oldest
	}
	for b, err := range k.buckets(ctx) {
		if err != nil {
			return err
		}
		snapshots, err := k.snapshots(ctx, b)
		for _, s := range snapshots {
			if err == nil && strings.HasPrefix(s.Name, tempSnapshotPrefix) && s.Time.Before(before) {
				err = k.deleteSnapshots(ctx, b, &s.Name)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
