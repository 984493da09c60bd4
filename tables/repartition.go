package tables

import (
	"context"

	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

func (r *PartitionResult) setPeriods(c *series.Cutter) {
	periods, why := c.Periods()
	r.Partition, r.Why = Partition(periods), why
}

// Partition sets the time periods that divide a table's rows into files, and divides existing files, in one commit. It
// rewrites a file that lies within one period only if the file is small or overlaps another file. If by is "", the
// current setting stays. With [PartitionAuto], each put, fold and compaction chooses the periods anew from the data.
func (t *Table) Partition(ctx context.Context, by Partition) (result PartitionResult, err error) {
	defer wrapError(&err, "partition", t.Bucket().Name(), t.Name())
	e, release, err := t.acquire(ctx)
	if err != nil {
		return result, err
	}
	defer release()
	err = commit.RetryStale(maxRewrites, func() error {
		result, err = e.partition(ctx, by)
		return err
	})
	return result, err
}

func (e tableWriter) partition(ctx context.Context, by Partition) (result PartitionResult, failure error) {
	e.Commits.Lock()
	defer e.Commits.Unlock()
	t, err := e.FoldAll(ctx)
	if err != nil {
		return result, err
	}
	settings, err := definition.SettingsOf(t.Metadata())
	if err != nil {
		return result, err
	}
	var steps []commit.PreparedStep
	if period := definition.Partition(by); period != "" && period != settings.Partition {
		settings.Partition = period
		steps = append(steps, commit.PreparedStep{Apply: editSettingsStep(func(s *definition.Settings) { s.Partition = period })})
	}
	if err := settings.CheckPartition(); err != nil {
		return result, &ArgumentError{Err: err}
	}
	result = PartitionResult{Partition: PartitionNone, Why: "the files are not divided by time", Version: versionOf(t.Metadata())}
	if settings.HasPeriods() {
		result.setPeriods(&series.Cutter{By: settings.Partition})
	}
	if settings.HasPeriods() && t.CurrentSnapshot() != nil {
		meta, err := definition.WithSettings(t.Metadata(), &settings)
		if err != nil {
			return result, err
		}
		step, err := e.prepareCompaction(ctx, e.Staged(meta, e.s.cat.NewIO()), e.prepareAll)
		if err != nil {
			return result, err
		}
		defer func() { step.IO.RemoveFailed(failure) }()
		result.setPeriods(step.cut)
		result.FilesBefore, result.FilesAfter = len(step.result.OldDataFiles), len(step.result.NewDataFiles)
		if result.FilesBefore > 0 {
			steps = append(steps, commit.PreparedStep{IO: step.IO, Apply: step.apply})
		}
	}
	if len(steps) == 0 {
		return result, nil
	}
	t, err = e.Commit(ctx, steps...)
	if err != nil {
		return result, err
	}
	result.Version = versionOf(t.Metadata())
	return result, nil
}
