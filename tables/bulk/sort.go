package bulk

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// SortOptions configures [Sort] and [Merge]. By is required.
type SortOptions struct {
	By     []string // columns, the most significant first
	Memory int64    // approximate limit of memory in bytes; 0 means [DefaultMemory]
	// Distinct keeps only the first of the rows with equal keys.
	Distinct bool
}

// Sort returns a reader of the rows of r, ordered by columns. Rows with equal keys keep their order. Null comes before
// all values, and NaN before all numbers; text is ordered by its bytes. Rows that exceed the memory go to temporary
// files. Unless Distinct is set, the reader ends with an error if it has not returned as many rows as it read from r.
// The caller must release the reader, and may release r only afterwards.
func Sort(ctx context.Context, r array.RecordReader, o *SortOptions) (array.RecordReader, error) {
	s, err := newSorting("sort", r.Schema(), o)
	if err != nil {
		return nil, err
	}
	in := sorted.Input{
		Keys: s.keys.positions, Memory: min(s.memory/16, max(s.memory/32, 16<<20), maxBlock), Keep: s.memory*5/8 - minMemory/2, Size: util.TotalRecordSize,
		Batches: s.read(r),
	}
	return s.reader(sorted.Sort(ctx, s.rule, in)), nil
}

// sorting is a call of Sort or Merge.
type sorting struct {
	name           string // function name in errors
	memory         int64
	distinct       bool
	rule           sorted.Rule
	columns, plain *arrow.Schema // schema of the result, with and without dictionaries
	keys           *keys
	rowsRead       int64
}

func newSorting(name string, columns *arrow.Schema, o *SortOptions) (_ *sorting, err error) {
	s := &sorting{name: name, distinct: o.Distinct, rule: sorted.All, columns: columns, plain: schema.Without(columns, arrow.DICTIONARY)}
	if o.Distinct {
		s.rule = sorted.First
	}
	var by []int
	s.memory, err = memoryLimit(o.Memory)
	if err == nil {
		by, err = positions(columns, o.By)
	}
	if err == nil {
		s.keys, err = addKeys(s.plain, by)
	}
	if err != nil {
		return nil, fmt.Errorf("bulk: %s: %w", name, err)
	}
	return s, nil
}

// read yields the rows of r, without dictionaries and with the copies in s.keys.
func (s *sorting) read(r array.RecordReader) batches.Seq {
	return batches.Blocks(batches.Each(r, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		s.rowsRead += b.NumRows()
		b, err := schema.Convert(b, s.plain)
		if err != nil {
			return nil, err
		}
		defer b.Release()
		return s.keys.add(b)
	}), batches.SmallBatch)
}

// reader returns a reader of sorted rows, with the columns of the result.
func (s *sorting) reader(rows batches.Seq) array.RecordReader {
	return batches.Reader(s.columns, func(yield func(arrow.RecordBatch, error) bool) {
		written := int64(0)
		for b, err := range batches.Ahead(rows, 2) {
			if err != nil {
				yield(nil, fmt.Errorf("bulk: %s: %w", s.name, err))
				return
			}
			written += b.NumRows()
			more := true
			for out, err := range encode(b.Columns()[:s.columns.NumFields()], b.NumRows(), s.columns) {
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
		if written != s.rowsRead && !s.distinct {
			yield(nil, fmt.Errorf("bulk: %s: %d rows were read, but %d rows were written", s.name, s.rowsRead, written))
		}
	}, func() {})
}

// keys are the columns to sort by. If package sorted cannot order a column's type, the schema ends with a copy of the
// column, in the type in which a table would store it; the rows are sorted by the copy.
type keys struct {
	schema    *arrow.Schema // original columns, followed by the copies
	copied    []int         // indices of the columns that have copies
	positions []int         // indices of the columns to sort by
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
