package tables

import (
	"context"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/series"
)

// PartitionResult is the result of Bucket.Partition.
type PartitionResult struct {
	Partition   Partition `json:"partition"` // the partition in effect; for PartitionAuto, the one chosen from the data
	Why         string    `json:"why"`       // reason for the choice
	Version     Version   `json:"version"`
	FilesBefore int       `json:"files_before"` // files replaced
	FilesAfter  int       `json:"files_after"`  // files written instead
}

// Partition sets the periods of time by which a table's files are cut, and cuts existing files, in one commit.
// A file within one period stays, unless it is small or overlaps another. "" keeps the setting. With
// [PartitionAuto], each put, fold and compaction chooses the periods anew from the data.
func (b *Bucket) Partition(ctx context.Context, name string, by Partition) (done PartitionResult, err error) {
	defer wrapError(&err, "partition", b.Name(), name)
	e, end, err := b.use(name)
	if err != nil {
		return done, err
	}
	defer end()
	err = commit.RetryStale(maxRewrites, func() error {
		done, err = e.partition(ctx, by)
		return err
	})
	return done, err
}

func (e entry) partition(ctx context.Context, by Partition) (done PartitionResult, failure error) {
	e.Commits.Lock()
	defer e.Commits.Unlock()
	t, err := e.FoldAll(ctx)
	if err != nil {
		return done, err
	}
	settings, err := definition.SettingsOf(t.Metadata())
	if err != nil {
		return done, err
	}
	var steps []commit.PreparedStep
	if by != "" && by != settings.Partition {
		settings.Partition = by
		steps = append(steps, commit.PreparedStep{Apply: editSettingsStep(func(s *Settings) { s.Partition = by })})
	}
	if err := settings.CheckPartition(); err != nil {
		return done, &ArgumentError{Err: err}
	}
	done = PartitionResult{Partition: PartitionNone, Why: "the files are not cut by time", Version: versionOf(t.Metadata())}
	if settings.HasPeriods() {
		done.Partition, done.Why = (&series.Cutter{By: settings.Partition}).Periods()
	}
	if settings.HasPeriods() && t.CurrentSnapshot() != nil {
		meta, err := definition.WithSettings(t.Metadata(), &settings)
		if err != nil {
			return done, err
		}
		step, err := e.planCompaction(ctx, e.Staged(meta, e.s.cat.NewIO()))
		if err != nil {
			return done, err
		}
		defer func() { step.IO.RemoveFailed(failure) }()
		done.Partition, done.Why = step.cut.Periods()
		if done.FilesBefore, done.FilesAfter = step.before, step.after; done.FilesBefore > 0 {
			steps = append(steps, commit.PreparedStep{IO: step.IO, Apply: step.apply})
		}
	}
	if len(steps) == 0 {
		return done, nil
	}
	if t, err = e.Commit(ctx, steps...); err != nil {
		return done, err
	}
	done.Version = versionOf(t.Metadata())
	return done, nil
}
