package commit

import (
	"context"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// Write writes rows as data files of a table, through fileIO. After an error, it removes the files.
func (s *site) Write(ctx context.Context, t *table.Table, fileIO *icecat.FileIO, w WriteInput) (files []iceberg.DataFile, err error) {
	defer w.Rules.Close()
	d, err := definition.FromMetadata(t.Metadata())
	if err == nil && w.Moved {
		d = d.WithLineage(t.Metadata().Version())
	}
	if err != nil {
		return nil, err
	}
	files, err = s.writer(d, t)(ctx, w.cast(ctx, d.Order), w.Acknowledged)
	if err != nil {
		fileIO.RemoveWritten()
	}
	return files, err
}

// writer returns a function that writes rows as data files of t. If t has a row order, the rows are written sorted.
func (s *site) writer(d *definition.Definition, t *table.Table) func(ctx context.Context, rows batches.Seq, acknowledged bool) ([]iceberg.DataFile, error) {
	if d.Order != nil {
		return series.New(d, t, s.tables.Memory).WriteSorted
	}
	return func(ctx context.Context, rows batches.Seq, _ bool) ([]iceberg.DataFile, error) {
		return datafile.Write(ctx, t, d.Stored, rows, 0)
	}
}

// Series returns t as a Series, or nil if the table's rows have no order.
func (s *site) Series(t *table.Table) (*series.Series, error) {
	return series.ForTable(t, s.tables.Memory)
}

// AddOrdered adds the files of an append, applies the table's rule for duplicate rows, and sets properties.
// acknowledged means that the rows' put has already succeeded, so duplicates must not be rejected.
func (a *Attempt) AddOrdered(ctx context.Context, cur *table.Table, added []iceberg.DataFile, props iceberg.Properties, acknowledged bool) (table.Metadata, error) {
	s, err := a.Series(cur)
	if err != nil {
		return nil, err
	}
	if s == nil || cur.CurrentSnapshot() == nil || len(added) == 0 {
		return AddFiles(ctx, cur, added, props)
	}
	existing, err := s.Files(ctx)
	if err != nil {
		return nil, err
	}
	if s.Rule == definition.RefuseDuplicate && !acknowledged {
		if err := s.RejectDuplicates(ctx, existing, added); err != nil {
			return nil, err
		}
	}
	files, replaced, err := s.Dedup(ctx, existing, added)
	if err != nil {
		return nil, err
	}
	if len(replaced) == 0 {
		return AddFiles(ctx, cur, files, props)
	}
	return ReplaceFiles(ctx, cur, replaced, files, props)
}
