package encode

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/go-partd/partd"
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
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Encode = %v, want an error with %q", err, want)
		}
	}
}
