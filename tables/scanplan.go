package tables

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/take"
)

// ScanPlan is one state of a table: files that never change, and the rows of the
// tail. The files stay until Close.
type ScanPlan struct {
	UUID    string // of the table, whatever it is called
	Version Version

	// Schema is the columns as readers get them, Stored as the files have them,
	// with each column's Iceberg id in its metadata as PARQUET:field_id.
	Schema, Stored *arrow.Schema

	// Files hold the rows that are in no tail, oldest first.
	Files []PlannedFile

	// Tail is the rows that are in the tail alone, in the types of Stored. Close
	// releases them. Two plans of one Store with equal TailMark have equal
	// tails; it is "" where there are no rows.
	Tail     []arrow.RecordBatch
	TailMark string

	// Replaced names the columns by which rows of Tail take the place of those in
	// files with Overlaps; it is nil where they take the place of none.
	Replaced []string

	// Scanned says that the files alone do not tell the table's rows: some are
	// deleted, or parts of a nested column were renamed. Rows has them.
	Scanned bool

	view   *view
	copies []func() // let go of copies of files
	close  func()
}

// PlannedFile is a Parquet file of a table.
type PlannedFile struct {
	Path  string // on this machine
	Bytes int64
	Rows  int64

	Overlaps bool // rows of the tail may take the place of some of the file's
}

// ScanPlan returns the table's state, for those who read its files themselves.
// The caller closes it.
func (t *Table) ScanPlan(ctx context.Context) (_ *ScanPlan, err error) {
	unpin, err := t.bucket().store().commits.Pin()
	if err != nil {
		return nil, t.error("plan", err)
	}
	p := &ScanPlan{}
	p.close = sync.OnceFunc(func() {
		take.Release(p.Tail)
		for _, letGo := range p.copies {
			letGo()
		}
		unpin()
	})
	if p.view, err = t.deduped(ctx); err == nil {
		p.Tail = p.view.rows
		err = p.plan(ctx)
	}
	if err != nil {
		p.close()
		return nil, t.error("plan", err)
	}
	return p, nil
}

// Close lets go of the files and of the tail's rows.
func (p *ScanPlan) Close() {
	if p != nil {
		p.close()
	}
}

func (p *ScanPlan) plan(ctx context.Context) (err error) {
	v, meta := p.view, p.view.t.Metadata()
	p.Schema, p.UUID, p.Version = v.def.Logical, meta.TableUUID().String(), versionOf(meta)
	if v.snapshot != nil {
		p.Version = *v.of.old
	}
	if p.Stored, err = table.SchemaToArrowSchema(v.def.Columns, nil, true, false); err != nil {
		return err
	}
	if len(p.Tail) > 0 {
		p.TailMark = fmt.Sprintf("%s-%d-%s", p.UUID, v.def.Columns.ID, v.tail.Mark)
		if v.series != nil && v.series.Rule == KeepFirst { // what is left of the tail depends on the files
			p.TailMark += fmt.Sprint("-", p.Version)
		}
		for i, b := range p.Tail {
			p.Tail[i] = array.NewRecordBatch(p.Stored, b.Columns(), b.NumRows())
			b.Release()
		}
		if v.replaces {
			p.Replaced = v.series.Names
		}
	}
	p.Scanned = nestedChanged(v.def.Columns, meta.Schemas())
	tasks, err := v.tasks(ctx)
	if err != nil {
		return err
	}
	for _, task := range tasks {
		p.Scanned = p.Scanned || datafile.HasDeletes(task)
		local, letGo, err := v.of.b.s.cat.Local(task.File.FilePath())
		if err != nil {
			return err
		}
		p.copies = append(p.copies, letGo)
		f := PlannedFile{Path: local, Bytes: task.File.FileSizeBytes(), Rows: task.File.Count()}
		if p.Replaced != nil {
			f.Overlaps = v.series.BatchBounds(p.Tail[0]).Overlaps(v.series.Bounds(task.File))
		}
		p.Files = append(p.Files, f)
	}
	return nil
}

// nestedChanged reports whether files may have parts of columns under other names,
// as Iceberg's writers give them where a name is no identifier, or lack a column that
// has a value where it is missing.
func nestedChanged(now *iceberg.Schema, all []*iceberg.Schema) bool {
	inFiles, err := iceberg.SanitizeColumnNames(now)
	if err != nil {
		return true
	}
	for i, f := range now.Fields() {
		if f.InitialDefault != nil {
			return true
		}
		if _, plain := f.Type.(iceberg.PrimitiveType); plain {
			continue
		}
		if !reflect.DeepEqual(inFiles.Field(i).Type, f.Type) {
			return true
		}
		for _, s := range all {
			if was, ok := s.FindFieldByID(f.ID); ok && !reflect.DeepEqual(was.Type, f.Type) {
				return true
			}
		}
	}
	return false
}

// Rows reads the state's rows in the types of Stored, those of the tail last. The
// caller releases the reader, before Close.
func (p *ScanPlan) Rows(ctx context.Context) (array.RecordReader, error) {
	r := p.view.reader(ctx)
	if err := r.plan(nil); err != nil {
		return nil, p.view.of.error("scan", err)
	}
	return arrowsafe.Reader(p.Stored, func(yield func(arrow.RecordBatch, error) bool) {
		r.raw(func(b arrow.RecordBatch, err error) bool {
			if err != nil {
				return yield(nil, err)
			}
			defer b.Release()
			fit, err := schema.Convert(b, p.Stored)
			return yield(fit, err) && err == nil
		})
	}, func() {}), nil
}

// Parts returns in how many parts a scan may read the table, one at least and about one
// for each data file: see [ScanOptions.Part]. Scans of parts that belong together are
// those of one version or snapshot.
func (t *Table) Parts(ctx context.Context) (int, error) {
	return look(ctx, t, "read the parts of", func(v *view) (int, error) {
		cuts, paths, err := v.parts(ctx)
		return max(1, len(paths), len(cuts)+1), err
	})
}

// parts returns where parts are cut: by times if the rows have an order, else there is one
// for each data file, in the order in which they are read.
func (v *view) parts(ctx context.Context) (cuts []time.Time, paths []string, err error) {
	if v.series != nil {
		cuts, err = v.series.Begins(ctx)
		return cuts, nil, err
	}
	tasks, err := v.tasks(ctx)
	for _, task := range tasks {
		paths = append(paths, task.File.FilePath())
	}
	return nil, paths, err
}

// part restricts the scan to one part, counted from 1.
func (r *reader) part(o *ScanOptions) error {
	if !o.From.IsZero() || !o.To.IsZero() || o.Last > 0 {
		return errors.New("option Part excludes From, To and Last")
	}
	cuts, paths, err := r.parts(r.ctx)
	n := int64(max(1, len(paths), len(cuts)+1))
	if err == nil && (o.Part > n || o.Part < 1) {
		err = fmt.Errorf("option Part is %d, and the table has the parts 1 to %d", o.Part, n)
	}
	if err != nil {
		return err
	}
	if r.series == nil {
		if len(paths) > 0 {
			r.from, r.to = int(o.Part-1), int(o.Part)
		}
		if o.Part < n {
			take.Release(r.rows)
			r.rows = nil
		}
		return nil
	}
	cuts = append(append([]time.Time{{}}, cuts...), time.Time{})
	only, err := series.TimeRange(r.def.Logical, r.series.Names[0], cuts[o.Part-1], cuts[o.Part])
	if err == nil && only != nil {
		r.filters = append(r.filters, only)
	}
	return err
}
