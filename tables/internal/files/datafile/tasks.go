package datafile

import (
	"cmp"
	"context"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/apache/arrow-go/v18/arrow"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// Tasks returns a table version's data files in row order, with one task for each. By default, it uses the current
// version. A table without a current version has none.
func Tasks(ctx context.Context, t *table.Table, o ...table.ScanOption) ([]table.FileScanTask, error) {
	if len(o) == 0 {
		if cached, ok := cachedTasks.Load(weak.Make(t)); ok {
			return slices.Clone(cached.([]table.FileScanTask)), nil
		}
	}
	tasks, err := t.Scan(o...).PlanFiles(ctx)
	tasks = InOrder(tasks)
	if err == nil && len(o) == 0 {
		cacheTasks(t, tasks)
	}
	return tasks, err
}

// cachedTasks maps a weak pointer to a table version in memory, which never changes, to the version's tasks. Reading
// the tasks from the manifests takes longer than reading a thousand rows, because each manifest's schema has to be
// parsed.
var (
	cachedTasks sync.Map
	cachedCells atomic.Int64 // the cache's size: the sum of files × columns over all versions
)

const maxCells = 1 << 16 // about 20 MB

// cacheTasks caches a version's tasks as long as the version is in memory.
func cacheTasks(t *table.Table, tasks []table.FileScanTask) {
	cells := int64(len(tasks)) * int64(len(t.Schema().Fields()))
	if cachedCells.Add(cells) > maxCells {
		cachedCells.Add(-cells)
		return
	}
	state := weak.Make(t)
	if _, exists := cachedTasks.LoadOrStore(state, slices.Clone(tasks)); exists {
		cachedCells.Add(-cells)
		return
	}
	runtime.AddCleanup(t, func(state weak.Pointer[table.Table]) {
		cachedTasks.Delete(state)
		cachedCells.Add(-cells)
	}, state)
}

// InOrder returns tasks in row order. If a file was split into several tasks, it combines them.
func InOrder(tasks []table.FileScanTask) []table.FileScanTask {
	slices.SortStableFunc(tasks, func(a, b table.FileScanTask) int {
		if a.DataSequenceNumber != nil && b.DataSequenceNumber != nil && *a.DataSequenceNumber != *b.DataSequenceNumber {
			return cmp.Compare(*a.DataSequenceNumber, *b.DataSequenceNumber)
		}
		return compareNames(a.File.FilePath(), b.File.FilePath())
	})
	tasks = slices.CompactFunc(tasks, func(a, b table.FileScanTask) bool { return a.File.FilePath() == b.File.FilePath() })
	for i := range tasks {
		tasks[i].Start, tasks[i].Length = 0, tasks[i].File.FileSizeBytes()
	}
	return tasks
}

// Files returns a table version's data files.
func Files(ctx context.Context, t *table.Table, o ...table.ScanOption) (files []iceberg.DataFile, err error) {
	tasks, err := Tasks(ctx, t, o...)
	for _, task := range tasks {
		files = append(files, task.File)
	}
	return files, err
}

// compareNames orders the files of one commit by write time. This package names files
// <partition>-<number>-<id>-<count>.parquet. IDs increase with time. Numbers are not padded, so they cannot be compared
// as text.
func compareNames(a, b string) int {
	parseName := func(p string) (id string, n int) {
		_, p, _ = strings.Cut(path.Base(p), "-")
		number, id, _ := strings.Cut(p, "-")
		n, _ = strconv.Atoi(number)
		return id[:min(len(id), len(uuid.UUID{}.String()))], n
	}
	idA, nA := parseName(a)
	idB, nB := parseName(b)
	return cmp.Or(strings.Compare(idA, idB), cmp.Compare(nA, nB), strings.Compare(a, b))
}

// BoundsOf returns a function that returns a named column's bounds in a file, according to the table's metadata.
func BoundsOf(s *iceberg.Schema, f iceberg.DataFile) func(name string) filter.Bounds {
	lower, upper, nulls := f.LowerBoundValues(), f.UpperBoundValues(), f.NullValueCounts()
	return func(name string) filter.Bounds {
		b := filter.Bounds{Rows: f.Count(), Nulls: -1}
		for _, field := range s.Fields() {
			if field.Name == name {
				b.Min, b.Max = lower[field.ID], knownMax(upper[field.ID])
				if n, ok := nulls[field.ID]; ok {
					b.Nulls = n
				}
			}
		}
		return b
	}
}

// ToRead converts tasks to Files for a Scan. The Scan omits the rows that the tasks' delete files delete.
func ToRead(t *table.Table, tasks []table.FileScanTask) []File {
	d := &deleteReader{t: t, dataFiles: map[string]bool{}}
	files := make([]File, len(tasks))
	for i, task := range tasks {
		d.dataFiles[task.File.FilePath()] = true
		files[i] = File{Path: task.File.FilePath(), Lineage: Lineage{task.FirstRowID, task.DataSequenceNumber}}
		if HasDeletes(task) {
			files[i].Deletes = func(ctx context.Context) (*Deletes, error) { return d.deletesOf(ctx, task) }
		}
	}
	return files
}

// ReadableByID reports whether readers that find columns by ID, such as DuckDB, find all values. Files that other
// programs have added may lack IDs, or may store lists in Parquet's older form with two levels.
func ReadableByID(ctx context.Context, t *table.Table, tasks []table.FileScanTask) bool {
	isPrimitive := func(f iceberg.NestedField) bool { _, ok := f.Type.(iceberg.PrimitiveType); return ok }
	if t.Metadata().NameMapping() == nil && !slices.ContainsFunc(t.Schema().Fields(), func(f iceberg.NestedField) bool { return !isPrimitive(f) }) {
		return true
	}
	scan, err := NewScan(ctx, t, t.Schema(), nil, nil)
	return err == nil && !slices.ContainsFunc(tasks, func(task table.FileScanTask) bool {
		readable, err := scan.readableByID(task.File.FilePath())
		return err != nil || !readable // if there is an error, the scan reports it
	})
}

func (s *Scan) readableByID(name string) (readable bool, err error) {
	f := &file{scan: s, name: name}
	defer f.close()
	defer f.recoverPanic(&err)
	f.opened, err = s.Open(name)
	if err != nil {
		return false, err
	}
	f.parsed, f.footer, err = s.parse(name, f.opened)
	if err != nil {
		return false, err
	}
	root, err := pqschema.FromParquet(f.parsed.MetaData().FileMetaData.Schema)
	if err != nil {
		return false, err
	}
	columns := root.(*pqschema.GroupNode)
	for i := range columns.NumFields() {
		if !schema.ReadableByID(columns.Field(i)) {
			return false, nil
		}
	}
	return true, nil
}

// UnneededDeletes returns the delete files that apply to no data file of a table except those in replaced. tasks must
// contain all of the table's data files.
func UnneededDeletes(ctx context.Context, t *table.Table, tasks []table.FileScanTask, replaced []iceberg.DataFile) (unneeded []iceberg.DataFile, err error) {
	paths, kept := Paths(replaced), map[string]bool{}
	key := func(f iceberg.DataFile) string { // one file can contain the deletion vectors of many data files
		if referenced := f.ReferencedDataFile(); referenced != nil {
			return f.FilePath() + "\x00" + *referenced
		}
		return f.FilePath()
	}
	for _, task := range tasks {
		if !paths[task.File.FilePath()] {
			for _, f := range slices.Concat(task.DeleteFiles, task.EqualityDeleteFiles, task.DeletionVectorFiles) {
				kept[key(f)] = true
			}
		}
	}
	fileIO, err := t.FS(ctx)
	if err != nil {
		return nil, err
	}
	manifests, err := t.CurrentSnapshot().Manifests(fileIO)
	if err != nil {
		return nil, err
	}
	for _, m := range manifests {
		if m.ManifestContent() != iceberg.ManifestContentDeletes {
			continue
		}
		for e, err := range m.Entries(fileIO, true) {
			if err != nil {
				return nil, err
			}
			if f := e.DataFile(); !kept[key(f)] {
				unneeded = append(unneeded, f)
			}
		}
	}
	return unneeded, nil
}

// HasDeletes reports whether delete files may apply to a data file.
func HasDeletes(task table.FileScanTask) bool {
	return len(task.DeleteFiles)+len(task.EqualityDeleteFiles)+len(task.DeletionVectorFiles) > 0
}

// ReadRows reads the rows of files, except the rows in deleted. The rows have their stored types, and end with
// Iceberg's lineage columns if the table has them.
func ReadRows(ctx context.Context, t *table.Table, files []table.FileScanTask, deleted Deleted) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		scan, err := NewScan(ctx, t, schema.WithLineage(t.Schema(), t.Metadata().Version()), nil, nil)
		if err != nil {
			yield(nil, err)
			return
		}
		scan.Read(ctx, deleted.Hide(ToRead(t, files)))(yield)
	}
}

// RowsOf returns the number of rows in a file according to its footer.
func RowsOf(ctx context.Context, t *table.Table, task table.FileScanTask) (rows int64, err error) {
	err = withFile(ctx, t, task, func(f *file) {
		for _, g := range f.groups {
			rows += g.rows
		}
	})
	return rows, err
}

// withFile opens a file and calls use to inspect its footer.
func withFile(ctx context.Context, t *table.Table, task table.FileScanTask, use func(*file)) error {
	scan, err := NewScan(ctx, t, t.Schema(), []string{}, nil)
	if err != nil {
		return err
	}
	f, err := scan.open(ctx, File{Path: task.File.FilePath()})
	if err != nil {
		return err
	}
	defer f.close()
	use(f)
	return nil
}

// MayMatch reports whether a file can contain rows that match a condition. A nil condition matches all rows.
func MayMatch(where *filter.Condition, columns *iceberg.Schema, f iceberg.DataFile) bool {
	if where == nil {
		return true
	}
	matches, _ := where.May(BoundsOf(columns, f))
	return matches
}

// Paths returns the set of the files' paths.
func Paths(files []iceberg.DataFile) map[string]bool {
	all := map[string]bool{}
	for _, f := range files {
		all[f.FilePath()] = true
	}
	return all
}
