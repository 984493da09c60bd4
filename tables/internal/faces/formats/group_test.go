package formats

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestWideParquet checks that a row group with many columns takes little memory, and that its rows are the same as
// without a limit.
func TestWideParquet(t *testing.T) {
	one := mixedRows(t, 4000)
	var fields []arrow.Field
	var arrays []arrow.Array
	for i := range 400 / int(one.NumCols()) {
		for c, f := range mixed.Fields() {
			f.Name = fmt.Sprint(f.Name, i)
			fields, arrays = append(fields, f), append(arrays, one.Column(c))
		}
	}
	columns := arrow.NewSchema(fields, nil)
	file := encode(t, Parquet, false, columns, array.NewRecordBatch(columns, arrays, one.NumRows()))
	want, err := content(t, fileOf(t, "x.parquet", file))
	in := fileOf(t, "x.parquet", file)
	in.JobMemory = 16 << 20
	got, limitedErr := content(t, in)
	if err != nil || limitedErr != nil || got != want {
		t.Errorf("the rows differ: %d and %d bytes, errors %v and %v", len(got), len(want), limitedErr, err)
	}
	used := procs.HeapPeak(func() {
		r, err := in.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Release()
		for r.Next() {
		}
	})
	if used > 36<<20 {
		t.Errorf("reading took %d MiB of memory", used>>20)
	}
}
