package encode

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestPandasJoin(t *testing.T) {
	column := func(values any) DataFrame { return DataFrame{Columns: []Column{{"a", values}}} }
	for _, c := range []struct{ first, second, want any }{
		{[]int64{1}, []int64{2, 3}, []int64{1, 2, 3}},
		{[]any{1.5}, []any{nil}, []any{1.5, nil}},
		{Times{"s", "UTC", []int64{1}}, Times{"s", "UTC", []int64{2}}, Times{"s", "UTC", []int64{1, 2}}},
		{Durations{"s", []int64{1}}, Durations{"s", []int64{2}}, Durations{"s", []int64{1, 2}}},
		{Texts{Values: []string{"a"}}, Texts{[]string{""}, []bool{true}, false}, Texts{[]string{"a", ""}, []bool{false, true}, false}},
		{Categorical{[]int32{0}, []any{"x"}, true}, Categorical{[]int32{-1}, []any{"x"}, true}, Categorical{[]int32{0, -1}, []any{"x"}, true}},
		{[]int64{1}, []float64{2}, "append 2, column a: []float64 cannot be joined with []int64"},
		{Times{"s", "UTC", []int64{1}}, Times{"s", "", []int64{2}}, "datetime64[s] cannot be joined with datetime64[s, UTC]"},
		{Durations{"s", []int64{1}}, Durations{"ms", []int64{2}}, "timedelta64[ms] cannot be joined with timedelta64[s]"},
		{Texts{Values: []string{"a"}}, Texts{Values: []string{"a"}, NA: true}, "cannot be joined"},
		{Categorical{[]int32{0}, []any{"x"}, true}, Categorical{[]int32{0}, []any{"y"}, true}, "category of 1"},
	} {
		s := New(partd.NewDict(), PandasBlocks(nil))
		must.Do(t, s.Append(t.Context(), Entry[DataFrame]{"k", column(c.first)}, Entry[DataFrame]{"k", DataFrame{}}, Entry[DataFrame]{"k", column(c.second)}))
		got, err := s.Get(t.Context(), "k")
		if want, fails := c.want.(string); fails {
			want = strings.Replace(want, "append 2", "append 3", 1)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Get of joined columns = %v, want an error with %q", err, want)
			}
			continue
		}
		must.Do(t, err)
		if !reflect.DeepEqual(got[0].Columns[0].Values, c.want) {
			t.Errorf("the joined values are %v, want %v", got[0].Columns[0].Values, c.want)
		}
		if index := got[0].Index.Values; got[0].Rows() == 2 && !reflect.DeepEqual(index, []int64{0, 0}) {
			t.Errorf("the joined index is %v, want [0 0]", index)
		}
	}
	// Two consecutive ranges make one RangeIndex.
	joined, err := joinFrames([]DataFrame{
		{Index: Column{nil, Range{0, 4, 2}}, Columns: []Column{{"a", []int64{1, 2}}}},
		{Index: Column{nil, Range{4, 6, 2}}, Columns: []Column{{"a", []int64{3}}}},
	})
	if err != nil || !reflect.DeepEqual(joined.Index.Values, Range{0, 6, 2}) {
		t.Errorf("joinFrames = %v, %v, want an index of one range", joined, err)
	}
	single := []DataFrame{{Index: Column{nil, Range{0, 1, 1}}}, {Index: Column{nil, Range{1, 2, 1}}}}
	if joined, err := joinFrames(single); err != nil || !reflect.DeepEqual(joined, DataFrame{Index: Column{nil, Range{0, 2, 1}}}) {
		t.Errorf("joinFrames of frames without columns = %v, %v, want an index of two rows", joined, err)
	}
	first := column([]int64{1})
	if _, err := joinFrames([]DataFrame{first, column([]int64{2})}); err != nil || first.Rows() != 1 {
		t.Errorf("joinFrames = %v, and the first frame is %v afterwards, want it unchanged", err, first)
	}
	// An empty range, as in f.iloc[4:0], does not make a RangeIndex.
	if got, err := concatValues(Range{0, 4, 1}, Range{4, 0, 1}); err != nil || !reflect.DeepEqual(got, []int64{0, 1, 2, 3}) {
		t.Errorf("concatValues with an empty range = %v, %v, want the numbers from 0 to 3", got, err)
	}
}

func TestRangeLen(t *testing.T) {
	for r, want := range map[Range]int{
		{0, 5, 1}: 5, {0, 5, 2}: 3, {5, 0, -2}: 3, {5, 0, 1}: 0, {0, 5, 0}: 0, {0, 5, -1}: 0,
		{math.MinInt64, math.MaxInt64, 1}: math.MaxInt, {math.MaxInt64, math.MinInt64, -1}: math.MaxInt,
		{math.MinInt64, math.MaxInt64, math.MaxInt64}: 3, {math.MaxInt64, math.MinInt64, math.MinInt64}: 2,
	} {
		if got := r.Len(); got != want {
			t.Errorf("%v.Len() = %d, want %d", r, got, want)
		}
	}
}
