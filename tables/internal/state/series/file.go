package series

import (
	"cmp"
	"context"
	"encoding/binary"
	"math"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// File is a data file of a Series.
type File struct {
	Task   table.FileScanTask
	Bounds *sorted.Bounds // bounds of the rows' times; nil if unknown
	Stale  bool           // set by the caller of Groups; Groups then includes the file even if its rows are in order

	Deleted datafile.Deleted // rows that readers omit; nil means none

	arrival int // index among the files that were passed to OverlappingGroups
}

// Data returns the file's manifest entry.
func (f *File) Data() iceberg.DataFile { return f.Task.File }

var anyTimes = sorted.Bounds{Lowest: math.MinInt64, Highest: math.MaxInt64}

// Low returns the lowest time that the file can contain.
func (f *File) Low() int64 { return cmp.Or(f.Bounds, &anyTimes).Lowest }

// High returns the highest time that the file can contain.
func (f *File) High() int64 { return cmp.Or(f.Bounds, &anyTimes).Highest }

// Files returns the data files of the version that s reads, in order of arrival.
func (s *Series) Files(ctx context.Context) (files []*File, err error) {
	tasks, err := datafile.Tasks(ctx, s.table, s.version...)
	for _, task := range tasks {
		files = append(files, s.File(task))
	}
	return files, err
}

// File returns a File for one of the table's data files.
func (s *Series) File(task table.FileScanTask) *File {
	return &File{Task: task, Bounds: s.Bounds(task.File)}
}

// Written returns a File for each of the given new files.
func (s *Series) Written(files []iceberg.DataFile) (result []*File) {
	for _, f := range files {
		result = append(result, s.File(table.FileScanTask{File: f}))
	}
	return result
}

func TasksOf(files []*File) (tasks []table.FileScanTask) {
	for _, f := range files {
		tasks = append(tasks, f.Task)
	}
	return tasks
}

// OverlappingFiles returns the files whose times overlap those of any file in others.
func OverlappingFiles(files, others []*File) (overlapping []*File) {
	for _, f := range files {
		if slices.ContainsFunc(others, func(o *File) bool { return f.Bounds.Overlaps(o.Bounds) }) {
			overlapping = append(overlapping, f)
		}
	}
	return overlapping
}

// spanOf returns bounds that include all files, or nil if the bounds of any file are unknown.
func spanOf(files []*File) *sorted.Bounds {
	if len(files) == 0 {
		return nil
	}
	span := files[0].Bounds
	for _, f := range files[1:] {
		span = span.Union(f.Bounds)
	}
	return span
}

// Bounds returns the bounds of the times in a file, or nil if they are unknown.
func (s *Series) Bounds(f iceberg.DataFile) *sorted.Bounds {
	low, hasLow := s.bound(f.LowerBoundValues()[s.IDs[0]])
	high, hasHigh := s.bound(f.UpperBoundValues()[s.IDs[0]])
	if nulls, known := f.NullValueCounts()[s.IDs[0]]; !hasLow || !hasHigh || !known || nulls > 0 {
		return nil
	}
	return &sorted.Bounds{Lowest: low, Highest: high}
}

// bound decodes a bound of the time column. A 4-byte bound was written when the column was a date or a 32-bit integer.
// If the column is a timestamp now, bound ignores it, because its unit differs.
func (s *Series) bound(b []byte) (int64, bool) {
	switch len(b) {
	case 4:
		field, _ := s.table.Schema().FindFieldByID(s.IDs[0])
		_, isLong := field.Type.(iceberg.Int64Type)
		_, isInt := field.Type.(iceberg.Int32Type)
		_, isDate := field.Type.(iceberg.DateType)
		return int64(int32(binary.LittleEndian.Uint32(b))), isLong || isInt || isDate
	case 8:
		return int64(binary.LittleEndian.Uint64(b)), true
	}
	return 0, false
}

// InOrder reports whether the rows of a file are in the table's order.
func (s *Series) InOrder(f iceberg.DataFile) bool {
	return f.SortOrderID() != nil && *f.SortOrderID() == s.Sort
}

// withSortOrder returns copies of files that record the table's sort order.
func (s *Series) withSortOrder(files []iceberg.DataFile) ([]iceberg.DataFile, error) {
	result := make([]iceberg.DataFile, len(files))
	for i, f := range files {
		b, err := datafile.Rebuild(s.table.Metadata().PartitionSpec(), f, f.FilePath())
		if err != nil {
			return nil, err
		}
		result[i] = b.SortOrderID(s.Sort).Build()
	}
	return result, nil
}

// OverlappingGroups divides files, which must be listed in order of arrival, into groups of overlapping files. The
// groups are in time order, and each lists its files in order of arrival. A file that begins at the last time of a file
// that arrived earlier does not overlap that file. OverlappingGroups sets the files' field arrival.
func OverlappingGroups(files []*File) (groups [][]*File) {
	for i, f := range files {
		f.arrival = i
	}
	// Files with the same first time stay in order of arrival: if the first of them need not be merged, neither need
	// the rest.
	byTime := slices.SortedStableFunc(slices.Values(files), func(a, b *File) int { return cmp.Compare(a.Low(), b.Low()) })
	for i := 0; i < len(byTime); {
		start, high, latest := i, byTime[i].High(), byTime[i].arrival
		for i++; i < len(byTime) && (byTime[i].Low() < high || byTime[i].Low() == high && byTime[i].arrival < latest); i++ {
			high, latest = max(high, byTime[i].High()), max(latest, byTime[i].arrival)
		}
		sortByArrival(byTime[start:i])
		groups = append(groups, byTime[start:i:i])
	}
	return groups
}

func sortByArrival(files []*File) {
	slices.SortFunc(files, func(a, b *File) int { return cmp.Compare(a.arrival, b.arrival) })
}

// Groups divides files into groups to merge into files of about target bytes. Each group consists of one or more of the
// OverlappingGroups and lists its files in order of arrival. A merged file counts as the newest: its rows follow other
// files' rows with the same time.
func (s *Series) Groups(cutter *Cutter, files []*File, target int64) (groups [][]*File) {
	var groupEnd, groupHigh int64 // end of the last group's last period, and the last group's highest time
	canGrow := false              // whether files can still be added to the last group
	for _, overlapping := range OverlappingGroups(files) {
		low, high := overlapping[0].Low(), overlapping[0].High()
		for _, f := range overlapping[1:] {
			low, high = min(low, f.Low()), max(high, f.High())
		}
		// If the file stayed out of the group, its rows would come before the merged rows with the same time.
		mustJoin := canGrow && low == groupHigh
		if !mustJoin && len(overlapping) == 1 && s.canStay(cutter, overlapping[0]) && overlapping[0].Data().FileSizeBytes() >= target*3/4 {
			canGrow = false
			continue
		}
		if !canGrow || low >= groupEnd {
			groups = append(groups, nil)
		}
		lastGroup := len(groups) - 1
		groups[lastGroup] = append(groups[lastGroup], overlapping...)
		groupEnd, groupHigh, canGrow = cutter.periodEnd(high), high, true
	}
	groups = slices.DeleteFunc(groups, func(g []*File) bool { return len(g) == 1 && s.canStay(cutter, g[0]) })
	for _, g := range groups {
		sortByArrival(g)
	}
	return groups
}

// canStay reports whether a file need not be merged: it is sorted, is not stale, and lies within one period.
func (s *Series) canStay(cutter *Cutter, f *File) bool {
	return !f.Stale && s.InOrder(f.Data()) && f.Bounds != nil && f.Bounds.Highest < cutter.periodEnd(f.Bounds.Lowest)
}
