package tables

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/arrowsafe"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/schema"
)

// Manifest is one state of a table: files that never change, and the rows of the
// tail. The files stay until Close.
type Manifest struct {
	UUID    string // of the table, whatever it is called
	Version Version

	// Schema is the columns as readers get them, Kept as the files have them,
	// with each column's Iceberg id in its metadata as PARQUET:field_id.
	Schema, Kept *arrow.Schema

	// Files hold the rows that are in no tail, oldest first.
	Files []ManifestFile

	// Tail is the rows that are in the tail alone, in the types of Kept. Close
	// releases them. Two manifests of one Store with equal TailMark have equal
	// tails; it is "" where there are no rows.
	Tail     []arrow.RecordBatch
	TailMark string

	// Replaced names the columns by which rows of Tail take the place of those in
	// files with Overlaps; it is nil where they take the place of none.
	Replaced []string

	// Scanned says that the files alone do not tell the table's rows: some are
	// deleted, or parts of a nested column were renamed. Rows has them.
	Scanned bool

	table  *Table
	view   *view
	copies []func() // let go of copies of files
	close  func()
}

// ManifestFile is a Parquet file of a table.
type ManifestFile struct {
	Path  string // on this machine
	Bytes int64
	Rows  int64

	Overlaps bool // rows of the tail may take the place of some of the file's
}

// Manifest returns the table's state, for those who read its files themselves.
// The caller closes it.
func (t *Table) Manifest(ctx context.Context) (*Manifest, error) {
	m, err := t.manifest(ctx)
	if err != nil {
		return nil, t.error("plan", err)
	}
	return m, nil
}

func (t *Table) manifest(ctx context.Context) (_ *Manifest, err error) {
	p, err := t.b.s.pin()
	if err != nil {
		return nil, err
	}
	m := &Manifest{table: t}
	m.close = sync.OnceFunc(func() {
		release(m.Tail)
		for _, letGo := range m.copies {
			letGo()
		}
		t.b.s.unpin(p)
	})
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	v, err := t.settled(ctx)
	if err != nil {
		return nil, err
	}
	m.view, m.Tail, m.Schema = v, v.rows, v.returned
	meta := v.t.Metadata()
	m.UUID, m.Version = meta.TableUUID().String(), versionOf(meta)
	if v.snapshot != nil {
		m.Version = *t.old
	}
	if m.Kept, err = table.SchemaToArrowSchema(v.schema, nil, true, false); err != nil {
		return nil, err
	}
	if len(m.Tail) > 0 {
		m.TailMark = fmt.Sprintf("%s-%d-%s", m.UUID, v.schema.ID, v.tailMark)
		if v.series != nil && v.series.Rule == KeepFirst { // what is left of the tail depends on the files
			m.TailMark += fmt.Sprint("-", m.Version)
		}
		if err := m.fitTail(); err != nil {
			return nil, err
		}
		if v.replaces {
			m.Replaced = v.series.Names
		}
	}
	return m, m.plan(ctx)
}

// Close lets go of the files and of the tail's rows.
func (m *Manifest) Close() { m.close() }

// fitTail brings the tail's rows to the types of Kept.
func (m *Manifest) fitTail() error {
	for i, b := range m.Tail {
		fit, err := schema.CastStored(b, m.view.def.Stored)
		if err != nil {
			return err
		}
		m.Tail[i] = array.NewRecordBatch(m.Kept, fit.Columns(), fit.NumRows())
		fit.Release()
		b.Release()
	}
	return nil
}

// plan finds the files.
func (m *Manifest) plan(ctx context.Context) error {
	v := m.view
	m.Scanned = nestedChanged(v.schema, v.t.Metadata().Schemas())
	if v.t.CurrentSnapshot() == nil {
		return nil
	}
	tasks, err := datafile.Tasks(ctx, v.t, v.at()...)
	if err != nil {
		return err
	}
	for _, task := range tasks {
		m.Scanned = m.Scanned || datafile.HasDeletes(task)
		path := task.File.FilePath()
		local, letGo, err := m.table.b.s.cat.Local(path)
		if err != nil {
			return err
		}
		m.copies = append(m.copies, letGo)
		f := ManifestFile{Path: local, Bytes: task.File.FileSizeBytes(), Rows: task.File.Count()}
		if m.Replaced != nil {
			f.Overlaps = v.series.BatchBounds(m.Tail[0]).Overlaps(v.series.Bounds(task.File))
		}
		m.Files = append(m.Files, f)
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

// Rows reads the state's rows in the types of Kept, those of the tail last. The
// caller releases the reader, before Close.
func (m *Manifest) Rows(ctx context.Context) (array.RecordReader, error) {
	r := &reader{s: m.table.b.s, table: m.table, ctx: ctx, left: -1, tail: m.Tail}
	if err := r.choose(m.view, nil); err != nil {
		return nil, err
	}
	if err := r.plan(ctx, m.view); err != nil {
		return nil, m.table.error("scan", err)
	}
	return arrowsafe.Reader(m.Kept, func(yield func(arrow.RecordBatch, error) bool) {
		r.raw(func(b arrow.RecordBatch, err error) bool {
			if err != nil {
				return yield(nil, err)
			}
			defer b.Release()
			fit, err := schema.Convert(b, m.Kept)
			return yield(fit, err) && err == nil
		})
	}, func() {}), nil
}
