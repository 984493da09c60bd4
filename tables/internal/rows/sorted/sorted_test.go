package sorted

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

var columns = arrow.NewSchema([]arrow.Field{
	{Name: "ts", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
	{Name: "sym", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
}, nil)

type row struct {
	ts  int64
	sym string
	id  int64
}

func compareRows(a, b row) int { return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.sym, b.sym)) }

func batchOf(rows []row) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns)
	defer b.Release()
	for _, r := range rows {
		b.Field(0).(*array.TimestampBuilder).Append(arrow.Timestamp(r.ts))
		b.Field(1).(*array.StringBuilder).Append(r.sym)
		b.Field(2).(*array.Int64Builder).Append(r.id)
	}
	return b.NewRecordBatch()
}

// batchesOf yields rows in batches of at most size rows.
func batchesOf(rows []row, size int) batches.Seq {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for part := range slices.Chunk(rows, size) {
			if !yield(batchOf(part), nil) {
				return
			}
		}
	}
}

func rowsOf(t testing.TB, b batches.Seq) (rows []row) {
	t.Helper()
	for batch, err := range b {
		must.Do(t, err)
		for i := range int(batch.NumRows()) {
			rows = append(rows, row{
				int64(batch.Column(0).(*array.Timestamp).Value(i)), batch.Column(1).(*array.String).Value(i), batch.Column(2).(*array.Int64).Value(i),
			})
		}
		batch.Release()
	}
	return rows
}

func randomRows(rnd *rand.Rand, n int, id *int64) []row {
	rows := make([]row, n)
	for i := range rows {
		*id++
		rows[i] = row{int64(rnd.IntN(3 + n/4)), string(rune('a' + rnd.IntN(2))), *id}
	}
	return rows
}

// applyRule applies a rule to sorted rows, and returns the kept rows that are not hidden.
func applyRule(rows []row, rule Rule, hidden func(row) bool) (kept []row) {
	for i := 0; i < len(rows); {
		n := i + 1
		for n < len(rows) && compareRows(rows[i], rows[n]) == 0 {
			n++
		}
		group := rows[i:n]
		switch rule {
		case First:
			group = group[:1]
		case Last:
			group = group[len(group)-1:]
		case Extra:
			group = group[1:]
		}
		for _, r := range group {
			if !hidden(r) {
				kept = append(kept, r)
			}
		}
		i = n
	}
	return kept
}

func TestMerge(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var all []row
		var sources []Source
		isHidden := map[int64]bool{}
		var id int64
		for range rnd.IntN(6) {
			rows := randomRows(rnd, rnd.IntN(200), &id)
			slices.SortStableFunc(rows, compareRows)
			s := Source{Batches: batchesOf(rows, 1+rnd.IntN(50)), Keys: []int{0, 1}, Hides: rnd.IntN(4) == 0, Cost: int64(rnd.IntN(1000))}
			if len(rows) > 0 && rnd.IntN(3) > 0 {
				s.Bounds = &Bounds{rows[0].ts, rows[len(rows)-1].ts}
			}
			for _, r := range rows {
				isHidden[r.id] = s.Hides
			}
			sources = append(sources, s)
			all = append(all, rows...)
		}
		slices.SortStableFunc(all, compareRows)
		for _, rule := range []Rule{All, First, Last, Extra} {
			for _, memory := range []int64{1 << 30, 500} {
				want := applyRule(all, rule, func(r row) bool { return isHidden[r.id] })
				got := rowsOf(t, Merge(t.Context(), rule, memory, sources...))
				if !slices.Equal(got, want) {
					t.Fatalf("Merge with seed %d, rule %d, memory %d: got %v\nwant %v", seed, rule, memory, got, want)
				}
			}
		}
		for b, err := range Merge(t.Context(), All, 500, sources...) { // the consumer stops early
			must.Do(t, err)
			b.Release()
			break
		}
	}
}

// TestOpensLate checks that a merge opens only the sources that it needs for the first rows.
func TestOpensLate(t *testing.T) {
	opened := 0
	var sources []Source
	for i := range int64(100) {
		rows := []row{{10 * i, "a", 0}, {10*i + 9, "b", 1}}
		sources = append(sources, Source{Keys: []int{0}, Bounds: &Bounds{10 * i, 10*i + 9}, Cost: 1000, Batches: func(yield func(arrow.RecordBatch, error) bool) {
			opened++
			batchesOf(rows, 10)(yield)
		}})
	}
	for b, err := range Merge(t.Context(), All, 1000, sources...) {
		must.Do(t, err)
		b.Release()
		break
	}
	if opened > firstBatchRows {
		t.Fatalf("%d sources were opened for the first rows, want at most %d", opened, firstBatchRows)
	}
}

func TestSort(t *testing.T) {
	tempDir := t.TempDir()
	t.Setenv("TMPDIR", tempDir)
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		var id int64
		rows := randomRows(rnd, rnd.IntN(2000), &id)
		orderedRows := rnd.IntN(len(rows) + 1)
		slices.SortStableFunc(rows[:orderedRows], compareRows) // the other rows stay unsorted
		in := Input{
			Batches: batchesOf(rows, 1+rnd.IntN(30)), Keys: []int{0, 1}, Memory: int64(1 + rnd.IntN(100)),
			Size: func(b arrow.RecordBatch) int64 { return b.NumRows() },
		}
		want := slices.Clone(rows)
		slices.SortStableFunc(want, compareRows)
		for _, rule := range []Rule{All, First, Last} {
			hideNone := func(row) bool { return false }
			if got := rowsOf(t, Sort(t.Context(), rule, in)); !slices.Equal(got, applyRule(want, rule, hideNone)) {
				t.Fatalf("Sort with seed %d, rule %d: got %v\nwant %v", seed, rule, got, applyRule(want, rule, hideNone))
			}
			var parts [][]row
			must.Do(t, Parts(t.Context(), rule, in, func(b batches.Seq) error {
				parts = append(parts, rowsOf(t, b))
				return nil
			}))
			if len(parts) > 2 {
				t.Fatalf("Parts yielded %d parts, want at most 2", len(parts))
			}
			var sources []Source
			for _, p := range parts {
				if !slices.IsSortedFunc(p, compareRows) {
					t.Fatalf("Parts with seed %d, rule %d: the part %v is not sorted", seed, rule, p)
				}
				sources = append(sources, Source{Batches: batchesOf(p, 100), Keys: []int{0, 1}})
			}
			if got := rowsOf(t, Merge(t.Context(), rule, 0, sources...)); !slices.Equal(got, applyRule(want, rule, hideNone)) {
				t.Fatalf("Parts with seed %d, rule %d: the merged parts contain %v\nwant %v", seed, rule, got, applyRule(want, rule, hideNone))
			}
		}
	}
	if leftovers, err := os.ReadDir(tempDir); err != nil || len(leftovers) > 0 {
		t.Fatalf("leftover temporary files: %v, error %v", leftovers, err)
	}
}

// TestInOrder checks that rows that are already in order form one part and need no temporary file.
func TestInOrder(t *testing.T) {
	t.Setenv("TMPDIR", "/nonexistent")
	var rows []row
	for i := range int64(3 * minDirectRun) {
		rows = append(rows, row{i, "a", i})
	}
	in := Input{Batches: batchesOf(rows, minDirectRun+1), Keys: []int{0, 1}, Memory: 1, Size: func(arrow.RecordBatch) int64 { return 1 }}
	must.Do(t, Parts(t.Context(), Last, in, func(b batches.Seq) error {
		if got := rowsOf(t, b); !slices.Equal(got, rows) {
			t.Fatalf("the part contains %v, want all rows in order", got)
		}
		return nil
	}))
}

func TestErrors(t *testing.T) {
	broken := errors.New("broken")
	failingRows := func(yield func(arrow.RecordBatch, error) bool) {
		if yield(batchOf([]row{{1, "a", 1}}), nil) {
			yield(nil, broken)
		}
	}
	drain := func(b batches.Seq) error {
		for batch, err := range b {
			if err != nil {
				return err
			}
			batch.Release()
		}
		return nil
	}
	keys := []int{0, 1}
	in := Input{Batches: failingRows, Keys: keys, Memory: 1, Size: func(arrow.RecordBatch) int64 { return 1 }}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	good := Source{Batches: batchesOf([]row{{1, "a", 1}}, 1), Keys: keys}
	for name, err := range map[string]error{
		"merge":     drain(Merge(t.Context(), First, 0, Source{Batches: failingRows, Keys: keys}, Source{Batches: failingRows, Keys: keys})),
		"spilled":   drain(Merge(t.Context(), First, 1, Source{Batches: failingRows, Keys: keys, Cost: 1 << 30}, Source{Batches: failingRows, Keys: keys, Cost: 1 << 30})),
		"sort":      drain(Sort(t.Context(), All, in)),
		"parts":     Parts(t.Context(), All, in, drain),
		"cancelled": drain(Merge(cancelled, All, 0, good)),
	} {
		if !errors.Is(err, broken) && !(name == "cancelled" && errors.Is(err, context.Canceled)) {
			t.Errorf("%s: got error %v, want %v", name, err, broken)
		}
	}
}

// TestTypes checks that columns of all key types are sorted, with nulls first.
func TestTypes(t *testing.T) {
	for text, typ := range map[string]arrow.DataType{
		`[null, false, true]`:              arrow.FixedWidthTypes.Boolean,
		`[null, -3, 0, 7]`:                 arrow.PrimitiveTypes.Int32,
		`[null, -300, 0, 7000000000]`:      arrow.PrimitiveTypes.Int64,
		`[null, -3.5, 0, 7]`:               arrow.PrimitiveTypes.Float64,
		`[null, -3.5, 0, 7.5]`:             arrow.PrimitiveTypes.Float32,
		`[null, "", "a", "ab", "b"]`:       arrow.BinaryTypes.String,
		`[null, "", "AA==", "AQ=="]`:       arrow.BinaryTypes.Binary,
		`[null, "2020-01-01"]`:             arrow.FixedWidthTypes.Date32,
		`[null, "-1.50", "0.00", "12.25"]`: &arrow.Decimal128Type{Precision: 9, Scale: 2},
		`[null, "00:00:01", "00:01:00"]`:   arrow.FixedWidthTypes.Time64us,
	} {
		a, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(text))
		must.Do(t, err)
		schema := arrow.NewSchema([]arrow.Field{{Name: "k", Type: typ, Nullable: true}}, nil)
		batch := array.NewRecordBatch(schema, []arrow.Array{a}, int64(a.Len()))
		var reversed []arrow.RecordBatch
		for i := int64(a.Len()) - 1; i >= 0; i-- {
			reversed = append(reversed, batch.NewSlice(i, i+1))
		}
		got, err := Block(reversed, []int{0})
		if err != nil || !array.Equal(got.Column(0), a) || !HasOrder(typ) {
			t.Errorf("%s: got %v, want %v: %v", typ, got, a, err)
		}
	}
}

// TestWideRows checks that batches of large merged or sorted rows stay small.
func TestWideRows(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	const n, wide = 400, 100_000
	var all []Source
	var mixed []row
	for s := range 2 {
		var rows []row
		for i := range n {
			rows = append(rows, row{int64(2*i + s), strings.Repeat("w", wide), int64(i)})
		}
		mixed = append(mixed, rows...)
		all = append(all, Source{Batches: batchesOf(rows, 20), Keys: []int{0, 1}})
	}
	in := Input{Batches: batchesOf(mixed, 20), Keys: []int{0, 1}, Memory: 16 << 20, Size: util.TotalRecordSize}
	for name, result := range map[string]batches.Seq{"merge": Merge(t.Context(), All, 0, all...), "sort": Sort(t.Context(), All, in), "spill": batches.ViaFile(batches.From(batchOf(mixed)), schema.Convert)} {
		rows, maxRows := 0, int64(0)
		for b, err := range result {
			must.Do(t, err)
			rows += int(b.NumRows())
			maxRows = max(maxRows, b.NumRows())
			b.Release()
		}
		if rows != 2*n || maxRows > 2*maxBatchBytes/wide {
			t.Errorf("%s: got %d rows, want %d; the largest batch had %d rows", name, rows, 2*n, maxRows)
		}
	}
}

// TestQuota checks that sorted rows in temporary files count against the quota of the process.
func TestQuota(t *testing.T) {
	spill.Process.SetLimit(1 << 10)
	defer spill.Process.SetLimit(0)
	id := int64(0)
	rows := randomRows(rand.New(rand.NewPCG(1, 2)), 10_000, &id)
	in := Input{Batches: batchesOf(rows, 1000), Keys: []int{0}, Memory: 10_000, Size: func(b arrow.RecordBatch) int64 { return 8 * b.NumRows() }}
	var failure error
	for b, err := range Sort(t.Context(), All, in) {
		if failure = err; err == nil {
			b.Release()
		}
	}
	if !errors.Is(failure, partd.ErrTooLarge) {
		t.Errorf("Sort beyond the quota = %v, want ErrTooLarge", failure)
	}
	if err := spill.Process.Take(1 << 10); err != nil {
		t.Error("the temporary files still count against the quota:", err)
	}
	spill.Process.Release(1 << 10)
}

func TestHasOrder(t *testing.T) {
	for typ, want := range map[arrow.DataType]bool{
		arrow.Null: false, arrow.ListOf(arrow.Null): false, arrow.ListOf(arrow.PrimitiveTypes.Int64): false, arrow.BinaryTypes.String: true,
		&arrow.Decimal128Type{Precision: 5}: true, &arrow.FixedSizeBinaryType{ByteWidth: 2}: true, arrow.FixedWidthTypes.Boolean: true,
	} {
		if HasOrder(typ) != want {
			t.Errorf("HasOrder(%s) = %v, want %v", typ, !want, want)
		}
	}
}
