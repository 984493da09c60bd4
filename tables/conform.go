package tables

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/schema"
)

// rows returns the rows that are in the tail alone, up to an epoch. The caller
// releases them. It wants mu.
func (e *entry) rows(ctx context.Context, meta table.Metadata, upTo int64) ([]arrow.RecordBatch, error) {
	rows, err := e.log.Rows(ctx, e.state.folded, upTo)
	for i := 0; i < len(rows) && err == nil; i++ {
		if rows[i].Schema() != e.state.def.Stored && !rows[i].Schema().Equal(e.state.def.Stored) {
			rows[i], err = carried(meta, rows[i])
		}
	}
	if err != nil {
		release(rows)
		return nil, err
	}
	return rows, nil
}

// carried returns a batch, which it takes over, of an older schema of the table
// under the names that its columns have now, without those that were dropped. A
// batch of no such schema stays as it is.
func carried(meta table.Metadata, batch arrow.RecordBatch) (arrow.RecordBatch, error) {
	for _, sc := range slices.Backward(meta.Schemas()) {
		kept, err := schema.StoredOf(sc)
		if err != nil {
			return batch, err
		}
		if !kept.Equal(batch.Schema()) {
			continue
		}
		var fields []arrow.Field
		var columns []arrow.Array
		for i, f := range sc.Fields() {
			if now, ok := meta.CurrentSchema().FindFieldByID(f.ID); ok {
				field := kept.Field(i)
				field.Name = now.Name
				fields, columns = append(fields, field), append(columns, batch.Column(i))
			}
		}
		if len(fields) == 0 { // all columns were replaced: only the names say what is what
			return batch, nil
		}
		defer batch.Release()
		return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows()), nil
	}
	return batch, nil
}
