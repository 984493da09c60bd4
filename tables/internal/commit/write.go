package commit

import (
	"cmp"
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/definition"
	"github.com/go-partd/partd/tables/internal/icecat"
	"github.com/go-partd/partd/tables/internal/rules"
	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/sorted"
	"github.com/go-partd/partd/tables/internal/take"
)

// Writing is rows to be written, once they were checked.
type Writing struct {
	Rows         datafile.Rows
	Caster       *schema.Caster
	Rules        *rules.Check                  // nil: none; closed by Write
	Check        func(arrow.RecordBatch) error // of the caller; nil: none
	Acknowledged bool                          // they are not refused as duplicates
}

// Write writes rows as data files of a table, through io. With an error nothing is left of
// them.
func (e *Entry) Write(ctx context.Context, t *table.Table, io *icecat.FileIO, w Writing) (files []iceberg.DataFile, err error) {
	defer w.Rules.Close()
	s, err := e.Series(t)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		files, err = datafile.Write(ctx, t, w.Caster.To, w.cast(ctx, nil), 0)
	default:
		if w.Acknowledged && s.Rule == definition.RefuseDuplicate {
			s = s.KeepingAll()
		}
		files, err = s.WriteSorted(ctx, w.cast(ctx, s.Order))
	}
	if err != nil {
		io.RemoveWritten()
	}
	return files, err
}

// writeTail is Write for rows of the tail as they are stored, which it takes over.
func (e *Entry) writeTail(ctx context.Context, t *table.Table, io *icecat.FileIO, rows arrow.RecordBatch) (files []iceberg.DataFile, err error) {
	defer func() {
		if err != nil {
			io.RemoveWritten()
		}
	}()
	s, err := e.Series(t)
	if s == nil {
		defer rows.Release()
	}
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return datafile.Write(ctx, t, rows.Schema(), sorted.Only(rows), 0)
	}
	if rows, err = s.SortRows(ctx, rows); err != nil {
		return nil, err
	}
	defer rows.Release()
	return s.Write(ctx, sorted.Only(rows))
}

// TailFiles writes what is in the tail as files of a table that has the metadata to, whose
// rows are made of those that readers get, as fit does it; nil: they stay as they are. The
// change has to Fold.
func (a *Attempt) TailFiles(ctx context.Context, cur *table.Table, to table.Metadata, fit *schema.Caster, rules *rules.Check) ([]iceberg.DataFile, error) {
	if a.tailDone || a.log == nil {
		return nil, nil
	}
	a.tailDone = true
	rows, err := a.rows(ctx, cur.Metadata(), lastEpoch)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	a.tailRows = true
	defer take.Release(rows)
	def, err := definition.Of(cur.Metadata())
	if err != nil {
		return nil, err
	}
	one, err := oneBatch(rows, def.Stored)
	if err != nil {
		return nil, err
	}
	if fit == nil {
		return a.writeTail(ctx, a.Table(to), a.IO, one)
	}
	s, err := a.Series(cur)
	if err == nil && s != nil {
		one, _, err = s.DedupTail(ctx, one)
	}
	if err != nil {
		return nil, err
	}
	defer one.Release()
	as, err := schema.Convert(one, fit.From)
	if err != nil {
		return nil, err
	}
	defer as.Release()
	return a.Write(ctx, a.Table(to), a.IO, Writing{Rows: &datafile.Source{Batches: []arrow.RecordBatch{as}}, Caster: fit, Rules: rules, Acknowledged: true})
}

// cast yields the rows in the types that the table stores, in an order of which no column
// has a null.
func (w Writing) cast(ctx context.Context, order *definition.Order) sorted.Batches {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for w.Rows.Next() {
			if err := canceled.Err(ctx); err != nil {
				yield(nil, err)
				return
			}
			if w.Rows.RecordBatch().NumRows() == 0 {
				continue
			}
			batch, err := w.Caster.Cast(w.Rows.RecordBatch())
			if err != nil {
				yield(nil, err)
				return
			}
			if err = w.Rules.Add(batch); err == nil {
				err = series.Check(order, batch)
			}
			if err == nil && w.Check != nil {
				err = w.Check(batch)
			}
			if err != nil || w.Rules.Violated() { // what else is wrong is to be counted, and nothing written
				batch.Release()
				batch = nil
			}
			if (batch != nil || err != nil) && !yield(batch, err) || err != nil {
				return
			}
		}
		if err := cmp.Or(w.Rows.Err(), w.Rules.End(ctx)); err != nil {
			yield(nil, err)
		}
	}
}

// AddOrdered adds files of an append, as the table's rule for duplicates says, and
// properties with them. What is acknowledged is not lost to the rule that refuses.
func (a *Attempt) AddOrdered(ctx context.Context, cur *table.Table, come []iceberg.DataFile, props iceberg.Properties, acknowledged bool) (table.Metadata, error) {
	s, err := a.Series(cur)
	if err != nil {
		return nil, err
	}
	if s == nil || cur.CurrentSnapshot() == nil || len(come) == 0 {
		return AddFiles(ctx, cur, come, props)
	}
	var times []*sorted.Bounds
	for _, f := range come {
		times = append(times, s.Bounds(f))
	}
	has, err := s.Overlapping(ctx, times...)
	if err != nil {
		return nil, err
	}
	if s.Rule == definition.RefuseDuplicate && !acknowledged {
		if err := s.Refuse(ctx, has, come); err != nil {
			return nil, err
		}
	}
	add, gone, err := s.Dedup(ctx, has, come)
	if err != nil {
		return nil, err
	}
	if len(gone) == 0 {
		return AddFiles(ctx, cur, add, props)
	}
	return ReplaceFiles(ctx, cur, gone, add, props)
}

// AddFiles adds files, and properties of the table and the snapshot with them.
func AddFiles(ctx context.Context, t *table.Table, files []iceberg.DataFile, props iceberg.Properties) (table.Metadata, error) {
	return filed(t, files, props, func(tx *table.Transaction, files []iceberg.DataFile) error {
		return tx.AddDataFiles(ctx, files, props, table.WithoutAutoNameMapping(), table.WithoutDuplicateCheck())
	})
}

// ReplaceFiles puts files in the place of others, and properties of both with them.
func ReplaceFiles(ctx context.Context, t *table.Table, old, files []iceberg.DataFile, props iceberg.Properties) (table.Metadata, error) {
	return filed(t, files, props, func(tx *table.Transaction, files []iceberg.DataFile) error {
		return tx.ReplaceDataFilesWithDataFiles(ctx, old, files, props, table.WithoutAutoNameMapping())
	})
}

func filed(t *table.Table, files []iceberg.DataFile, props iceberg.Properties, do func(*table.Transaction, []iceberg.DataFile) error) (table.Metadata, error) {
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
	if err := do(tx, files); err != nil {
		return nil, err
	}
	return MetadataOf(tx)
}

// MetadataOf returns the metadata that a transaction makes.
func MetadataOf(tx *table.Transaction) (table.Metadata, error) {
	t, err := tx.StagedTable()
	if err != nil {
		return nil, err
	}
	return t.Metadata(), nil
}

// Staged is the table with other metadata, whose files are written through io.
func (e *Entry) Staged(meta table.Metadata, io *icecat.FileIO) *table.Table {
	return e.of.Catalog.Staged(e.Namespace, e.Name, meta, "", io)
}

// Rules returns the rules of a table by this name, and those of its bucket.
func (e *Entry) Rules(ctx context.Context, d *definition.Definition) ([]rules.Rule, error) {
	text, err := e.of.Catalog.Property(ctx, e.Namespace, icecat.RulesProperty)
	if err != nil {
		return nil, err
	}
	return joined(d, text)
}

func joined(d *definition.Definition, bucket string) ([]rules.Rule, error) {
	own, err := d.Rules()
	if err != nil || bucket == "" {
		return own, err
	}
	all, err := rules.Parse(bucket)
	return slices.Concat(own, all), err
}
