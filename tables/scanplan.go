package tables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// ScanPlan describes one state of a table: immutable files, and the rows in the tail. The files stay available until
// Close.
type ScanPlan struct {
	UUID    string // the table's UUID, which stays the same if the table is renamed
	Version Version

	// Schema has the columns with the types that readers see. Stored has the columns with the types in files, each with
	// its Iceberg ID in the metadata key PARQUET:field_id.
	Schema, Stored *arrow.Schema

	Files []PlannedFile // oldest first; the files do not contain the rows in Tail

	// Tail contains the rows that are not yet in files, in the types in Stored. Close releases these batches. If two
	// plans from one Store have the same TailMark, their Tails contain the same rows. TailMark is "" if Tail is empty.
	Tail     []arrow.RecordBatch
	TailMark string

	// KeyColumns names the columns that identify rows: a row in Tail replaces the rows with equal keys in files whose
	// Overlaps is true. Nil means that Tail replaces no rows.
	KeyColumns []string

	// NaN names the columns that may contain NaN, at any depth of nesting. The bounds in Parquet files ignore NaN, so a
	// reader that orders NaN like a number must not skip rows by these columns' bounds.
	NaN []string

	// NeedsScan means that the table cannot be read directly from Files, because rows are marked as deleted, a column
	// has a default value, fields of a nested column were renamed, or columns cannot be found by their IDs. Call Rows
	// instead.
	NeedsScan bool

	// OnlyDeletes means that NeedsScan is set only because rows are marked as deleted. The caller can then read Files
	// instead and omit the rows that DeletedRows returns. If two plans from one Store have the same DeletesMark, they
	// have the same Files with the same deleted rows. DeletesMark is "" if OnlyDeletes is not set.
	OnlyDeletes bool
	DeletesMark string

	view          *view
	changes       *difference // nil unless the plan is from ChangesPlan
	close         func()
	releaseCopies []func() // release the local copies of files
}

// PlannedFile is a Parquet file of a table.
type PlannedFile struct {
	Path  string // path on this machine
	Bytes int64
	Rows  int64

	Overlaps   bool // whether rows in the tail can replace some of the file's rows
	HasDeletes bool // whether rows in the file may be marked as deleted
}

// ScanPlan returns a plan for a caller that reads the table's files itself. The caller must close the plan.
func (t *Table) ScanPlan(ctx context.Context) (*ScanPlan, error) {
	v, release, err := t.reader().pinnedView(ctx)
	if err != nil {
		return nil, t.error("plan", err)
	}
	p := &ScanPlan{Tail: v.rows, view: v}
	p.close = sync.OnceFunc(func() {
		for _, releaseCopy := range p.releaseCopies {
			releaseCopy()
		}
		release()
	})
	if err := p.plan(ctx); err != nil {
		p.close()
		return nil, t.error("plan", err)
	}
	return p, nil
}

// Close releases Files and Tail, which must not be used afterwards.
func (p *ScanPlan) Close() {
	if p != nil {
		p.close()
	}
}

func (p *ScanPlan) plan(ctx context.Context) (err error) {
	v, meta := p.view, p.view.t.Metadata()
	p.Schema, p.UUID, p.Version = v.def.Logical, meta.TableUUID().String(), versionOf(meta)
	if v.snapshot != nil {
		p.Version = *v.source.oldVersion
	}
	p.Stored, err = v.def.StoredWithIDs()
	if err != nil {
		return err
	}
	if len(p.Tail) > 0 {
		p.TailMark = fmt.Sprintf("%s-%d-%s", p.UUID, v.def.Columns.ID, v.tail.Fingerprint)
		// With KeepFirst, Tail lacks rows whose keys are in files, so the mark must also change with the files.
		if v.series != nil && v.series.Rule == definition.KeepFirst {
			p.TailMark += fmt.Sprint("-", p.Version)
		}
		for i, b := range p.Tail {
			p.Tail[i] = array.NewRecordBatch(p.Stored, b.Columns(), b.NumRows())
			b.Release()
		}
		if v.tailReplaces {
			p.KeyColumns = v.series.Names
		}
	}
	p.NeedsScan = filesMayDiffer(v.def.Columns, meta.Schemas())
	tasks, err := v.tasks(ctx)
	if err != nil {
		return err
	}
	p.NaN = columnsWithNaN(v.def.Columns, tasks)
	p.NeedsScan = p.NeedsScan || !datafile.ReadableByID(ctx, v.t, tasks)
	if !p.NeedsScan && slices.ContainsFunc(tasks, datafile.HasDeletes) {
		p.NeedsScan, p.OnlyDeletes = true, true
		p.DeletesMark = fmt.Sprintf("%s-%d", p.UUID, cmp.Or(v.snapshot, v.t.CurrentSnapshot()).SnapshotID)
	}
	for _, task := range tasks {
		path, release, err := v.source.cat.Local(task.File.FilePath())
		if err != nil {
			return err
		}
		p.releaseCopies = append(p.releaseCopies, release)
		f := PlannedFile{Path: path, Bytes: task.File.FileSizeBytes(), Rows: task.File.Count(), HasDeletes: datafile.HasDeletes(task)}
		if p.KeyColumns != nil {
			f.Overlaps = v.series.BatchBounds(p.Tail[0]).Overlaps(v.series.Bounds(task.File))
		}
		p.Files = append(p.Files, f)
	}
	return nil
}

// columnsWithNaN returns the names of the columns that contain floats, except those for which the metadata of every
// file counts zero NaNs.
func columnsWithNaN(columns *iceberg.Schema, tasks []table.FileScanTask) (names []string) {
	floats := map[string][]int{}
	for _, f := range columns.Fields() {
		if ids := appendFloatIDs(nil, f); ids != nil {
			floats[f.Name] = ids
		}
	}
	if len(floats) == 0 {
		return nil
	}
	for _, task := range tasks {
		counts := task.File.NaNValueCounts()
		for name, ids := range floats {
			if slices.ContainsFunc(ids, func(id int) bool { n, ok := counts[id]; return !ok || n != 0 }) {
				names = append(names, name)
				delete(floats, name)
			}
		}
	}
	return names
}

// appendFloatIDs appends the IDs of f and its nested fields that are floats.
func appendFloatIDs(ids []int, f iceberg.NestedField) []int {
	switch t := f.Type.(type) {
	case iceberg.Float32Type, iceberg.Float64Type:
		return append(ids, f.ID)
	case iceberg.NestedType:
		for _, field := range t.Fields() {
			ids = appendFloatIDs(ids, field)
		}
	}
	return ids
}

// filesMayDiffer reports whether a file may differ from the current schema in the names of nested fields, or lack a
// column that has a default value. Iceberg's writers rename nested fields whose names are not identifiers.
func filesMayDiffer(current *iceberg.Schema, schemas []*iceberg.Schema) bool {
	sanitized, err := iceberg.SanitizeColumnNames(current)
	if err != nil {
		return true
	}
	for i, f := range current.Fields() {
		if f.InitialDefault != nil {
			return true
		}
		if _, isPrimitive := f.Type.(iceberg.PrimitiveType); isPrimitive {
			continue
		}
		if !reflect.DeepEqual(sanitized.Field(i).Type, f.Type) {
			return true
		}
		for _, s := range schemas {
			if old, ok := s.FindFieldByID(f.ID); ok && !reflect.DeepEqual(old.Type, f.Type) {
				return true
			}
		}
	}
	return false
}

// Rows returns a reader of all rows. The columns have the types in Stored, and the rows in the tail come last. The
// caller must release the reader before Close.
func (p *ScanPlan) Rows(ctx context.Context) (array.RecordReader, error) {
	var rows iter.Seq2[arrow.RecordBatch, error]
	if p.changes != nil {
		rows = p.changes.batches(ctx)
	} else {
		r := p.view.reader(ctx)
		if err := r.plan(nil); err != nil {
			return nil, p.view.source.error("scan", err)
		}
		rows = r.storedBatches
	}
	return batches.Reader(p.Stored, func(yield func(arrow.RecordBatch, error) bool) {
		rows(func(b arrow.RecordBatch, err error) bool {
			if err != nil {
				return yield(nil, err)
			}
			defer b.Release()
			converted, err := schema.Convert(b, p.Stored)
			return yield(converted, err) && err == nil
		})
	}, func() {}), nil
}

// Select returns a reader of the rows that satisfy the condition where; nil selects all rows. The reader has the named
// columns, with the types in Schema. Its rows are in the order of Files and Tail, or in the order of Rows if NeedsScan
// is set. Unless maxRows is 0, Select returns nil and no error if reading needs much memory, or if more than maxRows
// rows or too many files can match; math.MaxInt64 allows any number. For recycle, see ScanOptions. The caller must
// release the reader before Close. Select ignores KeyColumns and must not be used for a plan from ChangesPlan.
func (p *ScanPlan) Select(ctx context.Context, columns []string, where *filter.Expr, maxRows int64, recycle bool) (array.RecordReader, error) {
	v := *p.view
	if !p.NeedsScan {
		v.series = nil
	}
	r := v.reader(ctx)
	r.closeFiles = func() {}
	r.recycle, r.maxMatches = recycle, maxRows
	if where != nil {
		r.filters = append(r.filters, where)
	}
	err := r.plan(columns)
	switch {
	case errors.Is(err, errNotSmall):
		return nil, nil
	case err != nil:
		return nil, p.view.source.error("scan", err)
	}
	return batches.Reader(r.schema, r.batches, r.closeFiles), nil
}

// DeletedRows returns a bitmap for each file in Files: bit i%64 of element i/64 is set if row i is marked as deleted.
// Each bitmap ends at the last deleted row. If the bitmaps need more than maxBytes bytes, DeletedRows returns nil and
// no error.
func (p *ScanPlan) DeletedRows(ctx context.Context, maxBytes int64) ([][]uint64, error) {
	tasks, err := p.view.tasks(ctx)
	if err != nil {
		return nil, p.view.source.error("scan", err)
	}
	bitmaps, err := datafile.DeletedRows(ctx, p.view.t, tasks, maxBytes)
	if errors.Is(err, partd.ErrTooLarge) {
		return nil, nil
	}
	if err != nil {
		return nil, p.view.source.error("scan", err)
	}
	return bitmaps, nil
}

// Parts returns the number of parts for [ScanOptions.Part]: at least one, and about one per data file. To read each row
// exactly once, scan all parts at the same version or snapshot.
func (t *Table) Parts(ctx context.Context) (int, error) {
	return withView(ctx, t.reader(), "count the parts of", func(v *view) (int, error) {
		cuts, paths, err := v.parts(ctx)
		return max(1, len(paths), len(cuts)+1), err
	})
}

// parts divides the table into parts. If the table has an order, parts returns the times at which to divide the rows.
// Otherwise, each part is one file, and parts returns the files' paths in reading order.
func (v *view) parts(ctx context.Context) (cuts []time.Time, paths []string, err error) {
	if v.series != nil {
		cuts, err = v.series.FileStarts(ctx)
		return cuts, nil, err
	}
	tasks, err := v.tasks(ctx)
	for _, task := range tasks {
		paths = append(paths, task.File.FilePath())
	}
	return nil, paths, err
}

// limitToPart restricts the scan to part o.Part.
func (r *rowScan) limitToPart(o *ScanOptions) error {
	if !o.From.IsZero() || !o.To.IsZero() || o.Last > 0 {
		return errors.New("option Part cannot be combined with From, To or Last")
	}
	cuts, paths, err := r.parts(r.ctx)
	count := int64(max(1, len(paths), len(cuts)+1))
	if err == nil && (o.Part > count || o.Part < 1) {
		err = &ArgumentError{fmt.Errorf("option Part is %d: the table has parts 1 to %d", o.Part, count)}
	}
	if err != nil {
		return err
	}
	if r.series == nil {
		if len(paths) > 0 {
			r.firstFile, r.endFile = int(o.Part-1), int(o.Part)
		}
		if o.Part < count { // the tail's rows belong to the last part
			take.Release(r.rows)
			r.rows = nil
		}
		return nil
	}
	cuts = append(append([]time.Time{{}}, cuts...), time.Time{})
	inPart, err := series.TimeRange(r.def.Logical, r.series.Names[0], cuts[o.Part-1], cuts[o.Part])
	if err == nil && inPart != nil {
		if o.Part == 1 { // rows from before the time column was added have a null there; they come first
			inPart = filter.Or(filter.IsNull(r.series.Names[0]), inPart)
		}
		r.filters = append(r.filters, inPart)
	}
	return err
}
