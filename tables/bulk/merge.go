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
	Name string // for errors, such as the name of a file
	Rows array.RecordReader
}

// ErrNotSorted is wrapped by the error of [Merge] for an input that is not sorted.
var ErrNotSorted = errors.New("it is not sorted")

const mergeCost = 8 << 20 // approximate memory of an input in bytes

// Merge returns a reader of the rows of inputs, ordered as by [Sort]. Each input must already be in this order; the
// first row that comes before the previous one of its input is an error that wraps [ErrNotSorted]. All inputs must have
// the same schema. Rows with equal keys keep the order of the inputs. Merge reads all inputs at the same time, without
// temporary files. Only if there are more inputs than fit in memory, where each takes 8 MiB, or than half of the files
// that the process may open, it first merges groups of them to temporary files. The caller must release the reader, and
// may release the inputs only afterwards.
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
