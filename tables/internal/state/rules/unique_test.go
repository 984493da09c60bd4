package rules

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/filter"
)

// TestUniqueBounds checks that the put is compared only with table rows within its bounds, for every type
// whose keys sort like the values. If no condition can express the bounds, the put is compared with all rows.
func TestUniqueBounds(t *testing.T) {
	for _, c := range []struct {
		typ         arrow.DataType
		values      string // five values, of which the middle three are put
		comparesAll bool
	}{
		{arrow.PrimitiveTypes.Int32, `[-2147483648, -5, 7, 9, 2147483647]`, false},
		{arrow.PrimitiveTypes.Int64, `[-9223372036854775808, -5, 7, 9007199254740993, 9007199254740994]`, false},
		{arrow.PrimitiveTypes.Float32, `[-0.2, -0.1, 0, 0.1, 0.2]`, false},
		{arrow.PrimitiveTypes.Float64, `[-0.2, -0.1, 0, 1e300, 2e300]`, false},
		{arrow.PrimitiveTypes.Float64, `[-0.2, -0.1, 0, "Inf", "NaN"]`, true},
		{arrow.BinaryTypes.String, `["a", "it's", "k", "o\"", "p"]`, false},
		{arrow.BinaryTypes.Binary, `["YQ==", "YWI=", "YWM=", "YWQ=", "YWU="]`, true},
		{arrow.FixedWidthTypes.Date32, `["1960-01-01", "1960-01-02", "2020-01-01", "2026-11-23", "2026-11-24"]`, false},
		{arrow.FixedWidthTypes.Time64us, `["00:00:00", "00:00:00.000001", "11:00:00", "23:59:59.999998", "23:59:59.999999"]`, false},
		{&arrow.TimestampType{Unit: arrow.Microsecond}, `["1960-01-01 00:00:00", "1960-01-01 00:00:00.000001", "2020-01-01 00:00:00",
			"2026-11-23 00:00:00.000001", "2026-11-23 00:00:00.000002"]`, false},
		{arrow.FixedWidthTypes.Timestamp_us, `["1960-01-01 00:00:00Z", "1960-01-01 00:00:00.000001Z", "2020-01-01 00:00:00Z",
			"2026-11-23 00:00:00.000001Z", "2026-11-23 00:00:00.000002Z"]`, false},
	} {
		t.Run(fmt.Sprint(c.typ, c.comparesAll), func(t *testing.T) {
			all, _, err := array.FromJSON(memory.DefaultAllocator, c.typ, strings.NewReader(c.values))
			must.Do(t, err)
			defer all.Release()
			s := arrow.NewSchema([]arrow.Field{{Name: `a"b`, Type: c.typ, Nullable: true}}, nil)
			table := array.NewRecordBatch(s, []arrow.Array{all}, 5)
			defer table.Release()
			var compared []bool
			o := Options{Table: func(_ context.Context, _ []string, tableRange *filter.Expr, _ func(arrow.RecordBatch) error) error {
				where, err := tableRange.Bind(s)
				if err == nil {
					compared, err = where.Holds(5, func(string) arrow.Array { return all })
				}
				return err
			}}
			u := must.Get(newUniqueKeys(t.Context(), o, Rule{Kind: "unique", Columns: []string{`a"b`}, InTable: true}, s))(t)
			defer u.close()
			for _, row := range []int64{2, 3, 1} {
				batch := table.NewSlice(row, row+1)
				must.Do(t, u.add(batch, row))
				batch.Release()
			}
			must.Do(t, u.finish(t.Context(), &ruleCheck{Violation: new(Violation)}))
			want := []bool{c.comparesAll, true, true, true, c.comparesAll}
			if fmt.Sprint(compared) != fmt.Sprint(want) {
				t.Errorf("compared rows %v, want %v", compared, want)
			}
		})
	}
}

// TestUniqueCount checks that a row is counted once, however many rows of the table and of the put have its key.
func TestUniqueCount(t *testing.T) {
	field := arrow.Field{Name: "k", Type: arrow.PrimitiveTypes.Int64, Nullable: true}
	s := arrow.NewSchema([]arrow.Field{field}, nil)
	rows := func(text string) arrow.RecordBatch {
		b, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, strings.NewReader(text))
		must.Do(t, err)
		return b
	}
	stored := rows(`[{"k":1},{"k":1},{"k":1},{"k":2},{"k":4}]`)
	defer stored.Release()
	o := Options{Table: func(_ context.Context, _ []string, _ *filter.Expr, visit func(arrow.RecordBatch) error) error {
		return visit(stored)
	}}
	u := must.Get(newUniqueKeys(t.Context(), o, Rule{Kind: "unique", Columns: []string{"k"}, InTable: true}, s))(t)
	defer u.close()
	put := rows(`[{"k":1},{"k":2},{"k":3},{"k":3},{"k":null},{"k":2},{"k":null}]`)
	defer put.Release()
	v := new(Violation)
	must.Do(t, errors.Join(u.add(put, 0), u.finish(t.Context(), &ruleCheck{Violation: v})))
	if want := []BadRow{{1, "k=1"}, {2, "k=2"}, {4, "k=3"}, {6, "k=2"}}; v.Count != 4 || !slices.Equal(v.Rows, want) {
		t.Errorf("%d violations, %v, want 4, %v", v.Count, v.Rows, want)
	}
}
