package take_test

import (
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/take"
)

// TestRuns selects random runs from several slices of arrays of every type, with and without nulls.
func TestRuns(t *testing.T) {
	for name, full := range sampleArrays(t) {
		if name == "runs" {
			continue // no such column is sorted
		}
		schema := arrow.NewSchema([]arrow.Field{{Name: "c", Type: full.DataType(), Nullable: true}}, nil)
		for range 200 {
			var batches []arrow.RecordBatch
			var runs []take.Run
			var want []arrow.Array
			for batch := range 1 + rand.IntN(3) {
				start := rand.Int64N(11)
				a := array.NewSlice(full, start, start+1+rand.Int64N(11-start))
				batches = append(batches, array.NewRecordBatch(schema, []arrow.Array{a}, int64(a.Len())))
				for range 1 + rand.IntN(4) {
					from := rand.IntN(a.Len())
					runs = append(runs, take.Run{Batch: batch, From: from, To: from + 1 + rand.IntN(a.Len()-from)})
				}
			}
			rand.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
			rows := 0
			for _, r := range runs {
				want = append(want, array.NewSlice(batches[r.Batch].Column(0), int64(r.From), int64(r.To)))
				rows += r.To - r.From
			}
			got, err := take.Runs(batches, runs, rows)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			i := 0
			for _, part := range want {
				for row := range part.Len() {
					if got.Column(0).IsNull(i) != part.IsNull(row) || got.Column(0).ValueStr(i) != part.ValueStr(row) {
						t.Fatalf("%s: runs %v: row %d is %s, want %s", name, runs, i, got.Column(0).ValueStr(i), part.ValueStr(row))
					}
					i++
				}
			}
		}
	}
}
