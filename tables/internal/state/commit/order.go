package commit

import (
	"context"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/series"
)

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
