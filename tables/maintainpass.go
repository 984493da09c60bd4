package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// Maintain runs one pass of maintenance over the tables that o selects. If it is worthwhile, it merges a table's small
// files in several commits of limited size and keeps the order of the rows. Every six hours, or sooner after versions
// have expired, it also removes old put IDs and files that nothing has needed for 30 hours. Replaced metadata, and
// files of tables whose versions expire, are removed after one hour. o.Grace overrides both times.
//
// Versions expire only if o.OlderThan, o.Keep or the table's settings say so. Then Maintain keeps a version if it is
// among the newest Keep or younger than OlderThan, or if the table's Iceberg properties history.expire.* say so. If
// gc.enabled is false, no version expires.
//
// Call Maintain about once a minute. Only one process at a time can maintain a catalog: if another one does, the error
// wraps ErrInUse. Maintain waits for other commits. If they change the files that it is merging, it starts again. If a
// table fails, Maintain continues with the others, and tries the table again in a later pass, after a pause that
// doubles with each failure.
func (s *Store) Maintain(ctx context.Context, o *MaintainOptions) (r MaintainResult, err error) {
	return s.orUnopened().keeper.pass(ctx, cmp.Or(o, new(MaintainOptions)))
}

// pass implements Store.Maintain.
func (k *keeper) pass(ctx context.Context, o *MaintainOptions) (r MaintainResult, err error) {
	defer wrapOnce(&err, &OpError{Op: "maintain", Dir: k.dir})
	if err := o.checkKeep(); err != nil {
		return r, err
	}
	if err := k.checkOpen(); err != nil || k.opts.ReadOnly {
		return r, cmp.Or(err, ErrReadOnly)
	}
	if !k.running.TryLock() {
		return r, fmt.Errorf("maintenance is %w: another pass is running", ErrInUse)
	}
	defer k.running.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.passEnd, k.passErr = time.Now(), err
	}()
	ctx, release, err := k.takeLease(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, release()) }()
	tables, err := o.selectTables(ctx, "maintain", k.commits)
	if err != nil {
		return r, err
	}
	k.forget(tables, len(o.Buckets) == 0)
	var failed []error
	for _, n := range tables {
		if !k.isDue(n) {
			continue
		}
		sum, err := k.maintainTable(ctx, n, o)
		r.add(sum)
		if ctx.Err() != nil || errors.Is(err, ErrClosed) {
			return r, cmp.Or(context.Cause(ctx), err)
		}
		if err != nil && len(failed) < maxFailed {
			failed = append(failed, &OpError{Op: "maintain", Bucket: bucketOf(n.Namespace), Table: n.Name, Err: err})
		}
	}
	if !o.Requested {
		failed = append(failed, parallel.Catch(func() error { return k.sweepIfDue(ctx, o, &r) }))
	}
	return r, errors.Join(failed...)
}

// takeLease takes the maintenance lease and renews it until release is called. If two renewals fail in a row, the
// returned context is canceled.
func (k *keeper) takeLease(ctx context.Context) (_ context.Context, release func() error, err error) {
	ok, err := k.cat.TakeLease(ctx, leaseName, k.holder, leaseTime)
	if err == nil && !ok {
		err = fmt.Errorf("maintenance is %w: another process maintains the tables", ErrInUse)
	}
	if err != nil {
		return ctx, nil, err
	}
	held, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for failures := 0; ; {
			select {
			case <-held.Done():
				return
			case <-time.After(leaseTime / 3):
			}
			ok, err := k.cat.TakeLease(held, leaseName, k.holder, leaseTime)
			failures++
			if err == nil && ok {
				failures = 0
			}
			if failures == 2 { // the lease is about to expire
				cancel(fmt.Errorf("lost the maintenance lease: %w", cmp.Or(err, ErrInUse)))
			}
		}
	}()
	return held, func() error {
		cancel(nil)
		<-stopped
		return k.cat.DropLease(context.WithoutCancel(ctx), leaseName, k.holder)
	}, nil
}

// maintainTable maintains one table, logs what it did, and updates the table's state.
func (k *keeper) maintainTable(ctx context.Context, n tableName, o *MaintainOptions) (r MaintainResult, err error) {
	location, err := k.cat.Location(ctx, n.Namespace, n.Name)
	if errors.Is(err, icecat.ErrNotFound) {
		return r, nil // deleted in the meantime
	}
	if err != nil {
		return r, err
	}
	state := k.state(n)
	idleState := fmt.Sprint(location, o.Keep, o.OlderThan, o.Requested)
	k.mu.Lock()
	isUnchanged := state.idleState == idleState && (state.lastExpiryCheck.IsZero() || time.Since(state.lastExpiryCheck) < expireEvery)
	k.mu.Unlock()
	if isUnchanged {
		return r, nil
	}
	e, release, err := k.acquire(ctx, n)
	if err != nil {
		return r, err
	}
	defer release()
	start := time.Now()
	var reason string
	ctx, end := k.opts.begin(ctx, "maintain", bucketOf(n.Namespace), n.Name)
	err = parallel.Catch(func() error {
		r, reason, err = k.compactAndExpire(ctx, e, state, o)
		return err
	})
	end(Outcome{Err: err})
	log := k.opts.Logger.With("bucket", bucketOf(n.Namespace), "table", n.Name)
	if r != (MaintainResult{}) {
		log.Info("table maintained", "files_before", r.FilesBefore, "files_after", r.FilesAfter, "versions_expired", r.Versions, "seconds", time.Since(start).Seconds())
	}
	if ctx.Err() != nil {
		return r, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	state.reason, state.idleState, state.nextAttempt = reason, "", time.Time{}
	switch {
	case err != nil:
		state.nextAttempt = time.Now().Add(min(time.Minute<<min(state.failures, 10), maxPause))
		state.failures, state.reason = state.failures+1, k.withoutDir(err.Error())
		log.Warn("cannot maintain a table", parallel.LogError(err), "failures", state.failures, "retry", state.nextAttempt.Format(time.RFC3339))
	case reason == "" && r == (MaintainResult{}):
		state.failures, state.idleState = 0, idleState
	default:
		state.failures = 0
	}
	if r != (MaintainResult{}) {
		state.lastChange = time.Now()
	}
	k.sweepSoon = k.sweepSoon || r.Versions > 0
	return r, err
}

// compactAndExpire compacts the table and expires its versions, as far as that is worthwhile. reason says why it left
// work undone, or is "".
func (k *keeper) compactAndExpire(ctx context.Context, e tableWriter, state *tableState, o *MaintainOptions) (sum MaintainResult, reason string, err error) {
	t, err := e.Current(ctx)
	if err != nil || t == nil || t.CurrentSnapshot() == nil {
		return sum, "", err
	}
	settings, err := definition.SettingsOf(t.Metadata())
	if err != nil || !o.includes(settings) {
		return sum, "", err
	}
	maxVersion, p := t.Metadata().LastSequenceNumber(), &pacer{time.Now()}
	for start, numStale := time.Now(), 0; time.Since(start) < tableTime; {
		var r MaintainResult
		r, reason, err = k.compactRun(ctx, e, t, state, p, maxVersion)
		sum.add(r)
		switch {
		case errors.Is(err, commit.ErrStale):
			numStale++
			if numStale == 3 {
				reason = "other commits to the table replace the files that are being merged"
			}
		case err != nil:
			return sum, "", err
		}
		isDone := err == nil && r.FilesBefore == 0
		t, err = e.Current(ctx)
		if err != nil || t == nil || t.CurrentSnapshot() == nil {
			return sum, "", err
		}
		if isDone || reason != "" {
			break
		}
		if err := p.pause(ctx); err != nil {
			return sum, "", err
		}
	}
	r, expireReason, err := k.expireIfDue(ctx, e, t, settings, state, o)
	sum.add(r)
	sum.Tables = min(sum.Tables, 1)
	return sum, cmp.Or(reason, expireReason), err
}

// compactRun merges one run of files if that is worthwhile and nothing prevents it. maxVersion is the table's version
// before the pass changed it: so that the pass ends, a run with too few files up to that version is left to the next
// pass. The error wraps commit.ErrStale if another commit came first.
func (k *keeper) compactRun(ctx context.Context, e tableWriter, t *table.Table, state *tableState, p *pacer, maxVersion int64) (r MaintainResult, reason string, err error) {
	free, _, spaceErr := k.diskSpace()
	prepare := func(ctx context.Context, t *table.Table, step *compactStep) error {
		return e.prepareRun(ctx, t, step, p, func(run []table.FileScanTask) bool {
			var size int64
			old := 0
			for _, f := range run {
				size += f.File.FileSizeBytes()
				if sequence(f) <= maxVersion {
					old++
				}
			}
			if old < min(minRunFiles, len(run)) {
				return false
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			isLoaded := time.Since(k.lastLoads[e.TableName]) < engineTime
			switch {
			case len(e.Changing) > 0:
				reason = "a statement is changing rows"
			case spaceErr == nil && k.localDir == k.dir && free < 2*size+minFreeBytes:
				reason = "the disk has too little free space to merge files"
			case isLoaded && (state.waitingSince.IsZero() || time.Since(state.waitingSince) < engineLimit):
				reason = "an engine has loaded the table, and may be about to commit"
				if state.waitingSince.IsZero() {
					state.waitingSince = time.Now()
				}
			default:
				state.waitingSince = time.Time{}
			}
			return reason == ""
		})
	}
	r, err = e.commitCompaction(ctx, t, prepare)
	return r, reason, err
}
