package encode

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/golang/snappy"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/pickle"
)

// readTestdata reads a frame in testdata that Python's partd 1.4.2 wrote.
func readTestdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/pandas/" + name)
	must(t, err)
	return data
}

// testdataFrame returns the frame that the files of testdata/pandas contain. The types of texts and
// categories differ between pandas 2 and 3.
func testdataFrame(texts, categories any) DataFrame {
	const day = 24 * 3600e9
	return DataFrame{
		Columns: []Column{
			{"n", []int64{1, -2, 3}},
			{"x", []float64{0.5, math.Inf(1), -1}},
			{"b", []bool{true, false, true}},
			{"m", []int64{4, 5, 6}},
			{"t", Times{"us", "", []int64{1700000000e6, math.MinInt64, -5e6}}},
			{"z", Times{"ms", "Europe/Paris", []int64{1700000000e3, -5e3, 4102444800e3}}},
			{"d", Durations{"ms", []int64{1000, math.MinInt64, -3000}}},
			{"s", texts},
			{"o", []any{"a", nil, []byte{0xff}}},
			{"c", Categorical{[]int32{0, -1, 1}, categories, true}},
		},
		Index: Column{"when", Times{"ns", "", []int64{19723 * day, 19724 * day, 19725 * day}}},
	}
}

func TestPandasTestdata(t *testing.T) {
	for name, want := range map[string]DataFrame{
		"2.3.3": testdataFrame([]any{"a", nil, "é"}, []any{"x", "y"}),
		"3.1.1-compressed": testdataFrame(Texts{Values: []string{"a", "", "é"}, Null: []bool{false, true, false}},
			Texts{Values: []string{"x", "y"}}),
	} {
		got, err := PandasBlocks(nil).Decode(readTestdata(t, name))
		must(t, err)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("Decode of %s = \n%v, want\n%v", name, got, want)
		}
	}
}

var pandasWriters = []*PandasOptions{nil, {Blosc: true}, {Snappy: true}, {Blosc: true, Snappy: true}}

// TestPandasRangeWithoutStep checks that a range with a step of 0, which Python does not allow, is written with the
// step 1.
func TestPandasRangeWithoutStep(t *testing.T) {
	data, err := PandasBlocks(nil).Encode(nil, DataFrame{Columns: []Column{{"a", []int64{}}}, Index: Column{nil, Range{}}})
	must(t, err)
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
			must(t, s.Append(t.Context(), Entry[DataFrame]{key, f}))
			got, err := s.Get(t.Context(), key)
			must(t, err)
			if !reflect.DeepEqual(got[0], f) {
				t.Errorf("options %+v: frame %d is\n%#v, want\n%#v", o, i, got[0], f)
			}
		}
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
		must(t, s.Append(t.Context(), Entry[DataFrame]{"k", column(c.first)}, Entry[DataFrame]{"k", DataFrame{}}, Entry[DataFrame]{"k", column(c.second)}))
		got, err := s.Get(t.Context(), "k")
		if want, fails := c.want.(string); fails {
			want = strings.Replace(want, "append 2", "append 3", 1)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Get of joined columns = %v, want an error with %q", err, want)
			}
			continue
		}
		must(t, err)
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

func TestPandasWriteErrors(t *testing.T) {
	for want, f := range map[string]DataFrame{
		"has 1 rows, want 2":                         {Columns: []Column{{"a", []int64{1, 2}}, {"b", []int64{1}}}},
		"has 3 rows, want 2":                         {Columns: []Column{{"a", []int64{1, 2}}}, Index: Column{nil, Range{0, 3, 1}}},
		"type int are not supported":                 {Columns: []Column{{"a", 7}}},
		"column a: []chan int is not supported":      {Columns: []Column{{"a", []chan int{nil}}}},
		`column a: unknown unit "min"`:               {Columns: []Column{{"a", Times{"min", "", []int64{1}}}}},
		`column a: unknown unit ""`:                  {Columns: []Column{{"a", Durations{"", []int64{1}}}}},
		"names of type list":                         {Columns: []Column{{[]any{1}, []int64{1}}}},
		"names of type dict":                         {Columns: []Column{{"a", []int64{1}}}, Index: Column{PyDict{}, []int64{1}}},
		"index: []encode.Float16":                    {Columns: []Column{{"a", []int64{1}}}, Index: Column{nil, []Float16{1}}},
		"categories: []encode.Float16":               {Columns: []Column{{"a", Categorical{[]int32{0}, []Float16{1}, false}}}},
		"category 1 is a missing value":              {Columns: []Column{{"a", Categorical{[]int32{0}, Texts{Values: []string{"x", ""}, Null: []bool{false, true}}, false}}}},
		"category 0 is a missing value":              {Columns: []Column{{"a", Categorical{[]int32{0}, []float64{math.NaN()}, false}}}},
		"category 2 is a missing value":              {Columns: []Column{{"a", Categorical{[]int32{0}, Times{"s", "", []int64{1, 2, math.MinInt64}}, false}}}},
		"category 2 occurs twice":                    {Columns: []Column{{"a", Categorical{[]int32{0}, []any{"x", []byte("x"), "x"}, false}}}},
		"category 1 occurs twice":                    {Columns: []Column{{"a", Categorical{[]int32{0}, []int8{7, 7}, false}}}},
		"categories: names of type list":             {Columns: []Column{{"a", Categorical{[]int32{0}, []any{[]any{}}, false}}}},
		"column a: 2 texts, but Null has length 1":   {Columns: []Column{{"a", Texts{[]string{"a", "b"}, []bool{true}, false}}}},
		"element 1 has the code 1, but there are":    {Columns: []Column{{"a", Categorical{[]int32{0, 1}, []int64{7}, false}}}},
		"column a: categories: ":                     {Columns: []Column{{"a", Categorical{[]int32{0}, []chan int{nil}, false}}}},
		"index: a CategoricalIndex is not supported": {Columns: []Column{{"a", []int64{1}}}, Index: Column{nil, Categorical{[]int32{0}, []int64{1}, false}}},
	} {
		_, err := PandasBlocks(nil).Encode(nil, f)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Encode = %v, want an error with %q", err, want)
		}
	}
}

// encodeHostile returns a frame of one column, whose block has the given header and data.
func encodeHostile(t *testing.T, header any, data []byte) []byte {
	t.Helper()
	var b []byte
	for _, v := range []any{
		[]any{nil, nil, header},
		pickle.Call("pandas", "Index", []any{"a"}, nil, false, nil, false),
		rangeIndex(0, 1, 1, nil),
	} {
		var err error
		b, err = appendPickle(b, v)
		must(t, err)
	}
	return frame.Append(b, data)
}

// hostileIndex returns a frame without columns, with the given labels and index.
func hostileIndex(t *testing.T, labels, index any) []byte {
	t.Helper()
	var b []byte
	for _, v := range []any{[]any{nil, nil}, labels, index} {
		var err error
		b, err = appendPickle(b, v)
		must(t, err)
	}
	return b
}

func rangeIndex(start, stop, step int64, name any) any {
	return pickle.Call("pandas.core.indexes.base", "_new_Index", pickle.Global{Module: "pandas", Name: "RangeIndex"},
		PyDict{{Key: "name", Value: name}, {Key: "start", Value: start}, {Key: "stop", Value: stop}, {Key: "step", Value: step}})
}

// TestPandasHostileFrames checks that frames with invalid fields are errors, that decoding them
// allocates little memory, and that no pickled call is executed.
func TestPandasHostileFrames(t *testing.T) {
	i8, o := pickle.Call("numpy", "dtype", "<i8"), pickle.Call("numpy", "dtype", "|O")
	numbers := func(dtype any, shape ...any) any {
		return PyTuple{[]any{0}, dtype, PyTuple(shape), PyTuple{"numpy_type", PyTuple{}}}
	}
	otherBlock := PyTuple{[]any{0}, o, PyTuple{1}, PyTuple{"other", PyTuple{}}}
	pickled := func(v any) []byte {
		b, err := pickle.Append(nil, v)
		must(t, err)
		return b
	}
	arrow := func(length, offset int64, valid, ends, text any) []byte {
		buffers := []any{nil, nil, nil}
		for i, b := range []any{valid, ends, text} {
			if b != nil {
				buffers[i] = pickle.Call("pyarrow.lib", "py_buffer", b)
			}
		}
		stored := pickle.Call("pyarrow.lib", "_restore_array", PyTuple{
			pickle.Call("pyarrow.lib", "type_for_alias", "large_string"),
			length, 0, offset, buffers,
			[]any{},
			nil,
		})
		stringArray := pickled(pickle.Call("pandas.arrays", "ArrowStringArray"))
		state := pickled(PyDict{{Key: "_pa_array", Value: stored}, {Key: "_dtype", Value: pickle.Call("pandas", "StringDtype")}})
		return append(append(stringArray[:len(stringArray)-1:len(stringArray)-1], state[2:len(state)-1]...), "b."...)
	}
	encodeCodes := func(dtype string, ordered any, data []byte) []byte {
		index := pickle.Call("pandas", "Index", []any{"x"}, nil, false, nil, false)
		return encodeHostile(t, PyTuple{[]any{0}, pickle.Call("numpy", "dtype", dtype), PyTuple{1}, PyTuple{"categorical_type", PyTuple{ordered, index}}}, data)
	}
	huge, err := appendContainer(nil, make([]byte, 65<<20), 1)
	must(t, err)
	emptyBlock := func(dtype string, shape ...any) any {
		return PyTuple{[]any{}, pickle.Call("numpy", "dtype", dtype), PyTuple(shape), PyTuple{"numpy_type", PyTuple{}}}
	}
	long, emptyIndex := make([]any, 1000), rangeIndex(0, 0, 1, nil) // an error must not print all of long
	ends := append(make([]byte, 8), 1, 0, 0, 0, 0, 0, 0, 0)
	for _, c := range []struct {
		data []byte
		want string
	}{
		{nil, "0 parts"},
		{hostileIndex(t, rangeIndex(math.MinInt64, math.MaxInt64, 1, nil), rangeIndex(0, 0, 1, nil)), "9223372036854775807 columns in"},
		{encodeCodes("<M8[ns]", false, make([]byte, 8)), "column a (category): the codes are datetime64[ns]"},
		{encodeCodes("<m8[ns]", false, make([]byte, 8)), "the codes are timedelta64[ns]"},
		{encodeCodes("|O", false, frame.Append(nil, pickled([]any{long}))), "the codes are []interface {}"},
		{encodeCodes("<i8", false, []byte("\x01\x00\x00\x00\x00\x00\x00\x00")), "element 0 has the code 1"},
		{encodeHostile(t, PyTuple{[]any{0, 0}, i8, PyTuple{2}, PyTuple{"categorical_type", PyTuple{}}}, make([]byte, 16)), "a categorical block has 2 columns"},
		{encodeHostile(t, numbers(o, 1, 1), huge), "objects: 68157440 bytes of"},
		{encodeHostile(t, emptyBlock("<U5", 0, 1), nil), "a block without columns: "},
		{encodeHostile(t, emptyBlock("<i8", 0, 1, 1), nil), "3 dimensions"},
		{encodeHostile(t, numbers(pickle.Call("numpy", "dtype", "<M8[D]"), 1, 1), make([]byte, 8)), `column a (<M8[D]): unknown unit "D"`},
		{encodeHostile(t, numbers(pickle.Call("numpy", "dtype", "<m8[h]"), 1, 1), make([]byte, 8)), `unknown unit "h"`},
		{encodeHostile(t, otherBlock, pickled(pickle.Call("pandas", "array", pickle.Call("numpy", "frombuffer", make([]byte, 8), i8),
			pickle.Call("pandas", "DatetimeTZDtype", "min", "UTC")))), `unknown unit "min"`},
		{encodeHostile(t, PyTuple{[]any{0}, i8, PyTuple{1, 1}, long}, nil), "is not (placement, dtype, shape, kind)"},
		{encodeHostile(t, PyTuple{[]any{long}, i8, PyTuple{1, 1}, PyTuple{"numpy_type", nil}}, nil), "not a list of non-negative integers"},
		{encodeHostile(t, numbers(long, 1, 1), nil), "column a (list): the dtype list is not supported"},
		{encodeHostile(t, numbers(pickle.Call("numpy", "dtype", long), 1, 1), nil), "column a (): "},
		{encodeHostile(t, numbers(pickle.Call("numpy", "dtype", strings.Repeat("x", 1000)), 1, 1), nil), "column a (xxx"},
		{encodeHostile(t, PyTuple{[]any{0}, i8, PyTuple{1, 1}, PyTuple{strings.Repeat("x", 1000), nil}}, nil), "blocks of kind x"},
		{hostileIndex(t, pickle.Call("pandas", "Index", []any{long}, nil, false, nil, false), emptyIndex), "names of type list are not supported"},
		{hostileIndex(t, pickle.Call("pandas", "Index", []any{pickle.Global{Module: "pandas", Name: "NA"}}, nil, false, nil, false), emptyIndex), "columns: element 0 is a pickle.Global"},
		{hostileIndex(t, pickle.Call("pandas", "Index", []any{PyTuple{"a", long}}, nil, false, nil, false), emptyIndex), "names of type list"},
		{hostileIndex(t, pickle.Call("pandas", "Index", []any{PyTuple(long)}, nil, false, nil, false), emptyIndex), "names of 1000 parts"},
		{hostileIndex(t, emptyIndex, pickle.Call("pandas", "Index", []any{pickle.Global{Module: "pandas", Name: "NA"}}, "object", false, nil, false)), "index: element 0 is a pickle.Global"},
		{encodeHostile(t, otherBlock, pickled(pickle.Call("pandas", "array", pickle.Call("numpy", "frombuffer", make([]byte, 8), i8),
			pickle.Call("pandas", "DatetimeTZDtype", "s", pickle.Call("datetime", "timezone", pickle.Call("datetime", "timedelta", 0, 90, 0)))))), "an offset of 90 s"},
		{hostileIndex(t, emptyIndex, rangeIndex(0, 1, 1, long)), "names of type list"},
		{[]byte{1}, "truncated frame"},
		{encodeHostile(t, numbers(i8, 1, 1), make([]byte, 7)), "column a (<i8): 7 bytes, neither plain data of 8"},
		{encodeHostile(t, numbers(i8, 1, 1), make([]byte, 16)), "column a (<i8): 16 bytes, neither plain data of 8"},
		{encodeHostile(t, numbers(i8, 1, 1<<60), nil), "over the limit"},
		{encodeHostile(t, numbers(i8, 1<<40, 1<<40), nil), "over the limit"},
		{encodeHostile(t, numbers(i8, -1, 1), nil), "not a list of non-negative integers"},
		{encodeHostile(t, numbers(i8, 1, 1, 1), make([]byte, 8)), "arrays of 3 dimensions are not supported"},
		{encodeHostile(t, numbers(i8, 2, 1), make([]byte, 16)), "its shape [2 1] and 1 columns"},
		{encodeHostile(t, numbers(pickle.Call("numpy", "dtype", "<U5"), 1, 1), nil), "column a (<U5): "},
		{encodeHostile(t, PyTuple{[]any{1}, i8, PyTuple{1, 1}, PyTuple{"numpy_type", PyTuple{}}}, make([]byte, 8)), "column 1 of 1"},
		{encodeHostile(t, PyTuple{[]any{0}, i8, PyTuple{1, 1}, PyTuple{"new_type", PyTuple{}}}, make([]byte, 8)), "blocks of kind new_type are not supported"},
		{encodeHostile(t, numbers(o, 1, 1), frame.Append(nil, []byte("\x91\xa1a\x00"))), "column a (|O): "},
		{encodeHostile(t, numbers(o, 1, 1), []byte("\xff\xff\xff\xff\x0fx")), "snappy: 4294967295 bytes of 6 are over the limit"},
		{encodeHostile(t, numbers(o, 1, 1), snappy.Encode(nil, make([]byte, 9))), "too few bytes left"},
		{encodeHostile(t, otherBlock, []byte("\x80\x05\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.")), `"system" of the module "posix"`},
		{encodeHostile(t, otherBlock, []byte("cposix\nsystem\n(\x8c\x02lstR.")), "GLOBAL (a class or function)"},
		{encodeHostile(t, otherBlock, pickled(pickle.Call("builtins", "eval", "1"))), `"eval" of the module "builtins"`},
		{encodeHostile(t, otherBlock, pickled(pickle.Call("builtins", "getattr", "1", "x"))), "getattr is not supported"},
		{encodeHostile(t, otherBlock, pickled(pickle.Call("pandas", "read_pickle", "x"))), `"read_pickle" of the module "pandas"`},
		{encodeHostile(t, otherBlock, pickled(7)), "a int is not an array"},
		{encodeHostile(t, otherBlock, arrow(1<<50, 0, nil, ends, []byte("a"))), "1125899906842624 strings"},
		{encodeHostile(t, otherBlock, arrow(1, math.MaxInt64, nil, ends, []byte("a"))), "strings from offset 9223372036854775807"},
		{encodeHostile(t, otherBlock, arrow(1, 0, []byte{}, ends, []byte("a"))), "validity buffer of 0 bytes and an offset buffer of 16 bytes"},
		{encodeHostile(t, otherBlock, arrow(1, 0, nil, ends, nil)), "bytes 0 to 1 of 0, is not text"},
		{encodeHostile(t, otherBlock, arrow(1, 0, nil, ends, []byte{0xff})), "is not text"},
		{encodeHostile(t, otherBlock, arrow(1, 0, nil, append([]byte{2}, ends[1:]...), []byte("ab"))), "bytes 2 to 1 of 2"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := PandasBlocks(nil).Decode(c.data)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 500 {
			t.Errorf("Decode = %v, want a short error with %q", err, c.want)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 {
			t.Errorf("decoding the frame with the error %q allocated %d bytes, want at most 1 MiB", c.want, allocated)
		}
	}
	if _, err := PandasBlocks(nil).Decode(encodeHostile(t, numbers(i8, 1, 1), make([]byte, 8))); err != nil {
		t.Errorf("Decode of the valid frame that the cases modify: %v", err)
	}
	// The texts are a slice of an Arrow array, without missing values.
	d, err := PandasBlocks(nil).Decode(encodeHostile(t, otherBlock, arrow(1, 1, []byte{2}, append(ends, 3, 0, 0, 0, 0, 0, 0, 0), []byte("abcd"))))
	if err != nil || !reflect.DeepEqual(d.Columns[0].Values, Texts{Values: []string{"bc"}, NA: true}) {
		t.Errorf("Decode of sliced texts = %v, %v, want bc", d, err)
	}
	if name, err := columnName(Texts{Values: []string{""}, Null: []bool{true}}, 0); err != nil || name != nil {
		t.Errorf("columnName of a missing text = %v, %v, want nil", name, err)
	}
}

// TestPandasCategoriesLimit checks that the size of categories counts against the limit for each
// column, because many columns can share the same categories.
func TestPandasCategoriesLimit(t *testing.T) {
	numbers, err := Range{0, 1000, 1}.numbers()
	must(t, err)
	for _, values := range []any{numbers, Texts{Values: []string{strings.Repeat("x", 9000)}}, Range{0, math.MaxInt64, 1}} {
		data, err := PandasBlocks(nil).Encode(nil, DataFrame{Columns: []Column{{"a", Categorical{[]int32{0}, values, false}}}})
		must(t, err)
		_, err = (&blocksReader{remaining: 8000}).readFrame(data)
		if want := "column a (category): categories of "; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "over the limit") {
			t.Errorf("readFrame = %v, want an error with %q", err, want)
		}
	}
}

// TestPandasDamaged checks that truncated frames are errors, and that changed frames cause no panic.
func TestPandasDamaged(t *testing.T) {
	for _, name := range []string{"2.3.3", "3.1.1-compressed"} {
		data := readTestdata(t, name)
		for n := range data {
			if _, err := PandasBlocks(nil).Decode(data[:n]); err == nil {
				t.Errorf("Decode of the first %d of %d bytes of %s succeeded", n, len(data), name)
			}
			changed := bytes.Clone(data)
			changed[n] ^= 1 << (n % 8)
			_, _ = PandasBlocks(nil).Decode(changed)
		}
	}
}

// FuzzPandasBlocks checks that decoding arbitrary frames neither crashes nor allocates much memory, and
// that a decoded frame does not change when it is written and read again.
func FuzzPandasBlocks(f *testing.F) {
	for _, name := range []string{"2.3.3", "3.1.1-compressed"} {
		f.Add(readTestdata(f, name))
	}
	for _, o := range pandasWriters {
		data, err := PandasBlocks(o).Encode(nil, testdataFrame([]any{"a", nil, 2.5}, []any{"x", "y"}))
		must(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		d, err := PandasBlocks(nil).Decode(data)
		runtime.ReadMemStats(&after)
		limit := 1024*uint64(len(data)) + 4<<20
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > limit {
			t.Fatalf("decoding %d bytes allocated %d bytes, want at most %d", len(data), allocated, limit)
		}
		if err != nil {
			return
		}
		reencoded, err := PandasBlocks(nil).Encode(nil, d)
		if err != nil {
			return // some decoded frames cannot be written, such as one with a repeated category
		}
		redecoded, err := PandasBlocks(nil).Decode(reencoded)
		if err != nil || fmt.Sprintf("%#v", redecoded) != fmt.Sprintf("%#v", d) {
			t.Fatalf("after writing and reading, the frame is\n%#v, %v, want\n%#v", redecoded, err, d)
		}
	})
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
		if err := s.Append(t.Context(), Entry[DataFrame]{"k", f}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Append = %v, want an error with %q", err, want)
		}
	}
	for info, err := range partd.Keys(t.Context(), s.Unwrap()) {
		t.Errorf("after failed appends, Keys yields %v, %v, want nothing", info, err)
	}
	must(t, s.Unwrap().Append(t.Context(), partd.Entry{Key: "left-|-a", Value: make([]byte, 3)}))
	err := s.Append(t.Context(), Entry[DataFrame]{"left", DataFrame{Columns: []Column{{"a", []int64{1}}}}})
	if !errors.Is(err, ErrDtype) || !strings.Contains(err.Error(), "the key holds data") {
		t.Errorf("Append to a column without a dtype = %v, want ErrDtype", err)
	}
	must(t, s.Append(t.Context(), Entry[DataFrame]{"k", DataFrame{Columns: []Column{{"a", []int64{1}}}}}))
	for _, f := range []DataFrame{
		{Columns: []Column{{"a", []float64{1}}}},
		{Columns: []Column{{"b", []int64{1}}}},
		{Columns: []Column{{"a", []int64{1}}}, Index: Column{"named", []int64{1}}},
	} {
		if err := s.Append(t.Context(), Entry[DataFrame]{"k", f}); !errors.Is(err, ErrDtype) {
			t.Errorf("Append of a frame with other columns or types = %v, want ErrDtype", err)
		}
	}
	if _, err := s.Get(t.Context(), "k", "b"); err == nil || !strings.Contains(err.Error(), "the column does not exist") {
		t.Errorf("Get of a missing column = %v, want an error", err)
	}
	if f, err := s.Get(t.Context(), "never"); err != nil || len(f.Columns) != 0 {
		t.Errorf("Get of a missing key = %v, %v, want no columns", f, err)
	}
	list, err := pickle.Append(nil, []any{[]any{"x"}})
	must(t, err)
	must(t, s.Unwrap().Append(t.Context(), partd.Entry{Key: "list-|-.columns", Value: list}, partd.Entry{Key: "list-|-.index-name", Value: []byte("N.")}))
	if _, err := s.Get(t.Context(), "k", "a", "a"); err == nil || !strings.Contains(err.Error(), "column a is requested twice") {
		t.Errorf("Get of the same column twice = %v, want an error", err)
	}
	if _, err := s.Get(t.Context(), "list"); err == nil || !strings.Contains(err.Error(), "names of type list") {
		t.Errorf("Get of a column whose name is a list = %v, want an error", err)
	}
	must(t, s.Drop(t.Context()))
}
