package encode

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/pyvalue/pickle"
	"github.com/go-partd/partd/internal/testutil/must"
)

func TestPandasTestdata(t *testing.T) {
	for name, want := range map[string]DataFrame{
		"2.3.3": testdataFrame([]any{"a", nil, "é"}, []any{"x", "y"}),
		"3.1.1-compressed": testdataFrame(Texts{Values: []string{"a", "", "é"}, Null: []bool{false, true, false}},
			Texts{Values: []string{"x", "y"}}),
	} {
		got := must.Get(PandasBlocks(nil).Decode(readTestdata(t, name)))(t)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("Decode of %s = \n%v, want\n%v", name, got, want)
		}
	}
}

// TestPandasRangeWithoutStep checks that a range with a step of 0, which Python does not allow, is written with the
// step 1.
func TestPandasRangeWithoutStep(t *testing.T) {
	data := must.Get(PandasBlocks(nil).Encode(nil, DataFrame{Columns: []Column{{"a", []int64{}}}, Index: Column{nil, Range{}}}))(t)
	if got, err := PandasBlocks(nil).Decode(data); err != nil || got.Index.Values != (Range{0, 0, 1}) {
		t.Errorf("Decode = %v, %v, want an index with the step 1", got, err)
	}
}

func TestPandasRoundTrip(t *testing.T) {
	frames := []DataFrame{
		testdataFrame([]any{"a", nil, 2.5}, []any{"x", "y"}),
		testdataFrame(Texts{[]string{"a", "", "c"}, []bool{false, true, false}, true}, []int64{7, 8}),
		{Columns: []Column{{int64(3), []uint8{1}}, {nil, []Float16{3}}, {2.5, []complex128{1i}}}, Index: Column{PyTuple{"a", int64(1)}, Range{7, 6, -1}}},
		{Columns: []Column{}, Index: Column{"i", Range{0, 5, 2}}},
		{Columns: []Column{{"a", []int32{}}, {"b", Times{"s", "UTC", []int64{}}}, {"c", Durations{"ns", []int64{}}}}, Index: Column{nil, []bool{}}},
	}
	for _, o := range pandasWriters {
		s := New(partd.NewDict(), PandasBlocks(o))
		for i, f := range frames {
			key := fmt.Sprint(i)
			must.Do(t, s.Append(t.Context(), Entry[DataFrame]{key, f}))
			got := must.Get(s.Get(t.Context(), key))(t)
			if !reflect.DeepEqual(got[0], f) {
				t.Errorf("options %+v: frame %d is\n%#v, want\n%#v", o, i, got[0], f)
			}
		}
	}
}

func TestPandasWriteErrors(t *testing.T) {
	for want, f := range map[string]DataFrame{
		"has 1 rows, want 2":                                         {Columns: []Column{{"a", []int64{1, 2}}, {"b", []int64{1}}}},
		"has 3 rows, want 2":                                         {Columns: []Column{{"a", []int64{1, 2}}}, Index: Column{nil, Range{0, 3, 1}}},
		"type int are not supported":                                 {Columns: []Column{{"a", 7}}},
		"column a: []chan int is not supported":                      {Columns: []Column{{"a", []chan int{nil}}}},
		`column a: unknown unit "min"`:                               {Columns: []Column{{"a", Times{"min", "", []int64{1}}}}},
		`column a: unknown unit ""`:                                  {Columns: []Column{{"a", Durations{"", []int64{1}}}}},
		"names of type list":                                         {Columns: []Column{{[]any{1}, []int64{1}}}},
		"names of type dict":                                         {Columns: []Column{{"a", []int64{1}}}, Index: Column{PyDict{}, []int64{1}}},
		"index: []encode.Float16":                                    {Columns: []Column{{"a", []int64{1}}}, Index: Column{nil, []Float16{1}}},
		"categories: []encode.Float16":                               {Columns: []Column{{"a", Categorical{[]int32{0}, []Float16{1}, false}}}},
		"category 1 is a missing value":                              {Columns: []Column{{"a", Categorical{[]int32{0}, Texts{Values: []string{"x", ""}, Null: []bool{false, true}}, false}}}},
		"category 0 is a missing value":                              {Columns: []Column{{"a", Categorical{[]int32{0}, []float64{math.NaN()}, false}}}},
		"category 2 is a missing value":                              {Columns: []Column{{"a", Categorical{[]int32{0}, Times{"s", "", []int64{1, 2, math.MinInt64}}, false}}}},
		"category 2 occurs twice":                                    {Columns: []Column{{"a", Categorical{[]int32{0}, []any{"x", []byte("x"), "x"}, false}}}},
		"category 1 occurs twice":                                    {Columns: []Column{{"a", Categorical{[]int32{0}, []int8{7, 7}, false}}}},
		"categories: names of type list":                             {Columns: []Column{{"a", Categorical{[]int32{0}, []any{[]any{}}, false}}}},
		"column a: field Values has length 2, but Null has length 1": {Columns: []Column{{"a", Texts{[]string{"a", "b"}, []bool{true}, false}}}},
		"element 1 has the code 1, but there are":                    {Columns: []Column{{"a", Categorical{[]int32{0, 1}, []int64{7}, false}}}},
		"column a: categories: ":                                     {Columns: []Column{{"a", Categorical{[]int32{0}, []chan int{nil}, false}}}},
		"index: a CategoricalIndex is not supported":                 {Columns: []Column{{"a", []int64{1}}}, Index: Column{nil, Categorical{[]int32{0}, []int64{1}, false}}},
	} {
		_, err := PandasBlocks(nil).Encode(nil, f)
		must.Fail(t, err, want, "Encode")
	}
}

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
			must.Fail(t, err, want, "Get of joined columns")
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

func TestPandasColumnsErrors(t *testing.T) {
	s := NewPandasColumns(partd.NewDict(), nil)
	for want, f := range map[string]DataFrame{
		"column z: PandasColumns does not support datetime64[s, UTC]": {Columns: []Column{{"z", Times{"s", "UTC", []int64{1}}}}},
		"column t: PandasColumns does not support encode.Texts":       {Columns: []Column{{"t", Texts{Values: []string{"a"}}}}},
		"column c: PandasColumns does not support category":           {Columns: []Column{{"c", Categorical{[]int32{0}, []any{"x"}, false}}}},
		"column 5: another column has the same key":                   {Columns: []Column{{"5", []int64{1}}, {5, []int64{1}}}},
		"column a.dtype: another column has the same key":             {Columns: []Column{{"a", []int64{1}}, {"a.dtype", []int64{1}}}},
		"column b: another column has the same key":                   {Columns: []Column{{"b.dtype", []int64{1}}, {"b", []int64{1}}}},
		"column .index: another column has the same key":              {Columns: []Column{{".index", []int64{1}}}},
		"column .columns: another column has the same key":            {Columns: []Column{{".columns", []int64{1}}}},
		"a range of 9223372036854775807 numbers is over":              {Index: Column{nil, Range{math.MinInt64, math.MaxInt64, 1}}},
		"its name is a float64":                                       {Columns: []Column{{1.5, []int64{1}}}},
		"has 1 rows":                                                  {Columns: []Column{{"a", []int64{1, 2}}, {"b", []int64{1}}}},
	} {
		must.Fail(t, s.Append(t.Context(), Entry[DataFrame]{"k", f}), want, "Append")
	}
	for info, err := range partd.Keys(t.Context(), s.Unwrap()) {
		t.Errorf("after failed appends, Keys yields %v, %v, want nothing", info, err)
	}
	must.Do(t, s.Unwrap().Append(t.Context(), partd.Entry{Key: "left-|-a", Value: make([]byte, 3)}))
	err := s.Append(t.Context(), Entry[DataFrame]{"left", DataFrame{Columns: []Column{{"a", []int64{1}}}}})
	if !errors.Is(err, ErrDtype) || !strings.Contains(err.Error(), "the key holds data") {
		t.Errorf("Append to a column without a dtype = %v, want ErrDtype", err)
	}
	must.Do(t, s.Append(t.Context(), Entry[DataFrame]{"k", DataFrame{Columns: []Column{{"a", []int64{1}}}}}))
	for _, f := range []DataFrame{
		{Columns: []Column{{"a", []float64{1}}}},
		{Columns: []Column{{"b", []int64{1}}}},
		{Columns: []Column{{"a", []int64{1}}}, Index: Column{"named", []int64{1}}},
	} {
		if err := s.Append(t.Context(), Entry[DataFrame]{"k", f}); !errors.Is(err, ErrDtype) {
			t.Errorf("Append of a frame with other columns or types = %v, want ErrDtype", err)
		}
	}
	must.Fail(t, must.Err(s.Get(t.Context(), "k", "b")), "the column does not exist", "Get of a missing column")
	if f, err := s.Get(t.Context(), "never"); err != nil || len(f.Columns) != 0 {
		t.Errorf("Get of a missing key = %v, %v, want no columns", f, err)
	}
	list := must.Get(pickle.Append(nil, []any{[]any{"x"}}))(t)
	must.Do(t, s.Unwrap().Append(t.Context(), partd.Entry{Key: "list-|-.columns", Value: list}, partd.Entry{Key: "list-|-.index-name", Value: []byte("N.")}))
	must.Fail(t, must.Err(s.Get(t.Context(), "k", "a", "a")), "column a is requested twice", "Get of the same column twice")
	must.Fail(t, must.Err(s.Get(t.Context(), "list")), "names of type list", "Get of a column whose name is a list")
	must.Do(t, s.Drop(t.Context()))
}
