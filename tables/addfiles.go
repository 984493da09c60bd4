package tables

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/datafile"
	"github.com/go-partd/partd/tables/internal/series"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// DuplicateError is the error of a put that would have made rows of equal time and
// keys, where the table's settings say that there are none.
type DuplicateError = series.DuplicateError

// addOrdered adds files of an append, as the table's rule for duplicates says, and
// properties with them.
func (a *attempt) addOrdered(ctx context.Context, cur *table.Table, come []iceberg.DataFile, props iceberg.Properties, acknowledged bool) (table.Metadata, error) {
	s, err := series.Of(cur, a.s.opts.Memory)
	if err != nil {
		return nil, err
	}
	if s == nil || cur.CurrentSnapshot() == nil || len(come) == 0 {
		return addFiles(ctx, cur, come, props)
	}
	var times []*sorted.Bounds
	for _, f := range come {
		times = append(times, s.Bounds(f))
	}
	has, err := s.Overlapping(ctx, times...)
	if err != nil {
		return nil, err
	}
	if s.Rule == RefuseDuplicate && !acknowledged { // what is acknowledged is not lost
		if err := s.Refuse(ctx, has, come); err != nil {
			return nil, err
		}
	}
	add, gone, err := s.Dedup(ctx, has, come)
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
func (s *Store) reordered(ctx context.Context, t *table.Table) (table.Metadata, error) {
	is, err := series.Of(t, s.opts.Memory)
	if err != nil {
		return nil, err
	}
	files, err := is.Files(ctx)
	if err != nil || len(files) == 0 {
		return t.Metadata(), err
	}
	var old []iceberg.DataFile
	for _, f := range files {
		old = append(old, f.Data())
	}
	checked := func(rows sorted.Batches) sorted.Batches {
		return func(yield func(arrow.RecordBatch, error) bool) {
			for b, err := range rows {
				if err == nil {
					if err = series.Check(is.Order, b); err != nil {
						b.Release()
						b = nil
					}
				}
				if !yield(b, err) || err != nil {
					return
				}
			}
		}
	}
	add, err := is.Rewrite(ctx, files, is, is.Merging(), checked)
	if err == nil && is.Rule == RefuseDuplicate {
		err = is.Refuse(ctx, nil, add)
	}
	if err != nil {
		return nil, err
	}
	return replaceFiles(ctx, t, old, add, nil)
}
