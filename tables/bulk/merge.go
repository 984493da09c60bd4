package bulk

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// MergeInput is an input of [Merge].
type MergeInput struct {
	Name string // names the input in errors; for example, a file name
	Rows array.RecordReader
}

// ErrNotSorted is wrapped by the error of [Merge] for an input that is not sorted.
var ErrNotSorted = errors.New("it is not sorted")

const mergeCost = 8 << 20 // approximate memory per input, in bytes

// Merge returns a reader of the rows of inputs, ordered as by [Sort]. Each input must already be in this order. If a row
// comes before the previous row of its input, the reader returns an error that wraps [ErrNotSorted]. All inputs must
// have the same schema. Rows with equal keys keep the order of the inputs. The caller must release the reader, and may
// release the inputs only afterwards.
//
// Merge reads all inputs at the same time. It needs temporary files only if the inputs, which take 8 MiB each, do not
// fit in five eighths of the memory, or if they are more than half of the files that the process may open.
func Merge(ctx context.Context, inputs []MergeInput, o *SortOptions) (array.RecordReader, error) {
	if len(inputs) == 0 {
		return nil, errors.New("bulk: merge: there are no inputs")
	}
	columns := inputs[0].Rows.Schema()
	s, err := newSorting("merge", columns, o)
	if err != nil {
		return nil, err
	}
	limit, cost := max(s.memory*5/8, 2*mergeCost), int64(mergeCost)
	if files := vfs.OpenFileLimit(); files > 0 {
		const otherFiles = 32
		cost = max(cost, limit/int64(max(2, (files-otherFiles)/2))) // temporary files need the other half
	}
	sources := make([]sorted.Source, len(inputs))
	for i, in := range inputs {
		if !in.Rows.Schema().Equal(columns) {
			return nil, fmt.Errorf("bulk: merge: %s and %s have different columns", inputs[0].Name, in.Name)
		}
		sources[i] = sorted.Source{Keys: s.keys.positions, Cost: cost, Batches: sorted.Ordered(s.read(in.Rows), s.keys.positions, func(row int64) error {
			return fmt.Errorf("%s, row %d comes before the previous row in the order of %s: %w", in.Name, row, strings.Join(o.By, ","), ErrNotSorted)
		})}
	}
	return s.reader(sorted.Merge(ctx, s.rule, limit, sources...)), nil
}
