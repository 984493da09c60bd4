package bulk

import (
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// encoded yields rows with the given schema. It converts plain values, even within nested columns, to dictionaries if
// the schema has dictionaries for them. If a dictionary has no room for all values of a batch, encoded yields smaller
// batches, because the rows of several batches can have more values than one dictionary holds.
func encoded(columns []arrow.Array, rows int64, to *arrow.Schema) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for start, step := int64(0), rows; start < rows; {
			step = min(step, rows-start)
			b, err := take.MakeBatch(to, step, func(i int) (arrow.Array, error) {
				a := array.NewSlice(columns[i], start, start+step)
				defer a.Release()
				return schema.ConvertArray(a, to.Field(i).Type)
			})
			if step > 1 && errors.Is(err, schema.ErrFullDictionary) {
				step /= 2
				continue
			}
			if !yield(b, err) || err != nil {
				return
			}
			start, step = start+step, 2*step // trying all other rows each time would take quadratic time
		}
	}
}
