package datafile

import (
	"context"
	"testing"

	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestInvalidGroupSize checks that groups have valid sizes even if the table's setting is invalid.
func TestInvalidGroupSize(t *testing.T) {
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64})
	for _, n := range []string{"-5", "0", "9000000000000000000"} {
		meta := must.Get(table.NewMetadata(sc, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, "file:///nowhere", iceberg.Properties{
			table.ParquetRowGroupLimitKey: n, table.ParquetRowGroupSizeBytesKey: n, table.WriteTargetFileSizeBytesKey: n,
		}))(t)
		w := &fileWriter{ctx: t.Context(), icebergSchema: sc, table: table.New(nil, meta, "", func(context.Context) (iceio.IO, error) { return nil, nil }, nil)}
		must.Do(t, w.prepare())
		if w.groups.maxRows < 1 || w.groups.maxBytes > 1<<30 {
			t.Errorf("setting %s: groups have %d rows and %d bytes, want at least 1 row and at most 1 GiB", n, w.groups.maxRows, w.groups.maxBytes)
		}
	}
}
