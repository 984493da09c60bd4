package formats

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
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

// TestLargeRows checks that a row of more than a quarter of a job's memory is an error.
func TestLargeRows(t *testing.T) {
	columns := arrow.NewSchema([]arrow.Field{{Name: "v", Type: arrow.BinaryTypes.String}}, nil)
	for _, rows := range []int{1, 40} {
		b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
		for range rows - 1 {
			b.Field(0).(*array.StringBuilder).Append("x")
		}
		b.Field(0).(*array.StringBuilder).Append(strings.Repeat("x", 3<<20))
		batch := b.NewRecordBatch()
		for _, format := range []Format{Parquet, Arrow, JSONL} {
			for memory, want := range map[int64]error{8 << 20: partd.ErrTooLarge, 16 << 20: nil} {
				in := fileOf(t, "x."+string(format), encode(t, format, true, columns, batch))
				in.JobMemory = memory
				_, err := content(t, in)
				if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), "3 MiB, more than a quarter of --memory: use --memory 1") {
					t.Errorf("%s with %d rows and %d bytes of memory: error %v, want %v", format, rows, memory, err, want)
				}
			}
		}
	}
}
