package batches

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// readerOf returns batches with the given numbers of rows. Column n has consecutive numbers. Column l has
// lists with the number as a text of the given width; every third list is null.
func readerOf(t *testing.T, width int, sizes ...int) array.RecordReader {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "n", Type: arrow.PrimitiveTypes.Int64},
		{Name: "l", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(mem, schema)
	defer b.Release()
	var all []arrow.RecordBatch
	n := 0
	for _, size := range sizes {
		for range size {
			b.Field(0).(*array.Int64Builder).Append(int64(n))
			l := b.Field(1).(*array.ListBuilder)
			if n%3 == 0 {
				l.AppendNull()
			} else {
				l.Append(true)
				l.ValueBuilder().(*array.StringBuilder).Append(fmt.Sprintf("%0*d", width, n))
			}
			n++
		}
		all = append(all, b.NewRecordBatch())
	}
	r := must.Get(array.NewRecordReader(schema, all))(t)
	take.Release(all)
	t.Cleanup(r.Release)
	return r
}

func repeat(size, times int) []int {
	sizes := make([]int, times)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

// TestMessages checks that small batches are merged and large batches are split, and that rows keep their
// order.
func TestMessages(t *testing.T) {
	for name, c := range map[string]struct {
		width, rows, max int
		sizes            []int
	}{
		"none":          {1, 0, 0, nil},
		"empty":         {1, 0, 0, []int{0, 0}},
		"one":           {1, 5, 1, []int{5}},
		"small":         {1, 100 * 2048, 5, repeat(2048, 100)},
		"wide":          {1 << 10, 20 * 512, 10, repeat(512, 20)},
		"large":         {1, 200_000, 5, []int{200_000}},
		"small, larger": {1, 150_010, 5, []int{5, 150_000, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			next, messages := 0, 0
			for part := range Rebatch(readerOf(t, c.width, c.sizes...), nil) {
				messages++
				numbers, lists := part.Column(0).(*array.Int64), part.Column(1).(*array.List)
				for i := range int(part.NumRows()) {
					start, _ := lists.ValueOffsets(i)
					switch text := lists.ListValues().(*array.String); {
					case numbers.Value(i) != int64(next), lists.IsNull(i) != (next%3 == 0):
						t.Fatalf("row %d has the number %d, or its list is wrongly null or wrongly not null", next, numbers.Value(i))
					case lists.IsValid(i) && text.Value(int(start)) != fmt.Sprintf("%0*d", c.width, next):
						t.Fatalf("row %d has the wrong text %s", next, text.Value(int(start)))
					}
					next++
				}
			}
			if next != c.rows || messages > c.max {
				t.Errorf("Rebatch returned %d rows in %d messages, want %d rows in at most %d messages", next, messages, c.rows, c.max)
			}
		})
	}
}

// TestStopEarly checks that a consumer that stops early leaks no memory. The allocator detects leaks.
func TestStopEarly(t *testing.T) {
	for _, sizes := range [][]int{{5, 5}, {200_000, 5}, repeat(2048, 100)} {
		for range Rebatch(readerOf(t, 1, sizes...), nil) {
			break
		}
	}
}

// TestMergeUnsupportedTypes checks that batches that Arrow cannot join are returned unchanged.
func TestMergeUnsupportedTypes(t *testing.T) {
	n, text := arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.PrimitiveTypes.Int64}}, nil), arrow.NewSchema([]arrow.Field{{Name: "c", Type: arrow.BinaryTypes.String}}, nil)
	var empty []arrow.RecordBatch
	for _, schema := range []*arrow.Schema{n, text} {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		empty = append(empty, b.NewRecordBatch())
		b.Release()
	}
	if got := mergeBatches(n, empty, 0); len(got) != 2 {
		t.Errorf("mergeBatches returned %d batches, want 2", len(got))
	}
	take.Release(empty)
}
