package bulk

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// SortOptions configures [Sort]. By is required.
type SortOptions struct {
	By     []string // columns, the most significant first
	Memory int64    // approximate limit of memory in bytes; 0 means [DefaultMemory]
	// Distinct returns only the first row of those with equal keys.
	Distinct bool
}

// Sort returns a reader of the rows of r, ordered by columns. Rows with equal keys keep their order. Null comes before
// all values, and NaN before all numbers; text is ordered by its bytes. Rows that exceed the memory go to temporary
// files. At the end, unless Distinct is set, the reader returns an error if it has not returned as many rows as it read
// from r. The caller must release the reader, and may release r only afterwards.
func Sort(ctx context.Context, r array.RecordReader, o *SortOptions) (array.RecordReader, error) {
	memory, err := memoryLimit(o.Memory)
	if err != nil {
		return nil, fmt.Errorf("bulk: sort: %w", err)
	}
	columns := r.Schema()
	by, err := positions(columns, o.By)
	if err != nil {
		return nil, fmt.Errorf("bulk: sort: %w", err)
	}
	plain := plainSchema(columns)
	withKeys, err := addKeys(plain, by)
	if err != nil {
		return nil, fmt.Errorf("bulk: sort: %w", err)
	}
	rule := sorted.All
	if o.Distinct {
		rule = sorted.First
	}
	read := int64(0)
	in := sorted.Input{
		Keys: withKeys.positions, Memory: min(memory/16, max(memory/32, 16<<20), maxBlock), Keep: memory*5/8 - minMemory/2, Size: util.TotalRecordSize,
		Batches: sorted.Blocks(arrowsafe.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
			read += b.NumRows()
			b, err := schema.Convert(b, plain)
			if err != nil {
				return nil, err
			}
			defer b.Release()
			return withKeys.add(b)
		}), sorted.SmallBatch),
	}
	return arrowsafe.Reader(columns, func(yield func(arrow.RecordBatch, error) bool) {
		written := int64(0)
		for b, err := range sorted.Ahead(sorted.Sort(ctx, rule, in), 2) {
			if err != nil {
				yield(nil, fmt.Errorf("bulk: sort: %w", err))
				return
			}
			written += b.NumRows()
			more := true
			for out, err := range encoded(b.Columns()[:columns.NumFields()], b.NumRows(), columns) {
				more = yield(out, err) && err == nil
				if !more {
					break
				}
			}
			b.Release()
			if !more {
				return
			}
		}
		if written != read && !o.Distinct {
			yield(nil, fmt.Errorf("bulk: sort: %d rows were read, but %d rows were written", read, written))
		}
	}, func() {}), nil
}

// keys are the columns to sort by. If package sorted cannot order a column's type, the schema ends with a copy of the
// column, in the type in which a table would store it; the rows are sorted by the copy.
type keys struct {
	schema    *arrow.Schema // the original columns, and the copies
	copied    []int
	positions []int
}

var errNoOrder = errors.New("values of this type have no order")

func addKeys(columns *arrow.Schema, by []int) (*keys, error) {
	fields := columns.Fields()
	k := &keys{positions: make([]int, len(by))}
	for i, position := range by {
		f := columns.Field(position)
		k.positions[i] = position
		if sorted.HasOrder(f.Type) {
			continue
		}
		stored, err := schema.StoredType(f.Type)
		if err == nil && !sorted.HasOrder(stored) {
			err = errNoOrder
		}
		if err != nil {
			return nil, fmt.Errorf("column %q of type %s: %w", f.Name, f.Type, err)
		}
		k.positions[i] = len(fields)
		k.copied = append(k.copied, position)
		fields = append(fields, arrow.Field{Name: f.Name, Type: stored, Nullable: true})
	}
	metadata := columns.Metadata()
	k.schema = arrow.NewSchema(fields, &metadata)
	return k, nil
}

func (k *keys) add(b arrow.RecordBatch) (arrow.RecordBatch, error) {
	all := b.Columns()
	for i, position := range k.copied {
		a, err := schema.ConvertArray(b.Column(position), k.schema.Field(int(b.NumCols())+i).Type)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", b.ColumnName(position), err)
		}
		defer a.Release()
		all = append(all[:len(all):len(all)], a)
	}
	return array.NewRecordBatch(k.schema, all, b.NumRows()), nil
}
