package tables

import (
	"context"
	"fmt"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/compaction"

	"github.com/go-partd/partd/tables/internal/commit"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// Compact makes few large files of many small ones. The rows stay the same; the
// small files go with the versions that have them, by Expire.
func (s *Store) Compact(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	s = s.made()
	return s.maintain(ctx, "compact", o, func(ctx context.Context, e entry) (r MaintainResult, err error) {
		// Whoever changes the table meanwhile, other than by appends, comes first.
		err = commit.RetryStale(3, func() error {
			r, err = e.compact(ctx)
			return err
		})
		return r, err
	})
}

func (e entry) compact(ctx context.Context) (r MaintainResult, err error) {
	t, err := e.Current(ctx)
	if err != nil || t == nil || t.CurrentSnapshot() == nil {
		return r, err
	}
	step, err := e.planCompaction(ctx, t)
	if err != nil || step.before == 0 {
		return r, err
	}
	e.Commits.Lock()
	defer e.Commits.Unlock()
	_, err = e.Commit(ctx, commit.Prepared{IO: step.IO, Do: step.apply})
	step.IO.RemoveFailed(err)
	return MaintainResult{Tables: 1, FilesBefore: step.before, FilesAfter: step.after}, err
}

// compactStep replaces files by others with the same rows.
type compactStep struct {
	commit.Basis
	seq           int64 // of the snapshot whose files were read
	done          table.CompactionGroupResult
	before, after int         // the numbers of files
	cut           *series.Cut // of the new files, if they are cut
}

// planCompaction writes the files of a compaction of a table as it is, which has rows.
func (e entry) planCompaction(ctx context.Context, t *table.Table) (step *compactStep, err error) {
	step = &compactStep{seq: t.CurrentSnapshot().SequenceNumber}
	if step.Basis, err = commit.BasisOf(t, commit.Appends, e.s.cat.NewIO()); err != nil {
		return nil, err
	}
	io := step.IO // step is nil where an error is returned
	defer func() { io.RemoveFailed(err) }()
	def, err := definition.Of(t.Metadata())
	if err != nil {
		return nil, err
	}
	writer := e.Staged(t.Metadata(), step.IO)
	if def.Order != nil {
		return step, e.mergeInOrder(ctx, writer, step)
	}
	cfg := compaction.DefaultConfig()
	cfg.TargetFileSizeBytes = definition.FileBytes
	cfg.MinFileSizeBytes, cfg.MaxFileSizeBytes, cfg.MinInputFiles = cfg.TargetFileSizeBytes*3/4, cfg.TargetFileSizeBytes*9/5, 2
	plan, err := compaction.Analyze(ctx, t, cfg)
	if err != nil {
		return nil, err
	}
	for _, g := range plan.Groups {
		tasks := datafile.InOrder(g.Tasks)
		files, err := datafile.Write(ctx, writer, def.Stored, datafile.ReadRows(ctx, t, tasks), cfg.TargetFileSizeBytes)
		if err != nil {
			return nil, err
		}
		step.add(tasks, files)
	}
	return step, nil
}

// mergeInOrder plans the compaction of a table with an order: within each period,
// files that overlap or are small become a few large ones. A file that is large,
// within a period and overlaps no other stays as it is.
func (e entry) mergeInOrder(ctx context.Context, t *table.Table, step *compactStep) error {
	s, err := e.Series(t)
	if err != nil {
		return err
	}
	if step.cut, err = s.NewCut(ctx); err != nil {
		return err
	}
	files, err := s.Files(ctx)
	if err != nil {
		return err
	}
	size := t.Properties().GetInt(table.WriteTargetFileSizeBytesKey, definition.FileBytes)
	for _, group := range s.Groups(step.cut, files, int64(size)) {
		var tasks []table.FileScanTask
		for _, f := range group {
			tasks = append(tasks, f.Task)
		}
		files, err := s.Rewrite(ctx, group, s, sorted.All, nil)
		if err != nil {
			return err
		}
		step.add(tasks, files)
	}
	return nil
}

// add notes that files take the place of others.
func (c *compactStep) add(tasks []table.FileScanTask, files []iceberg.DataFile) {
	for _, task := range tasks {
		c.done.OldDataFiles = append(c.done.OldDataFiles, task.File)
	}
	c.done.NewDataFiles = append(c.done.NewDataFiles, files...)
	c.done.SafePosDeletes = append(c.done.SafePosDeletes, table.CollectSafePositionDeletes(tasks)...)
	c.done.SafeDeletionVectors = append(c.done.SafeDeletionVectors, table.CollectSafeDeletionVectors(tasks)...)
	c.before, c.after = len(c.done.OldDataFiles), len(c.done.NewDataFiles)
}

func (c *compactStep) apply(ctx context.Context, _ *commit.Attempt, cur *table.Table) (_ table.Metadata, err error) {
	if err := c.Holds(cur); err != nil {
		return nil, err
	}
	one := c.done
	if one.NewDataFiles, err = datafile.WithRowIDs(cur, one.NewDataFiles); err != nil {
		return nil, err
	}
	tx := cur.NewTransaction()
	// The rows keep their place before those that were added since.
	rewrite := tx.NewRewrite(nil).DataSequenceNumber(c.seq)
	rewrite.ApplyResult(one)
	if err := rewrite.Commit(ctx); err != nil {
		return nil, fmt.Errorf("replace the compacted files: %w", err)
	}
	return commit.MetadataOf(tx)
}
