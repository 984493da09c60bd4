package tables

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// DuplicateError is the error of a put that would have made rows of equal time and
// keys, where the table's settings say that there are none.
type DuplicateError struct {
	Count int64    // of rows that are one too many
	Rows  []string // the first of them, up to ten
}

func (e *DuplicateError) Error() string {
	text := fmt.Sprintf("%d rows are equal in time and keys to others, and on_duplicate is error: %s", e.Count, strings.Join(e.Rows, "; "))
	if int64(len(e.Rows)) < e.Count {
		text += "; …"
	}
	return text
}

// writeOrdered writes the rows of a put as data files in order, without the
// duplicates among them that the rule leaves out. Check sees each batch before; nil
// is none.
func (e *entry) writeOrdered(ctx context.Context, o *order, w *table.Table, io *icecat.FileIO, r datafile.Rows, c *schema.Caster, rules *check, check func(arrow.RecordBatch) error) (files []iceberg.DataFile, err error) {
	defer func() {
		rules.close()
		if err != nil {
			io.RemoveWritten()
		}
	}()
	names := o.Names
	in := e.s.sorting(casting(ctx, r, c, rules, func(b arrow.RecordBatch) error {
		if err := o.check(b, names); err != nil || check == nil {
			return err
		}
		return check(b)
	}), placesOf(c.To, names))
	first := true
	err = sorted.Parts(ctx, o.Merging(), in, func(rows sorted.Batches) error {
		part, err := o.write(ctx, w, c.To, rows)
		if err != nil || first {
			files, first = part, false
			return err
		}
		add, gone, err := e.s.settle(ctx, o, w, o.written(files), part)
		files = append(without(files, gone), add...)
		return err
	})
	if err == nil && o.Rule == RefuseDuplicate {
		err = e.s.refuse(ctx, o, w, nil, files)
	}
	return files, err
}

// write writes rows that are in order, cut as the table's settings say.
func (o *order) write(ctx context.Context, w *table.Table, kept *arrow.Schema, rows sorted.Batches) ([]iceberg.DataFile, error) {
	// Iceberg's library would sort each batch anew, and not keep equal rows in their order.
	meta, err := table.UpdateTableMetadata(w.Metadata(), definition.Unsorted(), "")
	if err != nil {
		return nil, err
	}
	fs, err := w.FS(ctx)
	if err != nil {
		return nil, err
	}
	plain := table.New(w.Identifier(), meta, "", func(context.Context) (iceio.IO, error) { return fs, nil }, nil)
	by, err := newCut(ctx, w, kept)
	if err != nil {
		return nil, err
	}
	next, stop := iter.Pull2(rows)
	defer stop()
	p := &periods{cut: by, next: next}
	defer p.release()
	var files []iceberg.DataFile
	for p.begin() {
		part, err := datafile.Write(ctx, plain, kept, func(yield func(arrow.RecordBatch, error) bool) {
			for b, err := range p.batches {
				if err == nil {
					same := array.NewRecordBatch(kept, b.Columns(), b.NumRows())
					b.Release()
					b = same
				}
				if !yield(b, err) {
					return
				}
			}
		})
		if err != nil {
			return nil, err
		}
		files = append(files, part...)
	}
	if p.err != nil {
		return nil, p.err
	}
	return o.marked(w.Metadata(), files)
}

// settle applies the rule for duplicates where files come to those that a table
// has. Neither hold any among themselves. It returns the files to add, which are
// written through the table, and those that these take the place of.
func (s *Store) settle(ctx context.Context, o *order, t *table.Table, has []*orderedFile, come []iceberg.DataFile) (add, gone []iceberg.DataFile, err error) {
	new := o.written(come)
	has = touching(has, new)
	if len(has) == 0 || o.Merging() == sorted.All {
		return come, nil, nil
	}
	// By either rule, rows of some files hide those of others, which are written again
	// where there are any.
	hiding, hidden := has, new
	if o.Rule == KeepLast {
		hiding, hidden = new, has
	}
	p, err := o.project(t.Schema(), nil)
	if err != nil {
		return nil, nil, err
	}
	kept := arrow.NewSchema(p.fields, nil)
	for _, f := range hidden {
		over := touching(hiding, []*orderedFile{f})
		shared, err := s.hiding(ctx, o, t, over, f.bounds)
		if err != nil {
			return nil, nil, err
		}
		own, err := s.hiding(ctx, o, t, []*orderedFile{f}, spanOf(over))
		if err != nil {
			return nil, nil, err
		}
		own[0].Hides = false
		any, err := notEmpty(sorted.Merge(ctx, sorted.Extra, s.opts.Memory/4, append(shared, own...)...))
		if err != nil {
			return nil, nil, err
		}
		if !any {
			if o.Rule == KeepFirst {
				add = append(add, f.file())
			}
			continue
		}
		// The hiding rows come first, and those that they hide are left out.
		rows := sorted.Merge(ctx, sorted.First, s.opts.Memory/4, append(shared, s.source(ctx, o, t, f, p))...)
		files, err := o.write(ctx, t, kept, rows)
		if err != nil {
			return nil, nil, err
		}
		add = append(add, files...)
		if o.Rule == KeepLast {
			gone = append(gone, f.file())
		}
	}
	if o.Rule == KeepLast {
		add = append(add, come...)
	}
	return add, gone, nil
}

// refuse returns a DuplicateError if files that come have rows that are equal to
// others, there or among them.
func (s *Store) refuse(ctx context.Context, o *order, t *table.Table, has []*orderedFile, come []iceberg.DataFile) error {
	new := o.written(come)
	sources, err := s.hiding(ctx, o, t, touching(has, new), spanOf(new))
	if err != nil {
		return err
	}
	own, err := s.hiding(ctx, o, t, new, nil)
	if err != nil {
		return err
	}
	for i := range own {
		own[i].Hides = false
	}
	count, rows, err := sorted.Duplicates(sorted.Merge(ctx, sorted.Extra, s.opts.Memory/4, append(sources, own...)...), 10)
	if err != nil || count == 0 {
		return err
	}
	return &DuplicateError{count, rows}
}

// addOrdered adds files of an append, as the rule says, and properties with them.
func (a *attempt) addOrdered(ctx context.Context, o *order, cur *table.Table, come []iceberg.DataFile, props iceberg.Properties, acknowledged bool) (table.Metadata, error) {
	if o == nil || cur.CurrentSnapshot() == nil || len(come) == 0 {
		return addFiles(ctx, cur, come, props)
	}
	var times []*sorted.Bounds
	for _, f := range come {
		times = append(times, o.bounds(f))
	}
	has, err := o.overlapping(ctx, cur, times)
	if err != nil {
		return nil, err
	}
	if o.Rule == RefuseDuplicate && !acknowledged { // what is acknowledged is not lost
		if err := a.s.refuse(ctx, o, cur, has, come); err != nil {
			return nil, err
		}
	}
	add, gone, err := a.s.settle(ctx, o, cur, has, come)
	if err != nil {
		return nil, err
	}
	if len(gone) == 0 {
		return addFiles(ctx, cur, add, props)
	}
	return replaceFiles(ctx, cur, gone, add, props)
}

// replaceFiles puts files in the place of others, and properties with them.
func replaceFiles(ctx context.Context, t *table.Table, old, files []iceberg.DataFile, props iceberg.Properties) (table.Metadata, error) {
	files, err := datafile.WithRowIDs(t, files)
	if err != nil {
		return nil, err
	}
	tx := t.NewTransaction()
	if props != nil {
		if err := tx.SetProperties(props); err != nil {
			return nil, err
		}
	}
	if err := tx.ReplaceDataFilesWithDataFiles(ctx, old, files, nil, table.WithoutAutoNameMapping()); err != nil {
		return nil, err
	}
	return metadataOf(tx)
}

// reordered writes all files of a table anew, in an order that it just got.
func (s *Store) reordered(ctx context.Context, o *order, t *table.Table) (table.Metadata, error) {
	if t.CurrentSnapshot() == nil {
		return t.Metadata(), nil
	}
	files, err := o.files(ctx, t)
	if err != nil || len(files) == 0 {
		return t.Metadata(), err
	}
	var old []iceberg.DataFile
	for _, f := range files {
		old = append(old, f.file())
	}
	names := o.Names
	add, err := s.rewrite(ctx, o, t, files, o.Merging(), func(b arrow.RecordBatch) error { return o.check(b, names) })
	if err != nil {
		return nil, err
	}
	if o.Rule == RefuseDuplicate {
		if err := s.refuse(ctx, o, t, nil, add); err != nil {
			return nil, err
		}
	}
	return replaceFiles(ctx, t, old, add, nil)
}

// rewrite writes the rows of files as files in order, once they were checked.
func (s *Store) rewrite(ctx context.Context, o *order, t *table.Table, files []*orderedFile, rule sorted.Rule, check func(arrow.RecordBatch) error) ([]iceberg.DataFile, error) {
	p, err := o.project(t.Schema(), nil)
	if err != nil {
		return nil, err
	}
	var sources []sorted.Source
	for _, f := range files {
		sources = append(sources, s.source(ctx, o, t, f, p))
	}
	return o.write(ctx, t, arrow.NewSchema(p.fields, nil), func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range sorted.Merge(ctx, rule, s.opts.Memory/4, sources...) {
			if err == nil && check != nil {
				if err = check(b); err != nil {
					b.Release()
					b = nil
				}
			}
			if !yield(b, err) {
				return
			}
		}
	})
}

// touching returns the files of some whose times overlap with those of others.
func touching(files, others []*orderedFile) (some []*orderedFile) {
	for _, f := range files {
		for _, o := range others {
			if f.bounds.Overlaps(o.bounds) {
				some = append(some, f)
				break
			}
		}
	}
	return some
}

// spanOf returns the bounds of all files, of which there is one at least.
func spanOf(files []*orderedFile) *sorted.Bounds {
	if len(files) == 0 {
		return nil
	}
	all := files[0].bounds
	for _, f := range files[1:] {
		all = all.With(f.bounds)
	}
	return all
}

func without(files, gone []iceberg.DataFile) (left []iceberg.DataFile) {
	paths := map[string]bool{}
	for _, f := range gone {
		paths[f.FilePath()] = true
	}
	for _, f := range files {
		if !paths[f.FilePath()] {
			left = append(left, f)
		}
	}
	return left
}

func notEmpty(rows sorted.Batches) (bool, error) {
	next, stop := iter.Pull2(rows)
	defer stop()
	b, err, ok := next()
	if ok && err == nil {
		b.Release()
	}
	return ok, err
}
