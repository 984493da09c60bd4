package bulk

import (
	"errors"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// encode yields the rows of columns as batches with the target schema. Where target has dictionaries, even within
// nested columns, encode converts plain values to dictionaries. If the values do not fit in one dictionary, because
// the rows come from several batches, encode yields several batches.
func encode(columns []arrow.Array, rows int64, target *arrow.Schema) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for start, step := int64(0), rows; start < rows; {
			step = min(step, rows-start)
			b, err := take.MakeBatch(target, step, func(i int) (arrow.Array, error) {
				a := array.NewSlice(columns[i], start, start+step)
				defer a.Release()
				return schema.ConvertArray(a, target.Field(i).Type)
			})
			if step > 1 && errors.Is(err, schema.ErrFullDictionary) {
				step /= 2
				continue
			}
			if !yield(b, err) || err != nil {
				return
			}
			start, step = start+step, 2*step // trying all remaining rows each time would take quadratic time
		}
	}
}
