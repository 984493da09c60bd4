package tables

import (
	"context"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// mergeInOrder plans the compaction of a table with an order: within each period,
// files that overlap or are small become a few large ones. A file that is large,
// within a period and overlaps no other stays as it is.
func (e *entry) mergeInOrder(ctx context.Context, t *table.Table, step *compactStep) error {
	writer := e.s.cat.Staged(e.Namespace, e.Name, t.Metadata(), t.MetadataLocation(), step.io)
	s, err := series.Of(writer, e.s.opts.Memory)
	if err != nil {
		return err
	}
	by, err := s.NewCut(ctx)
	if err != nil {
		return err
	}
	step.renumber, step.cut = true, by
	files, err := s.Files(ctx)
	if err != nil {
		return err
	}
	for _, group := range s.Groups(by, files, fileBytes(t)) {
		var done table.CompactionGroupResult
		var tasks []table.FileScanTask
		for _, f := range group {
			tasks = append(tasks, f.Task)
			done.OldDataFiles = append(done.OldDataFiles, f.Data())
		}
		done.SafePosDeletes, done.SafeDeletionVectors = table.CollectSafePositionDeletes(tasks), table.CollectSafeDeletionVectors(tasks)
		if done.NewDataFiles, err = s.Rewrite(ctx, group, s, sorted.All, nil); err != nil {
			return err
		}
		step.groups = append(step.groups, done)
	}
	return nil
}

// fileBytes is how large a table's data files are to be.
func fileBytes(t *table.Table) int64 {
	return int64(t.Properties().GetInt(table.WriteTargetFileSizeBytesKey, targetSize))
}
