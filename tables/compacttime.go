package tables

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/sorted"
)

// mergeInOrder plans the compaction of a table with an order: within each period,
// files that overlap or are small become a few large ones. A file that is large,
// within a period and overlaps no other stays as it is.
func (e *entry) mergeInOrder(ctx context.Context, t *table.Table, step *compactStep) error {
	o, err := orderOf(t.Metadata())
	if err != nil {
		return err
	}
	kept, err := keptSchema(t.Schema())
	if err != nil {
		return err
	}
	by, err := newCut(ctx, t, kept)
	if err != nil {
		return err
	}
	step.renumber, step.cut = true, by
	files, err := o.files(ctx, t)
	if err != nil {
		return err
	}
	writer := e.s.cat.Staged(e.Namespace, e.Name, t.Metadata(), t.MetadataLocation(), step.io)
	for _, group := range o.groups(by, files, fileBytes(t)) {
		var done table.CompactionGroupResult
		var tasks []table.FileScanTask
		for _, f := range group {
			tasks = append(tasks, f.task)
			done.OldDataFiles = append(done.OldDataFiles, f.file())
		}
		done.SafePosDeletes, done.SafeDeletionVectors = table.CollectSafePositionDeletes(tasks), table.CollectSafeDeletionVectors(tasks)
		if done.NewDataFiles, err = e.s.rewrite(ctx, o, writer, group, sorted.All, nil); err != nil {
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

// groups returns the files to be merged, each group in the order in which its files
// came. A file that begins with the last time of an earlier one does not overlap it.
// What is merged comes last of its time.
func (o *order) groups(by *cut, files []*orderedFile, target int64) (groups [][]*orderedFile) {
	place := map[*orderedFile]int{}
	for i, f := range files {
		place[f] = i
	}
	byTime := slices.SortedStableFunc(slices.Values(files), func(a, b *orderedFile) int {
		return cmp.Or(cmp.Compare(a.low(), b.low()), cmp.Compare(a.high(), b.high()))
	})
	var end, last int64 // of the last group: of its last period, and its last time
	open := false       // whether more may join the last group
	for i := 0; i < len(byTime); {
		from, high, latest := i, byTime[i].high(), place[byTime[i]]
		for i++; i < len(byTime) && (byTime[i].low() < high || byTime[i].low() == high && place[byTime[i]] < latest); i++ {
			high, latest = max(high, byTime[i].high()), max(latest, place[byTime[i]])
		}
		overlapping := byTime[from:i]
		// One that begins with the last time of what is merged would come before that.
		begins := open && overlapping[0].low() == last
		if !begins && len(overlapping) == 1 && o.stays(by, overlapping[0]) && overlapping[0].file().FileSizeBytes() >= target*3/4 {
			open = false
			continue
		}
		if !open || overlapping[0].low() >= end {
			groups = append(groups, nil)
		}
		at := len(groups) - 1
		groups[at] = append(groups[at], overlapping...)
		end, last, open = by.end(high), high, true
	}
	groups = slices.DeleteFunc(groups, func(g []*orderedFile) bool { return len(g) == 1 && o.stays(by, g[0]) })
	for _, g := range groups {
		slices.SortFunc(g, func(a, b *orderedFile) int { return cmp.Compare(place[a], place[b]) })
	}
	return groups
}

// stays reports whether a file has the order, and is known to lie within a period.
func (o *order) stays(by *cut, f *orderedFile) bool {
	return o.inOrder(f.file()) && f.bounds != nil && f.bounds.Highest < by.end(f.bounds.Lowest)
}

// low and high are the bounds of a file's times, which may be any where they are
// not known.
func (f *orderedFile) low() int64 {
	if f.bounds == nil {
		return math.MinInt64
	}
	return f.bounds.Lowest
}

func (f *orderedFile) high() int64 {
	if f.bounds == nil {
		return math.MaxInt64
	}
	return f.bounds.Highest
}
