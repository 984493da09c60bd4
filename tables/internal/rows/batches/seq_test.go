package batches

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// TestSequences checks the order of the batches, that an error or a consumer that stops ends a sequence, and that each
// batch is released.
func TestSequences(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	columns := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	batch := func(n int64) arrow.RecordBatch {
		b := array.NewRecordBuilder(mem, columns)
		defer b.Release()
		b.Field(0).(*array.Int64Builder).Append(n)
		return b.NewRecordBatch()
	}
	one, two := batch(1), batch(2)
	defer one.Release()
	defer two.Release()
	errOdd, failure := errors.New("odd"), errors.New("failure")
	fails := func(yield func(arrow.RecordBatch, error) bool) { yield(nil, failure) }
	wrap := func(err error) error {
		if err != nil {
			err = fmt.Errorf("wrapped %w", err)
		}
		return err
	}
	number := func(b arrow.RecordBatch) int64 { return b.Column(0).(*array.Int64).Value(0) }
	evenOnly := Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		if number(b) == 2 {
			return b, nil
		}
		b.Release()
		return nil, nil
	})
	notOdd := Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
		if number(b) == 2 {
			return b, nil
		}
		b.Release()
		return nil, errOdd
	})
	for name, c := range map[string]struct {
		rows Seq
		want []int64
		err  string
	}{
		"none":             {From(), nil, ""},
		"all":              {Concat(From(one, two), From(), From(two)), []int64{1, 2, 2}, ""},
		"error":            {Concat(From(one), fails, From(two)), []int64{1}, "failure"},
		"error of mapping": {notOdd(From(two, one, two)), []int64{2}, "odd"},
		"left out":         {evenOnly(From(one, two, one, two)), []int64{2, 2}, ""},
		"no error":         {MapError(From(one), wrap), []int64{1}, ""},
		"changed error":    {MapError(Concat(From(two), fails), wrap), []int64{2}, "wrapped failure"},
	} {
		for limit := range len(c.want) + 2 {
			var got []int64
			text := ""
			for b, err := range c.rows {
				if err != nil {
					text = err.Error()
					continue
				}
				got = append(got, number(b))
				b.Release()
				if len(got) == limit {
					break
				}
			}
			want, wantErr := c.want, c.err
			if 0 < limit && limit <= len(want) {
				want, wantErr = want[:limit], ""
			}
			if !slices.Equal(got, want) || text != wantErr {
				t.Errorf("%s, limit %d: got %v, error %q; want %v, error %q", name, limit, got, text, want, wantErr)
			}
		}
	}
}
