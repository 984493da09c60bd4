package tables

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/compaction"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/series"
)

// targetSize is that of a data file, in bytes.
const targetSize = 128 << 20

// Compact makes few large files of many small ones. The rows stay the same; the
// small files go with the versions that have them, by Expire.
func (s *Store) Compact(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	return s.maintain(ctx, "compact", o, func(ctx context.Context, e *entry, _ *MaintainOptions) (r MaintainResult, err error) {
		// Whoever changes the table meanwhile, other than by appends, comes first.
		err = retryStale(3, func() error {
			r, err = e.compact(ctx)
			return err
		})
		return r, err
	})
}

func (e *entry) compact(ctx context.Context) (r MaintainResult, err error) {
	t, err := e.current(ctx)
	if err != nil || t == nil || t.CurrentSnapshot() == nil {
		return r, err
	}
	def, err := definition.Of(t.Metadata())
	if err != nil {
		return r, err
	}
	step, err := e.newCompactStep(t)
	if err != nil {
		return r, err
	}
	defer func() { removeWritten(err, step.io) }()
	if def.Settings.Time != "" {
		err = e.mergeInOrder(ctx, t, step)
	} else {
		err = e.concatenate(ctx, t, def.Stored, step)
	}
	if err != nil || len(step.groups) == 0 {
		return r, err
	}
	e.commit.Lock()
	defer e.commit.Unlock()
	r.Tables = 1
	r.FilesBefore, r.FilesAfter = step.files()
	_, err = e.commitSteps(ctx, step)
	return r, err
}

// concatenate plans the compaction of a table whose rows are in the order in which
// they came.
func (e *entry) concatenate(ctx context.Context, t *table.Table, stored *arrow.Schema, step *compactStep) error {
	cfg := compaction.DefaultConfig()
	cfg.TargetFileSizeBytes = targetSize
	cfg.MinFileSizeBytes, cfg.MaxFileSizeBytes, cfg.MinInputFiles = cfg.TargetFileSizeBytes*3/4, cfg.TargetFileSizeBytes*9/5, 2
	plan, err := compaction.Analyze(ctx, t, cfg)
	if err != nil {
		return err
	}
	step.renumber = true
	writer := e.s.cat.Staged(e.Namespace, e.Name, t.Metadata(), t.MetadataLocation(), step.io)
	for _, g := range plan.Groups {
		tasks := datafile.InOrder(g.Tasks)
		done := table.CompactionGroupResult{SafePosDeletes: table.CollectSafePositionDeletes(tasks), SafeDeletionVectors: table.CollectSafeDeletionVectors(tasks)}
		for _, task := range tasks {
			done.OldDataFiles = append(done.OldDataFiles, task.File)
		}
		done.NewDataFiles, err = datafile.Write(ctx, writer, stored, datafile.ReadRows(ctx, t, tasks), table.WithTargetFileSize(cfg.TargetFileSizeBytes))
		if err != nil {
			return err
		}
		step.groups = append(step.groups, done)
	}
	return nil
}

// compactStep replaces files by others with the same rows.
type compactStep struct {
	basis
	seq    int64 // of the snapshot whose files were read
	groups []table.CompactionGroupResult

	renumber bool        // the new files have no row ids yet
	cut      *series.Cut // of the new files, if they are cut
}

// newCompactStep returns a step for a table as it is now, which has rows.
func (e *entry) newCompactStep(t *table.Table) (*compactStep, error) {
	on, err := basisOf(t, appends, e.s.cat.NewIO())
	return &compactStep{basis: on, seq: t.CurrentSnapshot().SequenceNumber}, err
}

// files returns how many files are replaced, and by how many.
func (c *compactStep) files() (before, after int) {
	for _, g := range c.groups {
		before += len(g.OldDataFiles)
		after += len(g.NewDataFiles)
	}
	return before, after
}

func (c *compactStep) apply(ctx context.Context, _ *attempt, cur *table.Table) (table.Metadata, error) {
	if err := c.holds(cur); err != nil {
		return nil, err
	}
	tx := cur.NewTransaction()
	// The rows keep their place before those that were added since.
	rewrite := tx.NewRewrite(nil).DataSequenceNumber(c.seq)
	groups := c.groups
	if c.renumber {
		var one table.CompactionGroupResult
		for _, g := range groups {
			one.OldDataFiles = append(one.OldDataFiles, g.OldDataFiles...)
			one.NewDataFiles = append(one.NewDataFiles, g.NewDataFiles...)
			one.SafePosDeletes = append(one.SafePosDeletes, g.SafePosDeletes...)
			one.SafeDeletionVectors = append(one.SafeDeletionVectors, g.SafeDeletionVectors...)
		}
		var err error
		if one.NewDataFiles, err = datafile.WithRowIDs(cur, one.NewDataFiles); err != nil {
			return nil, err
		}
		groups = []table.CompactionGroupResult{one}
	}
	for _, g := range groups {
		rewrite.ApplyResult(g)
	}
	if err := rewrite.Commit(ctx); err != nil {
		return nil, fmt.Errorf("replace the compacted files: %w", err)
	}
	return metadataOf(tx)
}
