package tables

import (
	"context"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/series"
)

// Partitioned says by which periods a table's files are cut.
type Partitioned struct {
	Partition   Partition `json:"partition"` // where it is chosen from the data: what was chosen
	Why         string    `json:"why"`       // it was
	Version     Version   `json:"version"`
	FilesBefore int       `json:"files_before"` // that were replaced
	FilesAfter  int       `json:"files_after"`  // by so many
}

// Partition sets by which periods of time a table's files are cut, and cuts those
// that there are, in one commit. Files that lie within a period already stay, unless
// they are small or overlap. "" leaves the setting as it is. The periods of
// [PartitionAuto] follow the data: each put, fold and compaction chooses them anew.
func (b *Bucket) Partition(ctx context.Context, name string, by Partition) (done Partitioned, err error) {
	defer failed(&err, "partition", b.Name(), name)
	e, end, err := b.use(name)
	if err != nil {
		return done, err
	}
	defer end()
	err = commit.RetryStale(mostRewrites, func() error {
		done, err = e.partition(ctx, by)
		return err
	})
	return done, err
}

func (e entry) partition(ctx context.Context, by Partition) (done Partitioned, failed error) {
	e.Commits.Lock()
	defer e.Commits.Unlock()
	t, err := e.Folded(ctx)
	if err != nil {
		return done, err
	}
	settings, err := definition.SettingsOf(t.Metadata())
	if err != nil {
		return done, err
	}
	var steps []commit.Prepared
	if by != "" && by != settings.Partition {
		settings.Partition = by
		steps = append(steps, commit.Prepared{Do: editsSettings(func(s *Settings) { s.Partition = by })})
	}
	if err := settings.CheckPartition(); err != nil {
		return done, &ArgumentError{Err: err}
	}
	done = Partitioned{Partition: PartitionNone, Why: "the files are not cut by time", Version: versionOf(t.Metadata())}
	if settings.Cuts() {
		done.Partition, done.Why = (&series.Cut{By: settings.Partition}).Chosen()
	}
	if settings.Cuts() && t.CurrentSnapshot() != nil {
		meta, err := definition.WithSettings(t.Metadata(), &settings)
		if err != nil {
			return done, err
		}
		step, err := e.planCompaction(ctx, e.Staged(meta, e.s.cat.NewIO()))
		if err != nil {
			return done, err
		}
		defer func() { step.IO.RemoveFailed(failed) }()
		done.Partition, done.Why = step.cut.Chosen()
		if done.FilesBefore, done.FilesAfter = step.before, step.after; done.FilesBefore > 0 {
			steps = append(steps, commit.Prepared{IO: step.IO, Do: step.apply})
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
