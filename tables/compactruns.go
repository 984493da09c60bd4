package tables

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/compaction"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// A run is a list of files, consecutive in order of arrival, that maintenance merges in one commit. These limits decide
// which runs are worth merging, and bound the work that is lost if the commit conflicts with another.
const (
	minRunFiles     = 6       // fewer files are merged only to drop deleted rows
	maxRunFiles     = 500     // maximum number of files in a run, so that its commit does not delay others
	tinyFileBytes   = 1 << 20 // a file up to this size, in bytes, may join a run of much smaller files
	minDeletedShare = 0.3     // a file is rewritten if at least this share of its rows is deleted
	memoryDivisor   = 4       // a merge uses 1/memoryDivisor of Options.Memory; puts and queries need the rest
)

// runLimits are the limits that depend on the table.
type runLimits struct {
	largeBytes int64 // files of at least this size, in bytes, count as large
	maxBytes   int64 // maximum size of a run, in bytes
	suffixOnly bool  // only the newest files may be merged, because merging others would put their rows after newer rows
}

func limitsOf(t *table.Table) runLimits {
	target := int64(t.Properties().GetInt(table.WriteTargetFileSizeBytesKey, definition.FileBytes))
	return runLimits{largeBytes: target * 3 / 4, maxBytes: 4 * target}
}

// runToMerge returns the newest run of files that is worth merging, or nil if there is none. The files must be in order
// of arrival. An older file is added to the run while it is at most twice as large as the newer files together, so that
// each row is rewritten only a few times in its life.
func (l runLimits) runToMerge(files []table.FileScanTask) []table.FileScanTask {
	for end := len(files); end > 0; {
		last := files[end-1]
		if !l.suffixOnly && last.File.FileSizeBytes() >= l.largeBytes && !hasManyDeletes(last) {
			end--
			continue
		}
		start, size, hasDeleted := end-1, last.File.FileSizeBytes(), hasManyDeletes(last)
		for start > 0 && end-start < maxRunFiles {
			f := files[start-1]
			n := f.File.FileSizeBytes()
			isDeleted := hasManyDeletes(f)
			if size+n > l.maxBytes || !isDeleted && (n > max(2*size, tinyFileBytes) || !l.suffixOnly && n >= l.largeBytes) {
				break
			}
			start, size, hasDeleted = start-1, size+n, hasDeleted || isDeleted
		}
		// The merged file gets the sequence number of the newest file, so all files with this number must be included.
		next := end
		for next < len(files) && sequence(files[next]) == sequence(last) {
			size, next = size+files[next].File.FileSizeBytes(), next+1
		}
		if next > end && size > l.maxBytes { // last's commit added several files, and with all of them the run would be too large
			end--
			continue
		}
		if next-start >= minRunFiles || hasDeleted {
			return files[start:next]
		}
		if l.suffixOnly {
			return nil
		}
		end = start
	}
	return nil
}

func sequence(f table.FileScanTask) int64 {
	if f.DataSequenceNumber == nil {
		return 0
	}
	return *f.DataSequenceNumber
}

// hasManyDeletes reports whether a large share of a file's rows has been deleted, or the file has many delete files.
func hasManyDeletes(f table.FileScanTask) bool {
	if !datafile.HasDeletes(f) {
		return false
	}
	var rows int64
	files := slices.Concat(f.DeletionVectorFiles, f.DeleteFiles, f.EqualityDeleteFiles)
	for _, d := range files {
		rows += d.Count()
	}
	return len(files) >= 5 || float64(rows) >= minDeletedShare*float64(f.File.Count())
}

// prepareRun merges the files of one run that is worth merging, if there is one and canMerge returns true for it.
func (e tableWriter) prepareRun(ctx context.Context, t *table.Table, step *compactStep, p *pacer, canMerge func(run []table.FileScanTask) bool) error {
	def, l := step.Definition, limitsOf(t)
	ctx = parallel.Sequential(ctx)
	// Writing a row group takes several times its size in memory and leaves as much garbage.
	groupBytes := min(e.s.opts.Memory/memoryDivisor/8, int64(t.Properties().GetInt(table.ParquetRowGroupSizeBytesKey, int(table.ParquetRowGroupSizeBytesDefault))))
	meta, err := table.UpdateTableMetadata(t.Metadata(), []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{table.ParquetRowGroupSizeBytesKey: strconv.FormatInt(groupBytes, 10)})}, "")
	if err != nil {
		return err
	}
	writer := e.Staged(meta, step.IO)
	if def.Order != nil {
		return e.prepareOrderedRun(ctx, writer, step, p, canMerge)
	}
	lists := [][]table.FileScanTask{step.tasks}
	if spec := t.Spec(); !spec.IsUnpartitioned() {
		// Use package compaction only to group the files by partition.
		cfg := compaction.Config{TargetFileSizeBytes: l.maxBytes, MinFileSizeBytes: l.largeBytes, MaxFileSizeBytes: l.maxBytes, MinInputFiles: 1, DeleteFileThreshold: 1, PackingLookback: compaction.DefaultPackingLookback}
		plan, err := cfg.PlanCompaction(step.tasks)
		if err != nil {
			return err
		}
		lists = nil
		for _, g := range plan.Groups {
			lists = append(lists, datafile.InOrder(g.Tasks))
		}
	}
	l.suffixOnly = t.Metadata().Version() < 2
	for _, list := range lists {
		run := l.runToMerge(list)
		if run == nil || !canMerge(run) {
			continue
		}
		if t.Metadata().Version() > 1 {
			// The rows must stay before newer rows. Use the highest sequence number that permits this: equality deletes
			// with higher numbers still apply to the file, so with a lower number it would soon be rewritten again.
			last := sequence(run[len(run)-1])
			for _, f := range list {
				if n := sequence(f); n > last {
					step.seq = min(step.seq, n-1)
				}
			}
		}
		files, err := datafile.Write(ctx, writer, def.WithLineage(t.Metadata().Version()).Stored, p.withPauses(ctx)(datafile.ReadRows(ctx, t, run, nil)), 0)
		if err != nil {
			return err
		}
		step.add(run, files)
		return nil
	}
	return nil
}

// prepareOrderedRun is prepareRun for an ordered table. It merges the newest files in a group of small or overlapping
// files.
func (e tableWriter) prepareOrderedRun(ctx context.Context, writer *table.Table, step *compactStep, p *pacer, canMerge func(run []table.FileScanTask) bool) (err error) {
	s, l := series.New(step.Definition, writer, e.s.opts.Memory/memoryDivisor), limitsOf(writer)
	l.suffixOnly = true
	step.cutter, err = s.NewCutter(ctx)
	if err != nil {
		return err
	}
	var files []*series.File
	for _, task := range step.tasks {
		f := s.File(task)
		f.Stale = hasManyDeletes(task)
		files = append(files, f)
	}
	for _, group := range s.Groups(step.cutter, files, l.largeBytes*4/3) {
		run := l.runToMerge(series.TasksOf(group))
		if run == nil || !canMerge(run) {
			continue
		}
		mergedFiles, err := s.Rewrite(ctx, group[len(group)-len(run):], s, sorted.All, p.withPauses(ctx))
		if err != nil {
			return err
		}
		step.add(run, mergedFiles)
		return nil
	}
	return nil
}

// countFiles returns the number of a table's data files, and how many of them are small.
func countFiles(ctx context.Context, t *table.Table) (all, small int, err error) {
	files, err := datafile.Files(ctx, t)
	for _, f := range files {
		if f.FileSizeBytes() < limitsOf(t).largeBytes {
			small++
		}
	}
	return len(files), small, err
}

// pauseFactor is the length of a maintenance pass's pauses relative to its work: 2 means that it uses a third of one
// core.
const pauseFactor = 2

// pacer limits a maintenance pass to a share of the time: the pass pauses between pieces of work.
type pacer struct{ resumeTime time.Time }

// pause waits pauseFactor times as long as the pass has worked since the last pause.
func (p *pacer) pause(ctx context.Context) error {
	err := canceled.Wait(ctx, time.After(pauseFactor*time.Since(p.resumeTime)))
	p.resumeTime = time.Now()
	return err
}

// withPauses returns a function that adds a pause before each batch. Between two pauses, the pass processes a batch and
// reads the next one.
func (p *pacer) withPauses(ctx context.Context) func(batches.Seq) batches.Seq {
	return batches.Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		if err := p.pause(ctx); err != nil {
			b.Release()
			return nil, err
		}
		return b, nil
	})
}
