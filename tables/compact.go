package tables

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/compaction"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// Compact merges small files into a few large ones. If a column was widened from 32 to 64 bits, it also rewrites files
// that store the column with 32 bits, because Spark cannot read them. It applies the delete files of other programs and
// removes them from the table. The table's rows do not change. Expire later removes the replaced files and the versions
// that need them.
func (s *Store) Compact(ctx context.Context, o *MaintainOptions) (MaintainResult, error) {
	s = s.orUnopened()
	return s.keeper.maintain(ctx, "compact", o, func(ctx context.Context, e tableWriter) (r MaintainResult, err error) {
		// Start again if a concurrent change other than an append has made the compacted files useless.
		err = commit.RetryStale(3, func() error {
			r, err = e.compact(ctx)
			return err
		})
		return r, err
	})
}

func (e tableWriter) compact(ctx context.Context) (r MaintainResult, err error) {
	t, err := e.Current(ctx)
	if err != nil || t == nil || t.CurrentSnapshot() == nil {
		return r, err
	}
	return e.commitCompaction(ctx, t, e.prepareAll)
}

// commitCompaction calls prepare to write merged files and commits them in place of the old files.
func (e tableWriter) commitCompaction(ctx context.Context, t *table.Table, prepare func(context.Context, *table.Table, *compactStep) error) (r MaintainResult, err error) {
	step, err := e.prepareCompaction(ctx, t, prepare)
	if err != nil || len(step.result.OldDataFiles)+len(step.result.SafePosDeletes) == 0 {
		return r, err
	}
	defer func() { step.IO.RemoveFailed(err) }()
	_, err = e.CommitAside(ctx, commit.PreparedStep{IO: step.IO, Apply: step.apply})
	if err != nil {
		return r, err
	}
	return MaintainResult{Tables: 1, FilesBefore: len(step.result.OldDataFiles), FilesAfter: len(step.result.NewDataFiles)}, nil
}

// compactStep is a commit step that replaces files with new ones that contain the same rows.
type compactStep struct {
	commit.Basis
	seq           int64 // sequence number of the snapshot whose files are compacted
	result        table.CompactionGroupResult
	tasks         []table.FileScanTask // the table's files, in the order of arrival
	cleansDeletes bool                 // whether to remove unneeded delete files even if the step replaces no data file
	cutter        *series.Cutter       // divides rows among files by period; nil if the table has no periods
}

// prepareCompaction returns a step that commits the files that prepare writes. t must have a snapshot.
func (e tableWriter) prepareCompaction(ctx context.Context, t *table.Table, prepare func(context.Context, *table.Table, *compactStep) error) (step *compactStep, err error) {
	step = &compactStep{seq: t.CurrentSnapshot().SequenceNumber}
	step.Basis, err = commit.BasisOf(t, commit.OnlyAdditions, e.s.cat.NewIO())
	if err != nil {
		return nil, err
	}
	fileIO := step.IO // the deferred call cannot use step, because an error return sets step to nil
	defer func() { fileIO.RemoveFailed(err) }()
	if schema.CheckReadable(step.Definition.Stored) != nil {
		return step, nil // this package cannot read all columns; the engine that wrote them can compact the table
	}
	step.tasks, err = datafile.Tasks(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := prepare(ctx, t, step); err != nil {
		return nil, err
	}
	if step.cleansDeletes || len(step.result.OldDataFiles) > 0 {
		step.result.SafePosDeletes, err = datafile.UnneededDeletes(ctx, t, step.tasks, step.result.OldDataFiles)
	}
	return step, err
}

// prepareAll merges all files that are too small, and rewrites stale files (see isStale).
func (e tableWriter) prepareAll(ctx context.Context, t *table.Table, step *compactStep) error {
	step.cleansDeletes = true
	def := step.Definition
	writer, storedSchema := e.Staged(t.Metadata(), step.IO), def.WithLineage(t.Metadata().Version()).Stored
	if def.Order != nil {
		return e.mergeInOrder(ctx, writer, step)
	}
	cfg := compaction.DefaultConfig()
	cfg.TargetFileSizeBytes = definition.FileBytes
	cfg.MinFileSizeBytes, cfg.MaxFileSizeBytes, cfg.MinInputFiles = cfg.TargetFileSizeBytes*3/4, cfg.TargetFileSizeBytes*9/5, 2
	plan, err := cfg.PlanCompaction(step.tasks)
	if err != nil {
		return err
	}
	var groups [][]table.FileScanTask
	mergedPaths := map[string]bool{}
	for _, g := range plan.Groups {
		groups = append(groups, datafile.InOrder(g.Tasks))
		for _, task := range g.Tasks {
			mergedPaths[task.File.FilePath()] = true
		}
	}
	for _, task := range step.tasks {
		if mergedPaths[task.File.FilePath()] {
			continue
		}
		if stale, err := isStale(ctx, t, task); err != nil {
			return err
		} else if stale {
			groups = append(groups, []table.FileScanTask{task})
		}
	}
	for _, tasks := range groups {
		files, err := datafile.Write(ctx, writer, storedSchema, datafile.ReadRows(ctx, t, tasks, nil), cfg.TargetFileSizeBytes)
		if err != nil {
			return err
		}
		step.add(tasks, files)
	}
	return nil
}

// isStale reports whether a file must be rewritten: it has delete files, or may store a widened column with 32 bits.
func isStale(ctx context.Context, t *table.Table, task table.FileScanTask) (bool, error) {
	if datafile.HasDeletes(task) || !hadInt32Columns(t.Metadata()) {
		return datafile.HasDeletes(task), nil
	}
	return datafile.HasWidths(ctx, t, task)
}

// hadInt32Columns reports whether any schema of the table has a 32-bit integer column, which may since have been
// widened.
func hadInt32Columns(meta table.Metadata) bool {
	return slices.ContainsFunc(meta.Schemas(), func(s *iceberg.Schema) bool {
		storedSchema, err := schema.StoredSchema(s)
		return err == nil && schema.ContainsType(arrow.StructOf(storedSchema.Fields()...), func(t arrow.DataType) bool { return t.ID() == arrow.INT32 })
	})
}

// mergeInOrder writes the compacted files of an ordered table: within each period, it merges files that overlap or are
// small. It keeps a large file that lies within one period and overlaps no other file.
func (e tableWriter) mergeInOrder(ctx context.Context, t *table.Table, step *compactStep) error {
	s, err := e.Series(t)
	if err != nil {
		return err
	}
	step.cutter, err = s.NewCutter(ctx)
	if err != nil {
		return err
	}
	files, err := s.Files(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		f.Stale, err = isStale(ctx, t, f.Task)
		if err != nil {
			return err
		}
	}
	size := t.Properties().GetInt(table.WriteTargetFileSizeBytesKey, definition.FileBytes)
	for _, group := range s.Groups(step.cutter, files, int64(size)) {
		files, err := s.Rewrite(ctx, group, s, sorted.All, nil)
		if err != nil {
			return err
		}
		step.add(series.TasksOf(group), files)
	}
	return nil
}

// add records files as the replacement for the files of tasks.
func (step *compactStep) add(tasks []table.FileScanTask, files []iceberg.DataFile) {
	for _, task := range tasks {
		step.result.OldDataFiles = append(step.result.OldDataFiles, task.File)
	}
	step.result.NewDataFiles = append(step.result.NewDataFiles, files...)
}

func (step *compactStep) apply(ctx context.Context, _ *commit.Attempt, cur *table.Table) (_ table.Metadata, err error) {
	if err := step.CheckFresh(cur); err != nil {
		return nil, err
	}
	result := step.result
	result.NewDataFiles, err = datafile.WithRowIDs(cur, result.NewDataFiles)
	if err != nil {
		return nil, err
	}
	tx := cur.NewTransaction()
	// Files are ordered by sequence number. The new files get the number of the compacted snapshot, so that rows added
	// later stay last.
	replacement := tx.NewRewrite(nil).DataSequenceNumber(step.seq)
	replacement.ApplyResult(result)
	if err := replacement.Commit(ctx); err != nil {
		return nil, fmt.Errorf("replace the compacted files: %w", err)
	}
	return commit.MetadataOf(tx)
}
