package sorted

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// anyRow is a row of TestOrder. Nil is null.
type anyRow struct {
	number, float, text, binary, decimal, flag any
	id                                         int64
}

func (r anyRow) keys() []any { return []any{r.number, r.float, r.text, r.binary, r.decimal, r.flag} }

var anyTypes = []arrow.DataType{
	arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float64, arrow.BinaryTypes.String, arrow.BinaryTypes.Binary,
	&arrow.Decimal128Type{Precision: 38}, arrow.FixedWidthTypes.Boolean,
}

// compareAny is a simple form of the documented order.
func compareAny(a, b any) int {
	if a == nil || b == nil {
		return CompareBools(a != nil, b != nil)
	}
	switch a := a.(type) {
	case int64:
		return cmp.Compare(a, b.(int64))
	case float64:
		return cmp.Compare(a, b.(float64))
	case string:
		return strings.Compare(a, b.(string))
	case []byte:
		return bytes.Compare(a, b.([]byte))
	case decimal128.Num:
		return a.BigInt().Cmp(b.(decimal128.Num).BigInt())
	case bool:
		return CompareBools(a, b.(bool))
	}
	panic(fmt.Sprintf("no order for %T", a))
}

func randomAny(rnd *rand.Rand, id int64) anyRow {
	pick := func(special ...any) any {
		if i := rnd.IntN(3 * len(special)); i < len(special) {
			return special[i]
		}
		return nil
	}
	text := func() string {
		prefix := strings.Repeat("prefix ", rnd.IntN(3)*rnd.IntN(10))
		return prefix + strings.Repeat("\x00", rnd.IntN(3)) + fmt.Sprint(rnd.IntN(100))[:rnd.IntN(2)]
	}
	r := anyRow{number: pick(nil, int64(math.MinInt64), int64(math.MinInt64+1), int64(math.MaxInt64), int64(-1), int64(0)), flag: pick(nil, true, false), id: id}
	r.float = pick(nil, math.NaN(), math.Inf(-1), math.Inf(1), math.Copysign(0, -1), 0.0, -1.5, 1.5)
	if r.number == nil && rnd.IntN(2) == 0 {
		r.number = rnd.Int64N(50) - 25
	}
	if rnd.IntN(5) > 0 {
		r.text = text()
	}
	if rnd.IntN(5) > 0 {
		r.binary = []byte(text())
	}
	if rnd.IntN(5) > 0 {
		shifted := new(big.Int).Lsh(big.NewInt(rnd.Int64N(9)-4), uint([]int{0, 62, 63, 64, 100}[rnd.IntN(5)]))
		r.decimal = decimal128.FromBigInt(shifted.Add(shifted, big.NewInt(rnd.Int64N(3)-1)))
	}
	return r
}

func anyBatch(rows []anyRow) arrow.RecordBatch {
	var fields []arrow.Field
	for i, t := range anyTypes {
		fields = append(fields, arrow.Field{Name: fmt.Sprint(i), Type: t, Nullable: true})
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(append(fields, arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64}), nil))
	defer b.Release()
	for _, r := range rows {
		for i, v := range append(r.keys(), r.id) {
			switch v := v.(type) {
			case nil:
				b.Field(i).AppendNull()
			case int64:
				b.Field(i).(*array.Int64Builder).Append(v)
			case float64:
				b.Field(i).(*array.Float64Builder).Append(v)
			case string:
				b.Field(i).(*array.StringBuilder).Append(v)
			case []byte:
				b.Field(i).(*array.BinaryBuilder).Append(v)
			case decimal128.Num:
				b.Field(i).(*array.Decimal128Builder).Append(v)
			case bool:
				b.Field(i).(*array.BooleanBuilder).Append(v)
			}
		}
	}
	return b.NewRecordBatch()
}

// TestOrder compares Sort and Block with a stable sort of the standard library, for random keys of all types, in
// memory and with one or more generations of files.
func TestOrder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for seed := range uint64(24) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		rows := make([]anyRow, 1+rnd.IntN(4000))
		for i := range rows {
			rows[i] = randomAny(rnd, int64(i))
		}
		by := rnd.Perm(len(anyTypes))[:1+rnd.IntN(3)]
		var input []arrow.RecordBatch
		for part := range slices.Chunk(rows, 1+rnd.IntN(500)) {
			input = append(input, anyBatch(part))
		}
		slices.SortStableFunc(rows, func(a, b anyRow) int {
			n := 0
			for _, i := range by {
				n = cmp.Or(n, compareAny(a.keys()[i], b.keys()[i]))
			}
			return n
		})
		check := func(how string, sorted batches.Seq) {
			var ids []int64
			for b, err := range sorted {
				must.Do(t, err)
				ids = append(ids, b.Column(len(anyTypes)).(*array.Int64).Values()...)
				b.Release()
			}
			if !slices.EqualFunc(ids, rows, func(id int64, r anyRow) bool { return id == r.id }) {
				t.Errorf("seed %d, %d rows by %v, %s: the rows are not in order", seed, len(rows), by, how)
			}
		}
		block := must.Get(Block(input, by))(t)
		check("one block", batches.From(block))
		for _, keep := range []int64{0, 500, 5000} {
			in := Input{Keys: by, Memory: 100, Keep: keep, Size: func(b arrow.RecordBatch) int64 { return b.NumRows() }}
			in.Batches = func(yield func(arrow.RecordBatch, error) bool) {
				for _, b := range input {
					b.Retain()
					if !yield(b, nil) {
						return
					}
				}
			}
			check(fmt.Sprintf("%d rows in memory", keep), batches.Ahead(Sort(t.Context(), All, in), 2))
		}
		take.Release(input)
	}
}

// TestJoinWords sorts by columns whose words are joined: texts of equal and of different lengths, with common prefixes,
// and small and large numbers.
func TestJoinWords(t *testing.T) {
	const n = 2000
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		texts := func(format string, limit int) column {
			b := array.NewStringBuilder(memory.DefaultAllocator)
			for range n {
				b.Append(fmt.Sprintf(format, rnd.IntN(limit)))
			}
			return keyColumn(b.NewArray())
		}
		numbers := func(limit int64) column {
			b := array.NewInt64Builder(memory.DefaultAllocator)
			for range n {
				if rnd.IntN(9) > 0 {
					b.Append(rnd.Int64N(limit) - limit/2)
				} else {
					b.AppendNull()
				}
			}
			return keyColumn(b.NewArray())
		}
		all := keys{texts("k%07d", 30), texts("k%09d", 1000), texts("prefix%d", 20), numbers(3), numbers(1 << 62)}
		k := keys{}
		for _, i := range rnd.Perm(len(all))[:1+rnd.IntN(3)] {
			k = append(k, all[i])
		}
		want := make([]uint32, n)
		for i := range want {
			want[i] = uint32(i)
		}
		slices.SortStableFunc(want, func(a, b uint32) int { return k.compare(int(a), k, int(b)) })
		if got := k.order(n); !slices.Equal(got, want) {
			t.Errorf("seed %d: sorting by %d columns returns another order than comparing values", seed, len(k))
		}
	}
}

// TestReleasesMemory checks that a sort frees the memory outside the heap, even if its consumer stops early.
func TestReleasesMemory(t *testing.T) {
	id := int64(0)
	rows := randomRows(rand.New(rand.NewPCG(1, 2)), 300_000, &id)
	for _, limit := range []int{1, len(rows)} {
		in := Input{Batches: batchesOf(rows, 30_000), Keys: []int{0}, Memory: 150_000, Keep: 1 << 30, Size: func(b arrow.RecordBatch) int64 { return b.NumRows() }}
		n := 0
		for b, err := range batches.Ahead(Sort(t.Context(), All, in), 2) {
			must.Do(t, err)
			n += int(b.NumRows())
			b.Release()
			if n >= limit {
				break
			}
		}
		if used := offHeapBytes.Load(); used != 0 {
			t.Errorf("after reading %d rows, %d bytes outside the heap are not freed", n, used)
		}
	}
}

// TestPartsReleasesMemory checks that Parts frees the memory outside the heap if its caller fails before reading a
// part.
func TestPartsReleasesMemory(t *testing.T) {
	id := int64(0)
	rows := randomRows(rand.New(rand.NewPCG(1, 2)), 300_000, &id)
	in := Input{Batches: batchesOf(rows, 30_000), Keys: []int{0}, Memory: 150_000, Size: func(b arrow.RecordBatch) int64 { return b.NumRows() }}
	failed, parts := errors.New("failed"), 0
	err := Parts(t.Context(), All, in, func(rows batches.Seq) error {
		if parts++; parts == 2 {
			return failed
		}
		for b, err := range rows {
			if err != nil {
				return err
			}
			b.Release()
		}
		return nil
	})
	if used := offHeapBytes.Load(); !errors.Is(err, failed) || used != 0 {
		t.Errorf("got error %v, and %d bytes outside the heap are not freed", err, used)
	}
}

// TestNarrowRows checks that a block's memory includes what sorting takes for each row, even if rows have no size.
func TestNarrowRows(t *testing.T) {
	id := int64(0)
	rows := randomRows(rand.New(rand.NewPCG(1, 2)), 300_000, &id)
	in := Input{Batches: batchesOf(rows, 10_000), Keys: []int{0}, Memory: 3 << 20, Size: func(arrow.RecordBatch) int64 { return 0 }}
	for b, err := range in.blocks() {
		must.Do(t, err)
		if rows := b.batches[0].NumRows(); sortRowBytes*(rows-10_000) > in.Memory {
			t.Errorf("a block has %d rows, and sorting it takes %d bytes, want at most %d and a batch", rows, sortRowBytes*rows, in.Memory)
		}
		b.release()
	}
}
