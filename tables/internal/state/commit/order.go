package commit

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// rowWriter writes rows as data files of a table, in the order of the table's rows. acknowledged means that the puts of
// the rows already succeeded, so duplicates must not be rejected.
type rowWriter interface {
	WriteRows(ctx context.Context, rows sorted.Batches, acknowledged bool) ([]iceberg.DataFile, error)
}

func (s *site) writer(d *definition.Definition, t *table.Table) rowWriter {
	if d.Order == nil {
		return unordered{t, d.Stored}
	}
	return series.New(d, t, s.tables.Memory)
}

// unordered is the rowWriter of a table whose rows have no order.
type unordered struct {
	t       *table.Table
	columns *arrow.Schema
}

func (u unordered) WriteRows(ctx context.Context, rows sorted.Batches, _ bool) ([]iceberg.DataFile, error) {
	return datafile.Write(ctx, u.t, u.columns, rows, 0)
}

// Series returns t as a Series, or nil if the table's rows have no order.
func (s *site) Series(t *table.Table) (*series.Series, error) {
	return series.ForTable(t, s.tables.Memory)
}

// AddOrdered adds the files of an append, applies the table's rule for duplicate rows, and sets properties.
// acknowledged means that the put of the rows already succeeded, so duplicates must not be rejected.
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
