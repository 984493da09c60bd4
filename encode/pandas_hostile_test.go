package encode

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/golang/snappy"

	"github.com/go-partd/partd/frame"
	"github.com/go-partd/partd/internal/pyvalue/pickle"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// encodeHostile returns a frame of one column, whose block has the given header and data.
func encodeHostile(t *testing.T, header any, data []byte) []byte {
	t.Helper()
	var b []byte
	for _, v := range []any{
		[]any{nil, nil, header},
		pickle.Call("pandas", "Index", []any{"a"}, nil, false, nil, false),
		rangeIndex(0, 1, 1, nil),
	} {
		b = must.Get(appendPickle(b, v))(t)
	}
	return frame.Append(b, data)
}

// hostileIndex returns a frame without columns, with the given labels and index.
func hostileIndex(t *testing.T, labels, index any) []byte {
	t.Helper()
	var b []byte
	for _, v := range []any{[]any{nil, nil}, labels, index} {
		b = must.Get(appendPickle(b, v))(t)
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
		return must.Get(pickle.Append(nil, v))(t)
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
	huge := must.Get(appendContainer(nil, make([]byte, 65<<20), 1))(t)
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
		{encodeHostile(t, otherBlock, []byte("\x80\x05\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.")), `"system" from the module "posix"`},
		{encodeHostile(t, otherBlock, []byte("cposix\nsystem\n(\x8c\x02lstR.")), "GLOBAL (a class or function)"},
		{encodeHostile(t, otherBlock, pickled(pickle.Call("builtins", "eval", "1"))), `"eval" from the module "builtins"`},
		{encodeHostile(t, otherBlock, pickled(pickle.Call("builtins", "getattr", "1", "x"))), "getattr is not supported"},
		{encodeHostile(t, otherBlock, pickled(pickle.Call("pandas", "read_pickle", "x"))), `"read_pickle" from the module "pandas"`},
		{encodeHostile(t, otherBlock, pickled(7)), "a int is not an array"},
		{encodeHostile(t, otherBlock, arrow(1<<50, 0, nil, ends, []byte("a"))), "1125899906842624 strings"},
		{encodeHostile(t, otherBlock, arrow(1, math.MaxInt64, nil, ends, []byte("a"))), "strings from offset 9223372036854775807"},
		{encodeHostile(t, otherBlock, arrow(1, 0, []byte{}, ends, []byte("a"))), "validity buffer of 0 bytes and an offset buffer of 16 bytes"},
		{encodeHostile(t, otherBlock, arrow(1, 0, nil, ends, nil)), "bytes 0 to 1 of 0, is not text"},
		{encodeHostile(t, otherBlock, arrow(1, 0, nil, ends, []byte{0xff})), "is not text"},
		{encodeHostile(t, otherBlock, arrow(1, 0, nil, append([]byte{2}, ends[1:]...), []byte("ab"))), "bytes 2 to 1 of 2"},
	} {
		var err error
		allocated := procs.Allocated(func() { _, err = PandasBlocks(nil).Decode(c.data) })
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 500 {
			t.Errorf("Decode = %v, want a short error with %q", err, c.want)
		}
		if allocated > 1<<20 {
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

// TestPandasCategoriesLimit checks that every column's copy of its categories counts against the
// limit. Otherwise, a small frame whose columns share categories could need much memory.
func TestPandasCategoriesLimit(t *testing.T) {
	numbers := must.Get(Range{0, 1000, 1}.numbers())(t)
	for _, values := range []any{numbers, Texts{Values: []string{strings.Repeat("x", 9000)}}, Range{0, math.MaxInt64, 1}} {
		data, err := PandasBlocks(nil).Encode(nil, DataFrame{Columns: []Column{{"a", Categorical{[]int32{0}, values, false}}}})
		must.Do(t, err)
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
		data := must.Get(PandasBlocks(o).Encode(nil, testdataFrame([]any{"a", nil, 2.5}, []any{"x", "y"})))(f)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d DataFrame
		var err error
		limit := 1024*uint64(len(data)) + 4<<20
		if allocated := procs.Allocated(func() { d, err = PandasBlocks(nil).Decode(data) }); allocated > limit {
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
